package compare

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
)

// inline is the number of differing parameters that still stand in the rows;
// more of them get a table of their own.
const inline = 4

// Grid is a table of text: for a terminal, or for Markdown.
type Grid struct {
	Title string
	Heads []string
	// Numeric columns are aligned to the right.
	Numeric []bool
	Rows    [][]string
}

// Format says how a grid's cells are written.
type Format struct {
	// Columns of Table 3 that are shown; none: all.
	Columns []experiments.Column
	// Best marks the best of a column.
	Best func(string) string
	// Text writes a name or a value that may hold anything.
	Text func(string) string
	// Narrow keeps the parameters out of the rows, where there are few runs.
	Narrow bool
}

// Grids lays the comparison out: the parameters that differ (with few of them,
// in the rows), the systems, and the paired differences.
func (t Table) Grids(f Format) []Grid {
	if len(f.Columns) == 0 {
		f.Columns = experiments.Table3()
	}
	var out []Grid
	params := t.Parameters
	if len(params) > inline || f.Narrow && len(params) > 0 && len(t.runs) <= inline {
		g := Grid{Title: "What differs", Heads: []string{"parameter"}, Numeric: []bool{false}}
		for _, r := range t.runs {
			g.Heads, g.Numeric = append(g.Heads, f.Text(r.Name)), append(g.Numeric, false)
		}
		for _, p := range params {
			line := []string{f.Text(p.Name)}
			for _, v := range p.Values {
				line = append(line, f.Text(v))
			}
			g.Rows = append(g.Rows, line)
		}
		out = append(out, g)
		params = nil
	}
	out = append(out, t.systems(f, params))
	if len(t.Paired) > 0 {
		out = append(out, t.paired(f))
	}
	return out
}

func (t Table) systems(f Format, params []Parameter) Grid {
	g := Grid{Title: "Systems", Heads: []string{"run"}, Numeric: []bool{false}}
	for _, p := range params {
		g.Heads, g.Numeric = append(g.Heads, f.Text(p.Name)), append(g.Numeric, false)
	}
	g.Heads, g.Numeric = append(g.Heads, "system"), append(g.Numeric, false)
	for _, c := range f.Columns {
		head := c.Head
		if c.Smaller {
			head += " ↓"
		}
		g.Heads, g.Numeric = append(g.Heads, head), append(g.Numeric, true)
	}
	states := slices.ContainsFunc(t.Rows, func(r Row) bool { return r.State != "" })
	if states {
		g.Heads, g.Numeric = append(g.Heads, "state"), append(g.Numeric, false)
	}
	for _, r := range t.Rows {
		line := []string{f.Text(r.Run)}
		for _, p := range params {
			line = append(line, f.Text(r.Values[p.Name]))
		}
		line = append(line, f.Text(r.System))
		for _, c := range f.Columns {
			v, ok := r.Scores[c.Name]
			if !ok {
				line = append(line, absent)
				continue
			}
			cell := fmt.Sprintf("%.2f", v.Value)
			if v.Best {
				cell = f.Best(cell)
			}
			if v.Low != nil && v.High != nil {
				cell += fmt.Sprintf(" [%.2f, %.2f]", *v.Low, *v.High)
			}
			line = append(line, cell)
		}
		if states {
			line = append(line, f.Text(r.State))
		}
		g.Rows = append(g.Rows, line)
	}
	return g
}

func (t Table) paired(f Format) Grid {
	g := Grid{Title: "Paired differences on the same test turns (p takes the trained models as given)", Heads: []string{"difference", "turns"}, Numeric: []bool{false, true}}
	for _, c := range f.Columns {
		g.Heads, g.Numeric = append(g.Heads, c.Head), append(g.Numeric, true)
	}
	for _, p := range t.Paired {
		line := []string{f.Text(p.Contrast()), strconv.Itoa(p.Turns)}
		for _, c := range f.Columns {
			d, ok := p.Differences[c.Name]
			if !ok {
				line = append(line, absent)
				continue
			}
			cell := fmt.Sprintf("%+.2f", d.Value)
			if d.Significant() {
				cell = f.Best(cell)
			}
			line = append(line, fmt.Sprintf("%s [%+.2f, %+.2f] p %s%s", cell, d.Low, d.High, probability(d.P), d.disagreement()))
		}
		g.Rows = append(g.Rows, line)
	}
	return g
}

