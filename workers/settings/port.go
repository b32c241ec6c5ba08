package settings

import "fmt"

// Port is a TCP port; 0, written "auto" or 0, picks a free one at start.
type Port int

// noPort is what an invalid port decodes to. validate then reports it with the
// line of its key, which the unmarshaller does not know.
const noPort Port = -1

// UnmarshalYAML accepts a number or the word auto.
func (p *Port) UnmarshalYAML(unmarshal func(any) error) error {
	var word string
	if err := unmarshal(&word); err == nil && word == "auto" {
		*p = 0
		return nil
	}
	var n int
	if err := unmarshal(&n); err != nil {
		n = int(noPort)
	}
	*p = Port(n)
	return nil
}

func (p Port) String() string {
	if p == 0 {
		return "auto"
	}
	return fmt.Sprint(int(p))
}
