package report

import (
	"fmt"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// errorSection shows the psychological errors: Figures 2 and 7.
func errorSection(d Data, p paper) (section, error) {
	s := section{ID: "errors", Title: "Psychological errors", Missing: "no reply was judged"}
	t := table{
		Caption: "Replies with a psychological error, by class; a reply may have several",
		Heads:   []head{{Text: "System"}, {Text: "Judged", Number: true}},
	}
	names := errorHeads("Strategy Mismatch, by the judge")
	for _, name := range names {
		t.Heads = append(t.Heads, head{name, true})
	}
	t.Heads = append(t.Heads, head{"No error", true})
	proportions := table{
		Caption: "Each judged reply by its clearest error (the paper's Figures 2 and 7)",
		Paper:   "small figures are the paper's, then the difference",
		Heads:   t.Heads,
		Notes: []string{fmt.Sprintf("FailedESConv: the labels that an LLM gave to its %d responses, as the paper's authors published them; what they call otherwise than the five classes counts as no error.", p.FailedESConv.Judged),
			"Of Figure 7 the paper's text gives one number, the share of Decoupled-DPO's replies without an error; the others are drawn only."},
	}
	if d.Run.Judge.likePaper() {
		proportions.Caption += "; small figures are the paper's, then the difference"
	}
	t.Heads = append(slices.Clip(t.Heads), head{unlikeGold, true})
	t.Notes = []string{"The judge does not know the gold strategy: a strategy mismatch of its is one between reply and context. " + unlikeGold + " counts the judged replies whose strategy, or lack of one, differs from the gold one; it is no error of theirs."}
	var data []series
	var judged []Row
	for i, r := range slices.Concat(d.Systems, d.Anchors) {
		if r.Errors == nil || r.Errors.Judged == 0 {
			continue
		}
		judged = append(judged, r)
		row, line := []cell{text(r.System()), count(r.Errors.Judged)}, series{name: r.System(), color: r.color()}
		for _, n := range r.Errors.Classes {
			row = append(row, percent(n, r.Errors.Judged))
			line.values = append(line.values, 100*float64(n)/float64(r.Errors.Judged))
		}
		t.Rows = append(t.Rows, append(row, percent(r.Errors.Clean, r.Errors.Judged), percent(r.Errors.Unlike, r.Errors.Judged)))
		if i < len(d.Systems) {
			data = append(data, line)
		}
	}
	if len(data) == 0 {
		return s, nil
	}
	sources := d.sources(systemNames(judged), experiments.KindJudge)
	t.Sources, proportions.Sources = sources, sources
	labels, stacks := errorStacks(&proportions, judged, p, d.Run.Judge.likePaper())
	s.Tables = []table{proportions, t}

	var parts []part
	for i, name := range names {
		parts = append(parts, part{name, palette(firstSystem + i)})
	}
	stack, err := stacked("Replies by their clearest error (Figures 2 and 7)", labels, append(parts, part{"No error", palette(noErrorColor)}), stacks, false)
	if err != nil {
		return s, err
	}
	each, err := bars("Judged replies by psychological error", "% of judged replies", names, data, nil)
	stack.Sources, each.Sources = sources, sources
	for i := range s.Tables {
		s.Tables[i].Folded = true // the figures show them
	}
	s.Figures = []figure{stack, each}
	return s, err
}

// unlikeGold is what a strategy mismatch is where the strategies tell, not a judge.
const unlikeGold = "Strategy unlike gold"

// errorHeads are the names of the errors, with one for a strategy mismatch that
// says who found it.
func errorHeads(mismatch string) []string {
	names := make([]string, esc.NumPsyErrors)
	for i, e := range esc.PsyErrors() {
		if names[i] = e.Name(); e == esc.StrategyMismatch {
			names[i] = mismatch
		}
	}
	return names
}

// noErrorColor is the quiet grey of the palette.
const noErrorColor = 8

// errorStacks fills the table of proportions and gives the bars of its figure;
// like puts the paper's figures beside.
func errorStacks(t *table, judged []Row, p paper, like bool) (labels []string, stacks [][]float64) {
	add := func(name string, e Errors, printed *float64) {
		row := []cell{text(name), count(e.Judged)}
		for _, n := range e.Clearest {
			row = append(row, percent(n, e.Judged))
		}
		clean := percent(e.Clean, e.Judged)
		if printed != nil && e.Judged > 0 {
			clean.Paper = fixed(printed, 0) + " %"
			clean.Delta = delta(Value(100*float64(e.Clean)/float64(e.Judged)), printed, 1)
		}
		t.Rows = append(t.Rows, append(row, clean))
		if values := shares(append(append([]int{}, e.Clearest[:]...), e.Clean)); values != nil {
			labels, stacks = append(labels, name), append(stacks, values)
		}
	}
	add("FailedESConv", p.FailedESConv, nil)
	for _, r := range judged {
		var printed *float64
		if v, ok := p.NoError[r.System()]; ok && like {
			printed = &v
		}
		add(r.System(), *r.Errors, printed)
	}
	return labels, stacks
}
