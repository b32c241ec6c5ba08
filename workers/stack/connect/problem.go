package connect

import "fmt"

// Problem is an error that says what to do about it.
type Problem struct {
	Detail string // what is wrong, one line
	Remedy string // what to do
	Err    error  // the cause, may be nil
}

func (p *Problem) Error() string { return p.Detail + ": " + p.Remedy }
func (p *Problem) Unwrap() error { return p.Err }

// problem builds a Problem; err joins the detail in parentheses.
func problem(err error, remedy, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	if err != nil {
		detail += " (" + err.Error() + ")"
	}
	return &Problem{Detail: detail, Remedy: remedy, Err: err}
}
