package nightly

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/esclab/esclab/internal/inert"
)

// Headline is the verdict in a line.
func (r Record) Headline() string {
	worse := r.Regressions()
	switch r.Verdict {
	case Failed:
		return "failed: " + oneLine(r.Error)
	case Regression:
		return fmt.Sprintf("regression: %s%s", worse[0], more(len(worse)-1))
	case Improved:
		return fmt.Sprintf("improved: %s%s", r.Findings[0], more(len(r.Findings)-1))
	case First:
		return "first: there is no night to compare with"
	}
	return fmt.Sprintf("steady, against %d nights", len(r.Against))
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more", n)
}

// String is the finding in words.
func (f Finding) String() string {
	unit := ""
	if f.What == Speed {
		unit = " s"
	}
	return fmt.Sprintf("%s of %s is %s%s, usually %s (%s to %s)", f.Metric, f.Where, number(f.Value), unit, number(f.Usual), number(f.Low), number(f.High))
}

// Markdown is the night's report.
func (r Record) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, night %s: %s\n\n", inert.Markdown(r.Schedule), inert.Markdown(r.Night), inert.Markdown(string(r.Verdict)))
	for _, line := range []string{r.EffectsLine(), r.Headline()} {
		if line != "" {
			fmt.Fprintf(&b, "%s\n\n", inert.Markdown(line))
		}
	}
	b.WriteString("| what | value |\n|:--|:--|\n")
	row := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", what, inert.Markdown(value))
		}
	}
	row("experiment", r.Experiment)
	row("revision", r.Revision)
	if r.Newest != "" && r.Newest != r.Revision {
		row("newest revision", r.Newest+" (the worker is older)")
	}
	row("measured anew", r.Fresh)
	row("run", r.Run)
	row("machine", r.Machine.String())
	row("started", r.Started.UTC().Format("2006-01-02 15:04:05 UTC"))
	row("took", fmt.Sprintf("%.0f s", r.Finished.Sub(r.Started).Seconds()))
	row("compared with", strings.Join(r.Against, ", "))
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s.\n", inert.Markdown(note))
	}
	r.findings(&b)
	r.systems(&b)
	r.stages(&b)
	return b.String()
}

func (r Record) findings(b *strings.Builder) {
	if len(r.Findings) == 0 {
		return
	}
	b.WriteString("\n## What has changed\n\n| | where | metric | this night | usually | the same would be | nights |\n|:--|:--|:--|--:|--:|:--|--:|\n")
	for _, f := range r.Findings {
		mark := "better"
		if f.Worse {
			mark = "**worse**"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s to %s | %d |\n", mark, inert.Markdown(f.Where), inert.Markdown(f.Metric), number(f.Value), number(f.Usual), number(f.Low), number(f.High), f.Nights)
	}
}

func (r Record) systems(b *strings.Builder) {
	if len(r.Systems) == 0 {
		return
	}
	b.WriteString("\n## Quality\n\nWith 95 % bootstrap intervals over dialogues.\n\n| system | metric | value | interval |\n|:--|:--|--:|:--|\n")
	for _, s := range r.Systems {
		for _, m := range s.Metrics {
			fmt.Fprintf(b, "| %s | %s | %s | %s to %s |\n", inert.Markdown(s.Name), inert.Markdown(m.Name), number(m.Value), number(m.Low), number(m.High))
		}
	}
}

func (r Record) stages(b *strings.Builder) {
	if len(r.Stages) == 0 {
		return
	}
	b.WriteString("\n## Speed\n\n| stage | seconds | tokens/s | engine |\n|:--|--:|--:|:--|\n")
	for _, s := range r.Stages {
		seconds, rate := fmt.Sprintf("%.1f", s.Seconds), ""
		switch {
		case s.Reused:
			seconds = "reused"
		case s.Resumed:
			seconds += " (resumed)"
		case s.Tokens > 0 && s.Seconds > 0:
			rate = fmt.Sprintf("%.0f", s.Tokens/s.Seconds)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", inert.Markdown(s.Name), seconds, rate, inert.Markdown(s.Engine))
	}
}

func oneLine(s string) string { return strings.NewReplacer("\r\n", " ", "\n", " ").Replace(s) }

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
