package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/esclab/esclab/internal/inert"
)

// CSV writes Table 3 in long form: one line per system, this run's ("run")
// first, then what is no system ("anchor"), then the paper's ("paper") with Table 5's pair sets; after the columns
// the bounds of their 95 % intervals, as COLUMN_low and COLUMN_high. Absent
// values are empty. Text that a spreadsheet would take for a formula has an
// apostrophe before it.
func CSV(w io.Writer, d Data) error {
	d, err := d.prepared()
	if err != nil {
		return err
	}
	p, err := loadPaper()
	if err != nil {
		return err
	}
	out := csv.NewWriter(w)
	header := []string{"source", "backbone", "paradigm", "method", "pairs"}
	for _, c := range columns() {
		header = append(header, c.name)
	}
	for _, c := range columns() {
		header = append(header, c.name+"_low", c.name+"_high")
	}
	lines := [][]string{header}
	for i, r := range slices.Concat(d.Systems, d.Anchors) {
		source := "run"
		if i >= len(d.Systems) {
			source = "anchor"
		}
		line := []string{source, inert.Cell(r.Backbone), inert.Cell(string(r.Paradigm)), inert.Cell(string(r.Method)), inert.Cell(string(r.Pairs))}
		for _, v := range r.Columns {
			field := ""
			if v != nil {
				field = strconv.FormatFloat(*v, 'g', -1, 64)
			}
			line = append(line, field)
		}
		for _, c := range columns() {
			low, high := "", ""
			if i := r.interval(c.name); i != nil {
				low, high = strconv.FormatFloat(i.Low, 'g', -1, 64), strconv.FormatFloat(i.High, 'g', -1, 64)
			}
			line = append(line, low, high)
		}
		lines = append(lines, line)
	}
	for _, b := range p.Backbones {
		for _, r := range append(b.Table3[:len(b.Table3):len(b.Table3)], b.Table5...) {
			line := []string{"paper", b.Name, string(r.Paradigm), string(r.Method), string(r.Pairs)}
			for _, v := range r.Values {
				line = append(line, strconv.FormatFloat(v, 'g', -1, 64))
			}
			line = append(line, make([]string, 2*len(columns()))...) // the paper has no intervals
			lines = append(lines, line)
		}
	}
	if err := out.WriteAll(lines); err != nil {
		return fmt.Errorf("report: write CSV: %w", err)
	}
	return nil
}

// JSON writes the data themselves; Read reads them back.
func JSON(w io.Writer, d Data) error {
	d, err := d.prepared()
	if err != nil {
		return err
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	if err := out.Encode(d); err != nil {
		return fmt.Errorf("report: write JSON: %w", err)
	}
	return nil
}

// Read reads what JSON wrote.
func Read(r io.Reader) (Data, error) {
	var d Data
	in := json.NewDecoder(r)
	in.DisallowUnknownFields()
	if err := in.Decode(&d); err != nil {
		return d, fmt.Errorf("report: read JSON: %w (was it written by another version of esclab?)", err)
	}
	return d, nil
}

// File is a rendered report.
type File struct {
	Name string
	Data []byte
}

// Files renders the report in every form: report.html, report.md,
// tables.tex, table3.csv and report.json.
func Files(d Data) ([]File, error) {
	var files []File
	for _, f := range []struct {
		name  string
		write func(io.Writer, Data) error
	}{{"report.html", HTML}, {"report.md", Markdown}, {"tables.tex", LaTeX}, {"table3.csv", CSV}, {"report.json", JSON}} {
		var b bytes.Buffer
		if err := f.write(&b, d); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		files = append(files, File{f.name, b.Bytes()})
	}
	return files, nil
}
