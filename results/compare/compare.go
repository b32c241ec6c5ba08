// Package compare lays runs side by side: which parameters differ, what their
// systems score, and where their DAGs part. It is pure: typed data in, tables
// out.
package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/esclab/esclab/experiments"
)

// Run is one of the runs that are compared.
type Run struct {
	Name string // short, different for each run
	ID   string // of its workflow; "" for an experiment that has no run
	// State is "" for a run that is done, else why it may lack something.
	State   string
	Stages  []experiments.Stage
	Systems []System // those to show, in Table 3's order
}

// System is what one system of a run scores.
type System struct {
	Name   string           // "decoupled/dpo"
	Values map[string]Value // by the name of Table 3's column; absent: not computed
}

// Value is a column's value with its 95 % interval.
type Value struct {
	Value float64  `json:"value"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`
	Best  bool     `json:"best,omitempty"` // of its column
}

// Table is a comparison, ready to be written.
type Table struct {
	// Parameters are those that differ between the runs.
	Parameters []Parameter `json:"parameters"`
	Rows       []Row       `json:"rows"`
	// Paired are differences on the same test turns.
	Paired []Paired `json:"paired,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	runs   []Run
}

// Row is one system of one run.
type Row struct {
	Run    string            `json:"run"`
	ID     string            `json:"id,omitempty"`
	State  string            `json:"state,omitempty"`
	System string            `json:"system,omitempty"`
	Values map[string]string `json:"parameters"` // of the parameters that differ
	Scores map[string]Value  `json:"metrics"`
}

// Paired is how two systems differ on the turns that both replied to.
type Paired struct {
	Run           string `json:"run"`
	System        string `json:"system"`
	AgainstRun    string `json:"against_run"`
	AgainstSystem string `json:"against_system"`
	Turns         int    `json:"turns"`
	Dialogues     int    `json:"dialogues"`
	// Differences are by column; a column that one of the two lacks is left out.
	Differences map[string]Difference `json:"differences"`
}

// Difference is of one column, the first system's minus the second's.
type Difference struct {
	Value float64 `json:"difference"`
	Low   float64 `json:"low"` // of the 95 % interval, by paired bootstrap over dialogues, with several seeds over these
	High  float64 `json:"high"`
	P     float64 `json:"p"` // two-sided, by permutation of the systems within dialogues, the trained models as given
}

// Significant reports whether chance alone would seldom do this: interval and
// test both say so.
func (d Difference) Significant() bool { return d.P < 0.05 && d.excludesZero() }

func (d Difference) excludesZero() bool { return d.Low > 0 || d.High < 0 }

// disagreement says in a word that interval and test contradict each other.
func (d Difference) disagreement() string {
	switch {
	case d.P < 0.05 && !d.excludesZero():
		return " (but 0 is in the interval)"
	case d.P >= 0.05 && d.excludesZero():
		return " (but 0 is not in the interval)"
	}
	return ""
}

// New lays runs side by side and marks the best of each column.
func New(runs []Run) Table {
	t := Table{Parameters: Parameters(runs), Rows: []Row{}, runs: runs}
	for i, r := range runs {
		values := map[string]string{}
		for _, p := range t.Parameters {
			if v := p.Values[i]; v != "" {
				values[p.Name] = v
			}
		}
		row := Row{Run: r.Name, ID: r.ID, State: r.State, Values: values, Scores: map[string]Value{}}
		if len(r.Systems) == 0 {
			t.Rows = append(t.Rows, row)
		}
		for _, s := range r.Systems {
			row.System, row.Scores = s.Name, map[string]Value{}
			for name, v := range s.Values {
				if !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) {
					row.Scores[name] = v
				}
			}
			t.Rows = append(t.Rows, row)
		}
	}
	t.mark()
	return t
}

// mark finds the best of each column; equals are all best. One row alone is
// not compared with anything.
func (t *Table) mark() {
	for _, c := range experiments.Table3() {
		best, n := math.NaN(), 0
		for _, r := range t.Rows {
			if v, ok := r.Scores[c.Name]; ok {
				n++
				if math.IsNaN(best) || (v.Value > best && !c.Smaller) || (v.Value < best && c.Smaller) {
					best = v.Value
				}
			}
		}
		for _, r := range t.Rows {
			if v, ok := r.Scores[c.Name]; ok && n > 1 && v.Value == best {
				v.Best = true
				r.Scores[c.Name] = v
			}
		}
	}
}

// Sort orders the rows by a column of Table 3, the best first, or by a
// parameter that differs, ascending. "" changes nothing; "run" and "system"
// sort by these. Rows without a value come last.
func (t *Table) Sort(by string) error {
	switch by {
	case "":
		return nil
	case "run", "system":
		slices.SortStableFunc(t.Rows, func(a, b Row) int {
			if by == "run" {
				return cmp.Compare(a.Run, b.Run)
			}
			return cmp.Compare(a.System, b.System)
		})
		return nil
	}
	if c, ok := experiments.FindColumn(by); ok {
		slices.SortStableFunc(t.Rows, func(a, b Row) int {
			x, okX := a.Scores[c.Name]
			y, okY := b.Scores[c.Name]
			switch {
			case !okX || !okY:
				return lacking(okX, okY)
			case c.Smaller:
				return cmp.Compare(x.Value, y.Value)
			}
			return cmp.Compare(y.Value, x.Value)
		})
		return nil
	}
	for _, p := range t.Parameters {
		if p.Name != by {
			continue
		}
		slices.SortStableFunc(t.Rows, func(a, b Row) int {
			x, okX := a.Values[by]
			y, okY := b.Values[by]
			if !okX || !okY {
				return lacking(okX, okY)
			}
			return compareValues(x, y)
		})
		return nil
	}
	names := []string{"run", "system"}
	for _, p := range t.Parameters {
		names = append(names, p.Name)
	}
	for _, c := range experiments.Table3() {
		names = append(names, c.Name)
	}
	return fmt.Errorf("--sort %s: there is no such column; use one of %v", by, names)
}

func lacking(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// compareValues compares numbers as numbers.
func compareValues(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}
