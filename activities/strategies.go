package activities

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
)

// runStrategies scores the eight strategies at the test turns that a system
// replies to, by the model that chooses them.
func runStrategies(ctx context.Context, t *attempt, params experiments.StrategiesParams) (output, error) {
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTest)
	if err != nil {
		return output{}, err
	}
	adapter, err := loadAdapter(ctx, t, b, string(params.Role))
	if err != nil {
		return output{}, err
	}
	planner, err := b.Planner(params.Role, adapter, lm.LogProbsOptions{Native: true})
	if err != nil {
		return output{}, err
	}
	defer planner.Close()

	turns := drawTurns(esc.AllTurns(corpus[results.FileTest]), params.MaxTurns, params.Seed)
	rows, err := makeRows(ctx, t, "strategies", 1, turns, func(ctx context.Context, turns []esc.Turn, done func(int)) ([]results.StrategyScores, error) {
		scores, err := planner.Score(ctx, turns)
		if err != nil {
			return nil, err
		}
		rows := make([]results.StrategyScores, len(turns))
		for i, turn := range turns {
			rows[i] = results.StrategyScores{Place: turn.Place(), GoldStrategy: turn.Strategy.String(), LogProbabilities: scores[i]}
			for s, name := range scores[i] {
				if slices.ContainsFunc(name, func(p float32) bool { return math.IsNaN(float64(p)) || math.IsInf(float64(p), 0) }) {
					return nil, fmt.Errorf("dialogue %d, turn %d: log-probabilities %v of %s: %w", turn.Dialogue, turn.Index, name, esc.Strategy(s), lm.ErrNonFinite)
				}
			}
			done(0)
		}
		return rows, nil
	})
	if err != nil {
		return output{}, err
	}
	mass := 0.0
	for _, row := range rows.all {
		mass += row.Mass() / float64(len(rows.all))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{"turns": float64(len(rows.all)), "mass": mass}}
	if out.files[results.FileStrategyScores], err = t.create(results.FileStrategyScores, rows.write); err != nil {
		return output{}, err
	}
	out.files[results.FileStrategyNames], err = t.createJSON(results.FileStrategyNames, results.StrategyNames{Tokens: planner.Names})
	return out, err
}
