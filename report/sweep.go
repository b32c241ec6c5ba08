package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/esclab/esclab/internal/inert"
)

// Sweep is the table of a sweep: a row for every cell and system. It holds no
// times and no runs' names: the same artifacts give the same table.
type Sweep struct {
	Name string `json:"name"`
	// Varied are the paths of the varied fields, Heads their short names.
	Varied []string   `json:"varied"`
	Heads  []string   `json:"heads"`
	Judge  string     `json:"judge"` // kind; "offline" is marked
	Rows   []SweepRow `json:"rows"`
	Notes  []string   `json:"notes"`
}

// SweepRow is one system of one cell, or a cell without any.
type SweepRow struct {
	// Cell is "" where the system is the same in every cell.
	Cell   string   `json:"cell"`
	Values []string `json:"values"` // of the varied fields; none without a cell
	State  string   `json:"state"`  // done, failed, cancelled, stopped early
	Reason string   `json:"reason,omitempty"`
	System string   `json:"system"` // "decoupled/dpo"; "": nothing has been scored
	// Columns of a system that is scored in part have what is there.
	Columns Columns `json:"columns"`
	// Training has the figures of the cell's training stages, by stage.
	Training map[string]map[string]float64 `json:"training,omitempty"`
}

// allCells is what stands for the cell of a row that holds for all of them.
const allCells = "(all cells)"

// SweepMarkdown writes a GitHub-flavoured table, the best of each column in bold.
func SweepMarkdown(w io.Writer, s Sweep) error { return sweepTable(w, s, 0, inert.Markdown) }

// SweepPage writes at most limit rows of it for Temporal's web UI.
func SweepPage(w io.Writer, s Sweep, limit int) error { return sweepTable(w, s, limit, inert.Page) }

func sweepTable(w io.Writer, s Sweep, limit int, text func(string) string) error {
	var b bytes.Buffer
	heads := append([]string{"cell"}, s.Heads...)
	b.WriteString("| " + strings.Join(escaped(append(heads, "system"), text), " | "))
	for _, c := range columns() {
		b.WriteString(" | " + c.head)
	}
	b.WriteString(" | state |\n|" + strings.Repeat("---|", len(heads)+1) + strings.Repeat("---:|", len(columns())) + "---|\n")
	best := s.best()
	for i, r := range s.Rows {
		if limit > 0 && i == limit {
			fmt.Fprintf(&b, "\n… and %d more rows in the table's files.\n", len(s.Rows)-i)
			break
		}
		cells := []string{text(r.name())}
		for k := range s.Varied {
			cells = append(cells, text(r.value(k)))
		}
		cells = append(cells, text(r.System))
		for k, figure := range r.Columns.Cells() {
			if v := r.Columns[k]; v != nil && *v == best[k] {
				figure = "**" + figure + "**"
			}
			cells = append(cells, figure)
		}
		state := text(r.State)
		if r.Reason != "" {
			state += ": " + text(r.Reason)
		}
		b.WriteString("| " + strings.Join(append(cells, state), " | ") + " |\n")
	}
	if s.Judge == "offline" {
		b.WriteString("\nFlu. to Hel. are the offline judge's: fixed rules, no language model.\n")
	}
	for _, n := range s.Notes {
		b.WriteString("\n" + text(n) + "\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// SweepCSV writes the table as CSV: cell, the varied fields by their paths,
// system, Table 3's columns in full, state and reason. Text that a spreadsheet
// would take for a formula has an apostrophe before it.
func SweepCSV(w io.Writer, s Sweep) error {
	out := csv.NewWriter(w)
	head := append([]string{"cell"}, inert.Cells(s.Varied)...)
	head = append(head, "system")
	for _, c := range columns() {
		head = append(head, c.name)
	}
	if err := out.Write(append(head, "state", "reason")); err != nil {
		return err
	}
	for _, r := range s.Rows {
		line := []string{inert.Cell(r.Cell)}
		for k := range s.Varied {
			line = append(line, inert.Cell(r.value(k)))
		}
		line = append(line, inert.Cell(r.System))
		for _, v := range r.Columns {
			text := ""
			if v := finite(v); v != nil {
				text = strconv.FormatFloat(*v, 'g', -1, 64)
			}
			line = append(line, text)
		}
		if err := out.Write(append(line, inert.Cell(r.State), inert.Cell(r.Reason))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// SweepJSON writes the table as one JSON object.
func SweepJSON(w io.Writer, s Sweep) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(s)
}

// ReadSweep reads what SweepJSON wrote.
func ReadSweep(r io.Reader) (Sweep, error) {
	var s Sweep
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return s, fmt.Errorf("table of a sweep: %w", err)
	}
	return s, nil
}

// SweepHeads are the short heads of Table 3's columns, in its order.
func SweepHeads() []string {
	heads := make([]string, len(columns()))
	for i, c := range columns() {
		heads[i] = c.head
	}
	return heads
}

// best is the best value of each column; NaN where there is none.
func (s Sweep) best() []float64 {
	best := make([]float64, len(columns()))
	for k, col := range columns() {
		best[k] = math.NaN()
		for i := range s.Rows {
			v := s.Rows[i].Columns[k]
			if v != nil && (math.IsNaN(best[k]) || col.smaller && *v < best[k] || !col.smaller && *v > best[k]) {
				best[k] = *v
			}
		}
	}
	return best
}

func (r SweepRow) name() string {
	if r.Cell == "" {
		return allCells
	}
	return r.Cell
}

func (r SweepRow) value(k int) string {
	if k < len(r.Values) {
		return r.Values[k]
	}
	return ""
}

func escaped(texts []string, text func(string) string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = text(t)
	}
	return out
}
