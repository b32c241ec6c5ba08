// Package human is the paper's human evaluation (appendix E.4, figure 6) as
// files: a blinded sheet for raters, a key that unblinds it, and the figures of
// the filled sheets.
package human

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/esclab/esclab/esc"
)

// Question is what a rater is asked of each sample: which of two replies is
// better in one respect.
type Question struct {
	Name string `json:"name"` // the sheet's column
	Text string `json:"text"`
}

// Questions are the four dimensions by which the paper judges replies (Table 8,
// reworded): the text does not name those of figure 6.
func Questions() []Question {
	return []Question{
		{"fluency", "Which reply is more natural, coherent and easier to understand?"},
		{"professionalism", "Which reply shows more psychological knowledge and keeps better clear of misleading or improper advice?"},
		{"empathy", "Which reply understands and takes up the seeker's feelings better?"},
		{"helpfulness", "Which reply helps the seeker more at this moment of the conversation?"},
	}
}

// Reply is what one system answered at a turn.
type Reply struct {
	Dialogue, Turn int
	Text           string
}

// System is one of the two that are compared.
type System struct {
	Run    string `json:"run"`    // experiment
	Name   string `json:"system"` // such as decoupled/dpo
	Digest string `json:"digest"` // of the artifact that holds its replies
}

// Placed is a sample of the sheet: where it comes from and which system is A.
type Placed struct {
	ID       string `json:"id"`
	Dialogue int    `json:"dialogue"`
	Turn     int    `json:"turn"`
	// A is the index in Key.Systems of the one whose reply is reply A.
	A int `json:"a"`
}

// Key unblinds a sheet. Whoever rates must not see it.
type Key struct {
	Version int        `json:"version"` // of the format, 1
	Seed    uint64     `json:"seed"`
	Systems [2]System  `json:"systems"` // wins and losses are the first one's
	Samples []Placed   `json:"samples"`
	Asked   []Question `json:"questions"`
}

const keyVersion = 1

// Sample is a row of the sheet.
type Sample struct {
	ID      string
	Context []esc.Message
	A, B    string
}

// Draw makes a sheet of n samples, drawn by the seed among the turns that both
// systems answered, in an order drawn by the seed. Half of the samples (rounded
// down) have the first system's reply as A. turns are those of the test split.
// A key of the same seed, systems and turns is the same.
func Draw(systems [2]System, replies [2][]Reply, turns []esc.Turn, n int, seed uint64) (Key, []Sample, error) {
	key := Key{Version: keyVersion, Seed: seed, Systems: systems, Asked: Questions()}
	if systems[0] == systems[1] {
		return key, nil, fmt.Errorf("%s of %s would be compared with itself", systems[0].Name, systems[0].Run)
	}
	if n < 1 {
		return key, nil, fmt.Errorf("%d samples: at least one is needed", n)
	}
	var texts [2]map[esc.Place]string
	for i, list := range replies {
		texts[i] = make(map[esc.Place]string, len(list))
		for _, r := range list {
			texts[i][esc.Place{Dialogue: r.Dialogue, Turn: r.Turn}] = r.Text
		}
	}
	type candidate struct {
		turn  esc.Turn
		order [32]byte
	}
	var common []candidate
	for _, turn := range turns {
		at := turn.Place()
		_, first := texts[0][at]
		_, second := texts[1][at]
		if first && second {
			common = append(common, candidate{turn, esc.Draw(seed, "human/sample", uint64(turn.Dialogue), uint64(turn.Index))})
		}
	}
	if len(common) < n {
		return key, nil, fmt.Errorf("%d samples are asked for, the two systems have %d turns in common", n, len(common))
	}
	slices.SortFunc(common, func(a, b candidate) int { return bytes.Compare(a.order[:], b.order[:]) })
	common = common[:n]

	// Which half has the first system as A is drawn apart from the order.
	sides := make([]int, n)
	for i := range sides {
		sides[i] = i
	}
	slices.SortFunc(sides, func(a, b int) int {
		x, y := esc.Draw(seed, "human/side", uint64(a)), esc.Draw(seed, "human/side", uint64(b))
		return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(a, b))
	})
	first := make([]bool, n)
	for _, i := range sides[:n/2] {
		first[i] = true
	}
	name := key.sheetName(n)
	samples := make([]Sample, n)
	for i, c := range common {
		at := c.turn.Place()
		p := Placed{ID: fmt.Sprintf("%s-%0*d", name, len(fmt.Sprint(n)), i+1), Dialogue: c.turn.Dialogue, Turn: c.turn.Index}
		if !first[i] {
			p.A = 1
		}
		key.Samples = append(key.Samples, p)
		samples[i] = Sample{ID: p.ID, Context: c.turn.Context, A: texts[p.A][at], B: texts[1-p.A][at]}
	}
	return key, samples, nil
}

// sheetName stands in every sample's ID, so that a sheet read with another
// sheet's key is found out. It tells nothing about the systems.
func (k Key) sheetName(n int) string {
	data, _ := json.Marshal(k.Systems) // three strings each
	digest := esc.Draw(k.Seed, "human/sheet/"+string(data), uint64(n))
	return "s" + hex.EncodeToString(digest[:2])
}

// WriteKey writes the key as JSON.
func WriteKey(w io.Writer, k Key) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(k)
}

// ReadKey reads what WriteKey wrote. name stands for the file in errors.
func ReadKey(name string, r io.Reader) (Key, error) {
	var k Key
	d := json.NewDecoder(io.LimitReader(r, maxSheet))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return k, fmt.Errorf("%s: not the key of a sheet: %w", name, err)
	}
	return k, k.check(name)
}

func (k Key) check(name string) error {
	var err error
	seen := map[string]bool{}
	switch {
	case k.Version != keyVersion:
		err = fmt.Errorf("version %d, this program reads %d", k.Version, keyVersion)
	case len(k.Samples) == 0 || len(k.Asked) == 0:
		err = errors.New("no samples or no questions")
	}
	for _, p := range k.Samples {
		if p.ID == "" || seen[p.ID] || p.A < 0 || p.A > 1 {
			err = fmt.Errorf("sample %q stands twice, or is neither system's", p.ID)
		}
		seen[p.ID] = true
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
