package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
)

const (
	shownEnds = 50 // bounds the failures that the web UI lists
	shownBest = 5  // and the cells that are the best so far
)

// score is what the headline system of a run has come to; nil where it is not
// evaluated.
func (in RunInput) score(result RunResult) *CellScore {
	headline := in.plan().Headline
	if headline == nil {
		return nil
	}
	states := make([]StageState, len(result.Stages))
	for i, r := range result.Stages {
		kind, _, _ := strings.Cut(r.Stage, "/") // a stage's name begins with its kind
		states[i] = StageState{Name: r.Stage, Kind: experiments.Kind(kind), Result: r}
	}
	_, rows := systemMetrics(states)
	if _, biased := rows[*headline][experiments.ColumnBias]; !biased {
		return nil
	}
	score := &CellScore{System: headline.Name(), Metrics: map[string]float64{}}
	for _, c := range headlineColumns() {
		if v, ok := rows[*headline][c.Name]; ok {
			score.Metrics[c.Name] = v
		}
	}
	return score
}

// headlineColumns are the columns of Table 3 that lists of runs and cells show.
func headlineColumns() []experiments.Column {
	return slices.DeleteFunc(experiments.Table3(), func(c experiments.Column) bool {
		return !slices.Contains([]string{experiments.ColumnBias, "weighted_f1", "macro_f1", "rouge_l"}, c.Name)
	})
}

// better adds a cell to the best ones, in order of their preference bias, of which the
// least is the best.
func better(best []CellScore, one CellScore) []CellScore {
	best = append(slices.DeleteFunc(slices.Clone(best), func(s CellScore) bool { return s.Cell == one.Cell }), one)
	slices.SortStableFunc(best, func(a, b CellScore) int {
		return cmp.Compare(a.Metrics[experiments.ColumnBias], b.Metrics[experiments.ColumnBias])
	})
	return best[:min(len(best), shownBest)]
}

// sweepDetails says how far a sweep is, what runs and what went wrong.
func sweepDetails(state SweepState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %d cells, %s\n\n", inert.Page(state.Name), len(state.Marks), state.Marks.Summary())
	fmt.Fprintf(&b, "%d at a time, priority %d", state.Parallel, state.Priority)
	if state.Paused {
		b.WriteString(", **paused**")
	}
	if state.ETASeconds > 0 {
		fmt.Fprintf(&b, ", about %s left", time.Duration(state.ETASeconds*float64(time.Second)).Round(time.Second))
	}
	b.WriteString("\n\n")
	b.WriteString(bestTable(state.Best))
	if len(state.Running) > 0 {
		b.WriteString("| running | run |\n|:--|:--|\n")
		for _, r := range state.Running[:min(len(state.Running), shownEnds)] {
			fmt.Fprintf(&b, "| %s | %s |\n", inert.Page(r.Name), link(r.WorkflowID, r.WorkflowID, r.RunID))
		}
		b.WriteString("\n")
	}
	var ends []failure
	for _, e := range state.Ends {
		ends = addFailure(ends, failure{[]string{e.Name}, e.Mark.String(), e.Reason})
	}
	for i, f := range ends {
		if i == shownEnds {
			fmt.Fprintf(&b, "- and %d more\n", len(ends)-i)
			break
		}
		b.WriteString(f.line())
	}
	return b.String()
}

// bestTable shows the cells that are the best so far; "" before the first.
func bestTable(best []CellScore) string {
	if len(best) == 0 {
		return ""
	}
	var b strings.Builder
	head, rule := "| best so far | system |", "|:--|:--|"
	for _, c := range headlineColumns() {
		head, rule = head+" "+c.Head+" |", rule+"--:|"
	}
	b.WriteString(head + "\n" + rule + "\n")
	for _, s := range best {
		fmt.Fprintf(&b, "| %s | %s |", link(s.Name, s.WorkflowID, ""), inert.Page(s.System))
		for _, c := range headlineColumns() {
			if v, ok := s.Metrics[c.Name]; ok {
				fmt.Fprintf(&b, " %.2f |", v)
			} else {
				b.WriteString(" – |")
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}