// Contrast says what is subtracted from what.
func (p Paired) Contrast() string {
	switch {
	case p.Run == p.AgainstRun:
		return fmt.Sprintf("%s: %s − %s", p.Run, p.System, p.AgainstSystem)
	case p.System == p.AgainstSystem:
		return fmt.Sprintf("%s: %s − %s", p.System, p.Run, p.AgainstRun)
	}
	return fmt.Sprintf("%s %s − %s %s", p.Run, p.System, p.AgainstRun, p.AgainstSystem)
}

// probability writes a p-value; the test's resolution is one in a thousand.
func probability(p float64) string {
	if p < 0.0015 {
		return "0.001"
	}
	return strconv.FormatFloat(p, 'g', 2, 64)
}

// Markdown writes the comparison as GitHub-flavoured tables, the best in bold.
// Nothing in it can break a table.
func (t Table) Markdown(w io.Writer, columns []experiments.Column) error {
	return t.markdown(w, columns, false, inert.Markdown)
}

// Page is Markdown for the web UI, whose page is narrow.
func (t Table) Page(w io.Writer, columns []experiments.Column) error {
	return t.markdown(w, columns, true, inert.Page)
}

func (t Table) markdown(w io.Writer, columns []experiments.Column, narrow bool, text func(string) string) error {
	var b bytes.Buffer
	for _, g := range t.Grids(Format{Columns: columns, Best: func(s string) string { return "**" + s + "**" }, Text: text, Narrow: narrow}) {
		g.Markdown(&b)
	}
	for _, n := range t.Notes {
		b.WriteString("\n" + text(n) + "\n")
	}
	_, err := w.Write(bytes.TrimPrefix(b.Bytes(), []byte("\n")))
	return err
}

// Markdown writes one grid, whose cells are Markdown already.
func (g Grid) Markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n**%s**\n\n| %s |\n|", g.Title, strings.Join(g.Heads, " | "))
	for _, right := range g.Numeric {
		if right {
			b.WriteString("--:|")
		} else {
			b.WriteString(":--|")
		}
	}
	b.WriteString("\n")
	for _, line := range g.Rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(line, " | "))
	}
}

// CSV writes a line a row: run, system, the parameters that differ, Table 3's
// columns in full, each followed by the ends of its interval, state. Text that a
// spreadsheet would take for a formula has an apostrophe before it.
func (t Table) CSV(w io.Writer) error {
	out := csv.NewWriter(w)
	head := []string{"run", "id", "system"}
	for _, p := range t.Parameters {
		head = append(head, inert.Cell(p.Name))
	}
	for _, c := range experiments.Table3() {
		head = append(head, c.Name, c.Name+"_low", c.Name+"_high")
	}
	if err := out.Write(append(head, "state")); err != nil {
		return err
	}
	number := func(v *float64) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(*v, 'g', -1, 64)
	}
	for _, r := range t.Rows {
		line := []string{inert.Cell(r.Run), inert.Cell(r.ID), inert.Cell(r.System)}
		for _, p := range t.Parameters {
			line = append(line, inert.Cell(r.Values[p.Name]))
		}
		for _, c := range experiments.Table3() {
			v, ok := r.Scores[c.Name]
			if !ok {
				line = append(line, "", "", "")
				continue
			}
			line = append(line, number(&v.Value), number(v.Low), number(v.High))
		}
		if err := out.Write(append(line, inert.Cell(r.State))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// JSON writes the comparison as one object.
func (t Table) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(t)
}
