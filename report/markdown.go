package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/internal/inert"
)

// Markdown writes the report as GitHub-flavoured Markdown: everything but the
// figures, whose numbers stand in the tables. Text from data is escaped.
func Markdown(w io.Writer, d Data) error {
	doc, err := newDocument(d)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# " + inert.Markdown(doc.Title) + "\n\n")
	if c := doc.Card; c != nil {
		b.WriteString("**" + inert.Markdown(c.Question) + "** " + inert.Markdown(c.Verdict) + ". " + inert.Markdown(c.Sentence) + "\n\n")
		for _, e := range c.Effects {
			b.WriteString("- " + inert.Markdown(fmt.Sprintf("%s: %s %s, %s", e.Name, e.Difference, e.Interval, e.Finding)) + "\n")
		}
		b.WriteString("\n" + inert.Markdown(strings.TrimSpace(c.Rule+" "+c.Judge)) + "\n\n")
	}
	for _, f := range doc.Facts {
		b.WriteString("- " + f[0] + ": " + inert.Markdown(f[1]) + "\n")
	}
	b.WriteString("\n")
	if doc.Warning != "" {
		b.WriteString("> ⚠ **Offline judge.** " + inert.Markdown(doc.Warning) + "\n\n")
	}
	for _, n := range doc.Notes {
		b.WriteString(inert.Markdown(n) + "\n\n")
	}
	for _, s := range doc.Sections {
		b.WriteString("## " + inert.Markdown(s.Title) + "\n\n")
		if s.Mark != "" {
			b.WriteString("⚠ " + inert.Markdown(s.Mark) + "\n\n")
		}
		for _, a := range s.Answers {
			b.WriteString("**" + inert.Markdown(a.Question) + "** Verdict: **" + inert.Markdown(a.Verdict) + "**.\n\n")
			for _, because := range a.Because {
				b.WriteString("- " + inert.Markdown(because) + "\n")
			}
			b.WriteString("\n")
		}
		for _, t := range s.Text {
			b.WriteString(inert.Markdown(t) + "\n\n")
		}
		for _, t := range s.Tables {
			markdownTable(&b, t)
		}
		for _, sm := range s.Samples {
			markdownSample(&b, sm)
		}
	}
	if len(doc.Missing) > 0 {
		b.WriteString("## Not in this report\n\n")
		for _, line := range doc.Missing {
			b.WriteString("- " + inert.Markdown(line) + "\n")
		}
	}
	_, err = w.Write(b.Bytes())
	return err
}

func markdownTable(b *bytes.Buffer, t table) {
	b.WriteString(inert.Markdown(t.caption()) + "\n\n|")
	for _, h := range t.Heads {
		b.WriteString(" " + inert.Markdown(h.Text) + " |")
	}
	b.WriteString("\n|")
	for _, h := range t.Heads {
		if h.Number {
			b.WriteString("---:|")
		} else {
			b.WriteString("---|")
		}
	}
	b.WriteString("\n")
	for _, row := range t.Rows {
		b.WriteString("|")
		for _, c := range row {
			b.WriteString(" " + markdownCell(c) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	notes := append(slices.Clone(t.PaperNotes), t.Notes...)
	for _, n := range notes {
		b.WriteString("- " + inert.Markdown(n) + "\n")
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	if len(t.Sources) > 0 {
		var from []string
		for _, s := range t.Sources {
			from = append(from, inert.Markdown(s.Name)+" "+markdownCell(code(s.Short())))
		}
		b.WriteString("<details><summary>from " + artifactsOf(len(from)) + "</summary>\n\n" + strings.Join(from, ", ") + "\n\n</details>\n\n")
	}
}

func artifactsOf(n int) string {
	if n == 1 {
		return "1 artifact"
	}
	return strconv.Itoa(n) + " artifacts"
}

func markdownCell(c cell) string {
	if c.Covered {
		return ""
	}
	s := inert.Markdown(c.Text)
	switch {
	case c.Best:
		s = "**" + s + "**"
	case c.Second:
		s = "<u>" + s + "</u>"
	case c.Code:
		s = inert.Code(c.Text)
	}
	if c.Paper != "" {
		s += "<br><sub>" + inert.Markdown(c.Paper)
		if c.Delta != "" {
			s += " (" + inert.Markdown(c.Delta) + ")"
		}
		s += "</sub>"
	}
	return s
}

func markdownSample(b *bytes.Buffer, s sample) {
	b.WriteString("### " + inert.Markdown(s.Title) + "\n\n")
	for _, m := range s.Context {
		strategy := ""
		if m.Strategy != "" {
			strategy = "\\[" + inert.Markdown(m.Strategy) + "\\] "
		}
		b.WriteString("> **" + inert.Markdown(m.Role) + "** " + strategy + inert.Markdown(m.Content) + "\n>\n")
	}
	b.WriteString("\n")
	b.WriteString("- **gold** \\[" + inert.Markdown(s.Gold.Strategy) + "\\] " + inert.Markdown(s.Gold.Response) + "\n")
	for _, row := range s.Rows {
		for _, r := range row.Replies {
			if r == nil {
				continue
			}
			agrees := ""
			if r.Agrees {
				agrees = " ✓"
			}
			b.WriteString("- **" + inert.Markdown(r.System) + "** \\[" + inert.Markdown(r.Strategy) + agrees + "\\] " + inert.Markdown(r.Response))
			if len(r.Errors) > 0 {
				b.WriteString(" *(" + inert.Markdown(strings.Join(r.Errors, ", ")) + ")*")
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
}
