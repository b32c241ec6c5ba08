package activities

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/results"
)

// runQuality scores the chosen and the rejected responses of mined pairs.
func runQuality(ctx context.Context, t *attempt, params experiments.QualityParams) (output, error) {
	dir, err := t.input(ctx, "mine", results.FilePairs)
	if err != nil {
		return output{}, err
	}
	pairs, err := results.ReadPairs(results.Dir(dir))
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTrain)
	if err != nil {
		return output{}, err
	}
	j, err := openJudge(ctx, t, params.JudgeModel)
	if err != nil {
		return output{}, err
	}
	ofTurn := map[esc.Place][]esc.Pair{}
	for _, p := range drawPairs(pairs, params.Samples, params.Seed) {
		at := p.Place()
		ofTurn[at] = append(ofTurn[at], p)
	}
	var turns []esc.Turn
	for _, turn := range esc.AllTurns(corpus[results.FileTrain]) {
		if len(ofTurn[turn.Place()]) > 0 {
			turns = append(turns, turn)
		}
	}
	rows, err := judgedRows(ctx, t, "quality", turns, func(ctx context.Context, turn esc.Turn) ([]results.ScoredPair, error) {
		var rows []results.ScoredPair
		for _, p := range ofTurn[turn.Place()] {
			row, err := scorePair(ctx, j, turn, p)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		return rows, nil
	})
	if err != nil {
		return output{}, err
	}
	sum, example := results.SumScoredPairs(j.Name(), params.Role, rows.all)
	if err := tooFewVerdicts(t, sum.Unjudged, len(rows.all), "pairs", example); err != nil {
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{"pairs": float64(sum.Samples)}}
	if sum.Samples > 0 {
		out.metrics["empathy_chosen"], out.metrics["empathy_rejected"] = sum.Chosen.Empathy, sum.Rejected.Empathy
	}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[results.FileScoredPairs], err = t.create(results.FileScoredPairs, rows.write); err != nil {
		return output{}, err
	}
	out.files[results.FileQuality], err = t.createJSON(results.FileQuality, sum)
	return out, err
}

// drawPairs keeps n pairs, drawn by the seed and each pair's place, in their
// order; 0 keeps all.
func drawPairs(pairs []esc.Pair, n int, seed uint64) []esc.Pair {
	if n <= 0 || n >= len(pairs) {
		return pairs
	}
	positions := make([]int, len(pairs))
	keys := make([][32]byte, len(pairs))
	for i, p := range pairs {
		positions[i], keys[i] = i, esc.Draw(seed, "quality", uint64(p.Dialogue), uint64(p.Turn), uint64(p.Draw))
	}
	slices.SortFunc(positions, func(a, b int) int {
		return cmp.Or(bytes.Compare(keys[a][:], keys[b][:]), cmp.Compare(a, b))
	})
	positions = positions[:n]
	slices.Sort(positions)
	kept := make([]esc.Pair, n)
	for i, at := range positions {
		kept[i] = pairs[at]
	}
	return kept
}

// scorePair scores both sides under their strategies. A pair of which one side
// has no verdict gives a row that says so.
func scorePair(ctx context.Context, j judge.Judge, turn esc.Turn, p esc.Pair) (results.ScoredPair, error) {
	row := results.ScoredPair{Place: p.Place(), Draw: p.Draw}
	var scores [2]judge.Scores
	for i, side := range []struct {
		strategy esc.Strategy
		response string
	}{{p.Gold, p.Chosen}, {p.Strategy, p.Rejected}} {
		var err error
		scores[i], err = j.Score(ctx, judge.Request{
			Context: turn.Context, Gold: esc.NoStrategy, Strategy: side.strategy, Response: side.response, Reference: turn.Response,
		})
		if errors.Is(err, judge.ErrUnusable) {
			row.Problem = err.Error()
			return row, nil
		}
		if err != nil {
			return row, err
		}
	}
	row.Chosen, row.Rejected = scores[0], scores[1]
	return row, nil
}
