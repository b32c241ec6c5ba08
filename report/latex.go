package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// LaTeX writes the report's tables as table environments in the style of
// booktabs, with no preamble: \input them into a document that loads
// booktabs, multirow, graphicx and the T1 font encoding. The artifacts that a
// table comes from stand above it in comments. Cells that are merged downwards become
// \multirow; text from data is escaped. The paper's figures are left out unless
// the data ask for them.
func LaTeX(w io.Writer, d Data) error {
	doc, err := newDocument(d)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,multirow,graphicx}, and UTF-8 input.\n")
	for _, s := range doc.Sections {
		if s.ID == "provenance" {
			continue // it stands in the comments
		}
		if s.ID == "paper" && !d.WithPaper {
			continue
		}
		for i, t := range s.Tables {
			if !d.WithPaper {
				t = t.withoutPaper()
			}
			mark := ""
			if s.Mark != "" {
				mark = " (" + s.Mark + ")"
			}
			latexTable(&b, t, fmt.Sprintf("tab:%s-%d", s.ID, i+1), mark)
		}
	}
	_, err = w.Write(b.Bytes())
	return err
}

func latexTable(b *bytes.Buffer, t table, label, mark string) {
	b.WriteString("\n")
	for _, s := range t.Sources {
		fmt.Fprintf(b, "%% from %s: %s\n", latex(s.Name), latex(s.Digest))
	}
	b.WriteString("\\begin{table*}\n\\centering\n")
	fmt.Fprintf(b, "\\caption{%s}\n\\label{%s}\n", latex(t.caption()+mark), label)
	b.WriteString("\\resizebox{\\textwidth}{!}{%\n\\begin{tabular}{")
	for _, h := range t.Heads {
		if h.Number {
			b.WriteString("r")
		} else {
			b.WriteString("l")
		}
	}
	b.WriteString("}\n\\toprule\n")
	if len(t.Groups) > 0 {
		var cells, rules []string
		at := 1
		for _, g := range t.Groups {
			cells = append(cells, fmt.Sprintf("\\multicolumn{%d}{c}{%s}", g.Span, latex(g.Text)))
			if g.Text != "" {
				rules = append(rules, fmt.Sprintf("\\cmidrule(lr){%d-%d}", at, at+g.Span-1))
			}
			at += g.Span
		}
		b.WriteString(strings.Join(cells, " & ") + " \\\\\n" + strings.Join(rules, "") + "\n")
	}
	heads := make([]string, len(t.Heads))
	for i, h := range t.Heads {
		heads[i] = latex(h.Text)
	}
	b.WriteString(strings.Join(heads, " & ") + " \\\\\n\\midrule\n")
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = latexCell(c)
		}
		b.WriteString(strings.Join(cells, " & ") + " \\\\\n")
	}
	b.WriteString("\\bottomrule\n\\end{tabular}}\n")
	for _, n := range append(slices.Clone(t.PaperNotes), t.Notes...) {
		b.WriteString("\n\\footnotesize " + latex(n) + "\n")
	}
	b.WriteString("\\end{table*}\n")
}

func latexCell(c cell) string {
	if c.Covered {
		return ""
	}
	s := latex(c.Text)
	switch {
	case c.Best:
		s = "\\textbf{" + s + "}"
	case c.Second:
		s = "\\underline{" + s + "}"
	case c.Code:
		s = "\\texttt{" + s + "}"
	}
	if c.Paper != "" {
		s += " {\\scriptsize " + latex(c.Paper)
		if c.Delta != "" {
			s += " (" + latex(c.Delta) + ")"
		}
		s += "}"
	}
	if c.Rows > 1 {
		s = fmt.Sprintf("\\multirow{%d}{*}{%s}", c.Rows, s)
	}
	return "{" + s + "}" // braces keep a leading [ from \\'s optional argument
}

// latex makes text inert in LaTeX, on one line.
func latex(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' ' // TeX ends lines and files at some of them
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
	return strings.NewReplacer(
		"\\", "\\textbackslash{}", "{", "\\{", "}", "\\}", "$", "\\$", "&", "\\&", "#", "\\#", "%", "\\%", "_", "\\_",
		"~", "\\textasciitilde{}", "^", "\\textasciicircum{}", "<", "\\textless{}", ">", "\\textgreater{}", "|", "\\textbar{}", "\"", "\\textquotedbl{}",
		"↑", "$\\uparrow$", "↓", "$\\downarrow$", "…", "\\ldots{}", "–", "--", "−", "$-$", "✓", "", "⚠ ", "", "⚠", "",
	).Replace(s)
}
