package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/pairs"
)

// screen is where people read: how wide it is, and whether it shows colours.
type screen struct {
	out     io.Writer
	width   int
	colours bool
}

// newScreen looks at the very stream that is written to: a terminal's width and
// colours, or 80 columns of plain text. NO_COLOR does without colours.
func newScreen(out io.Writer) screen {
	s := screen{out: out, width: 80}
	if f, ok := fileOf(out); ok && onTerminal(out) {
		s.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			s.width = min(max(w, 40), 120)
		}
	}
	return s
}

func (s screen) paint(c text.Colors, what string) string {
	if !s.colours {
		return what
	}
	return c.Sprint(what)
}

// link is an address under a short text where a terminal opens it; elsewhere it is
// the address.
func (s screen) link(address, short string) string {
	if !s.colours {
		return address
	}
	return text.Hyperlink(address, short)
}

// file is a path, and on a terminal a link to the file.
func (s screen) file(path string) string {
	if !s.colours {
		return path
	}
	return s.link((&url.URL{Scheme: "file", Path: path}).String(), path)
}

// labelled prints a text after a label, wrapped and indented below it.
func (s screen) labelled(label string, c text.Colors, body string) {
	const indent = 12
	body = text.WrapSoft(esc.Printable(body), s.width-indent)
	for i, line := range strings.Split(body, "\n") {
		if i > 0 {
			label = ""
		}
		line = strings.TrimRight(line, " ")
		fmt.Fprintln(s.out, strings.TrimRight(s.paint(c, fmt.Sprintf("%-*s", indent, label))+s.paint(c, line), " "))
	}
}

// speaker names the side of a chat message.
func speaker(m esc.Message) string {
	if m.Role == esc.UserRole {
		return "seeker"
	}
	return "supporter"
}

// printPairs shows pairs one below the other.
func printPairs(out io.Writer, kept []pairs.Pair, total, context int) error {
	s := newScreen(out)
	for _, p := range kept {
		var about []string
		for _, e := range p.Errors {
			about = append(about, e.Name())
		}
		head := fmt.Sprintf("%s · dialogue %d, turn %d, draw %d · %s", p.Role, p.Dialogue, p.Turn, p.Draw, strings.Join(about, ", "))
		if p.Kind != "" {
			head += " · " + string(p.Kind)
		}
		fmt.Fprintln(out, s.paint(text.Colors{text.Bold}, head))
		messages := tail(p.Context, context)
		if n := len(p.Context) - len(messages); n > 0 {
			s.labelled("", text.Colors{text.Faint}, fmt.Sprintf("… %d messages before", n))
		}
		for _, m := range messages {
			s.labelled(speaker(m), text.Colors{text.Faint}, m.Content)
		}
		chosen, rejected := p.Sides()
		s.labelled("+ chosen", text.Colors{text.FgGreen}, chosen)
		s.labelled("- rejected", text.Colors{text.FgRed}, rejected)
		s.labelled("  reason", nil, p.Reason)
		fmt.Fprintln(out)
	}
	_, err := fmt.Fprintf(out, "%d of %d pairs\n", len(kept), total)
	if len(kept) < total {
		_, err = fmt.Fprintln(out, "--limit 0 shows all; --role, --error, --strategy, --dialogue and --selection narrow them")
	}
	return failed(err)
}

// pairStats is what --stats --json prints.
type pairStats struct {
	Experiment string `json:"experiment"`
	pairs.Statistics
	// Mined says by role what became of all samples, whatever the filters.
	Mined map[esc.Role]results.Mined `json:"mined"`
}

// printPairStats prints the figures of Table 1.
func printPairStats(out io.Writer, name string, found minedRun, filter pairs.Filter, asJSON bool) error {
	kept, _ := pairs.Select(found.pairs, filter, 0)
	stats := pairStats{name, pairs.Count(kept, found.train), found.mined}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return failed(e.Encode(stats))
	}
	writeCorpusStats(out, stats.Corpus)
	writeRoleStats(out, stats)
	return nil
}

func statsTable(out io.Writer, title string, head ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetTitle(title)
	t.AppendHeader(table.Row(head))
	return t
}

// writeCorpusStats prints the upper half of Table 1, and Table 6.
func writeCorpusStats(out io.Writer, c esc.Statistics) {
	t := statsTable(out, "Corpus, train split (Table 1)", "", "Total", "Assistant", "User")
	t.AppendRow(table.Row{"Dialogues", c.Dialogues, "", ""})
	t.AppendRow(table.Row{"Utterances", c.Utterances, c.Assistant, c.User})
	turns := func(n int) string {
		if c.Dialogues == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", float64(n)/float64(c.Dialogues))
	}
	t.AppendRow(table.Row{"Utterances per dialogue", turns(c.Utterances), turns(c.Assistant), turns(c.User)})
	t.AppendRow(table.Row{"Characters per utterance", fmt.Sprintf("%.2f", c.AvgChars), fmt.Sprintf("%.2f", c.AvgCharsAssistant), fmt.Sprintf("%.2f", c.AvgCharsUser)})
	t.Render()
	t = statsTable(out, "Strategies (Table 6)", "Strategy", "Utterances")
	for _, s := range esc.Strategies() {
		t.AppendRow(table.Row{s.String(), c.Strategies[s]})
	}
	t.Render()
}

// writeRoleStats prints the lower half of Table 1, a column a role.
func writeRoleStats(out io.Writer, stats pairStats) {
	head := []any{""}
	for _, r := range stats.Roles {
		head = append(head, string(r.Role))
	}
	t := statsTable(out, "Preference pairs (Table 1)", head...)
	row := func(label string, value func(r pairs.Role, m results.Mined) any) {
		line := table.Row{label}
		for _, r := range stats.Roles {
			line = append(line, value(r, stats.Mined[r.Role]))
		}
		t.AppendRow(line)
	}
	row("Pairs", func(r pairs.Role, _ results.Mined) any { return r.Pairs })
	row("Turns with a pair", func(r pairs.Role, _ results.Mined) any { return r.Turns })
	for _, e := range esc.PsyErrors() {
		if esc.Route(e) != esc.Nowhere {
			row(e.Name(), func(r pairs.Role, _ results.Mined) any { return r.PerError[e] })
		}
	}
	for _, kind := range esc.Kinds() {
		row(string(kind), func(r pairs.Role, _ results.Mined) any {
			if r.Role != esc.VM {
				return ""
			}
			return r.PerKind[kind]
		})
	}
	row("Characters, chosen", func(r pairs.Role, _ results.Mined) any { return fmt.Sprintf("%.2f", r.CharsChosen) })
	row("Characters, rejected", func(r pairs.Role, _ results.Mined) any { return fmt.Sprintf("%.2f", r.CharsRejected) })
	t.AppendSeparator()
	row("Samples drawn", func(_ pairs.Role, m results.Mined) any { return m.Samples })
	row("not readable", func(_ pairs.Role, m results.Mined) any { return m.Unparsed })
	row("repeated", func(_ pairs.Role, m results.Mined) any { return m.Duplicates })
	row("gold answer at fault", func(_ pairs.Role, m results.Mined) any { return m.FaultyChosen })
	row("above a cap", func(_ pairs.Role, m results.Mined) any { return m.Capped })
	row(esc.EmotionMisread.Name()+", not routed", func(_ pairs.Role, m results.Mined) any { return m.Errors[esc.EmotionMisread] })
	t.SetCaption("A pair counts once, by its first error. Below the line: all samples, whatever the filters.")
	t.Render()
}
