package activities

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// measured is the value of a measure on turns.
func measured(m report.Measure, turns []results.ScoredTurn) float64 {
	switch m {
	case report.MeasureBias:
		if r, ok := results.StrategyOf(turns); ok {
			return r.PreferenceBias
		}
	case report.MeasureStrategy:
		if r, ok := results.StrategyOf(turns); ok {
			return r.WeightedF1
		}
	case report.MeasureQuality:
		return results.JudgedMean(turns, func(t results.ScoredTurn) float64 {
			sum := 0.0
			for _, v := range t.Scores.Fields() {
				sum += *v
			}
			return sum / 4
		})
	case report.MeasureClean:
		return results.JudgedMean(turns, func(t results.ScoredTurn) float64 {
			if t.Clean {
				return 100
			}
			return 0
		})
	}
	return math.NaN()
}

// effects measures contrasts between the systems of a run; one whose systems are
// not in it is left out.
func effects(ctx context.Context, contrasts []report.Contrast, systems map[string][][]results.ScoredTurn, seeds []uint64, seed uint64) ([]report.Effect, error) {
	var out []report.Effect
	for _, c := range contrasts {
		e, err := effect(ctx, c, systems, seeds, seed)
		if err != nil {
			return nil, fmt.Errorf("%s against %s: %w", c.System, c.Against, err)
		}
		if e.Difference != nil {
			out = append(out, e)
		}
	}
	return out, nil
}

// answers measures the effects of the research questions between the systems
// of a run, by name; of each, the turns by seed, in the order of seeds. A
// question none of whose systems' pairs ran is left out.
func answers(ctx context.Context, systems map[string][][]results.ScoredTurn, seeds []uint64, seed uint64) ([]report.Question, error) {
	done := map[report.Contrast]report.Effect{}
	var out []report.Question
	for _, q := range report.ResearchQuestions() {
		any := false
		for i, e := range q.Effects {
			if _, ok := done[e.Contrast]; !ok {
				var err error
				if done[e.Contrast], err = effect(ctx, e.Contrast, systems, seeds, seed); err != nil {
					return nil, fmt.Errorf("%s: %w", q.Name, err)
				}
			}
			q.Effects[i] = done[e.Contrast]
			any = any || q.Effects[i].Difference != nil
		}
		if any {
			out = append(out, q)
		}
	}
	return out, nil
}

// effect measures one contrast; its numbers stay nil where a system is not in
// the run.
func effect(ctx context.Context, c report.Contrast, systems map[string][][]results.ScoredTurn, seeds []uint64, seed uint64) (report.Effect, error) {
	e := report.Effect{Contrast: c}
	system, against := systems[c.System], systems[c.Against]
	if len(system) != len(seeds) || len(against) != len(seeds) {
		return e, nil
	}
	pairs := make([][]results.TurnPair, len(seeds))
	for k := range seeds {
		pairs[k] = results.PairTurns(system[k], against[k])
		if c.Measure.Judged() { // the judge's: of what it saw of both
			pairs[k] = slices.DeleteFunc(pairs[k], func(p results.TurnPair) bool { return !p.System.Judged || !p.Against.Judged })
		}
	}
	found, err := results.Differ(ctx, pairs, func(turns []results.ScoredTurn) []float64 {
		return []float64{measured(c.Measure, turns)}
	}, seed)
	if err != nil || found.Turns == 0 {
		return e, err
	}
	d := found.Values[0]
	e.Dialogues, e.Turns = found.Dialogues, found.Turns
	e.Low, e.High, e.P = report.Value(d.Low), report.Value(d.High), report.Value(d.P)
	if !math.IsNaN(d.Value) {
		e.Difference = report.Value(d.Value)
	}
	if len(seeds) > 1 {
		for k, of := range seeds {
			e.Seeds = append(e.Seeds, report.SeedDifference{Seed: of, Difference: report.Value(found.Seeds[k][0])})
		}
	}
	return e, nil
}
