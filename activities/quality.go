package activities

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Quality scores the chosen and the rejected responses of mined pairs.
func (a *Activities) Quality(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.quality)
}

func (a *Activities) quality(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.QualityParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	dir, err := t.input(ctx, "mine", results.FilePairs)
	if err != nil {
		return output{}, err
	}
	data, err := os.ReadFile(filepath.Join(dir, results.FilePairs))
	if err != nil {
		return output{}, err
	}
	pairs, err := esc.ReadPairs(results.FilePairs, bytes.NewReader(data))
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTrain)
	if err != nil {
		return output{}, err
	}
	j, err := t.judge(ctx, params.JudgeModel)
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
	rows, err := t.judgedRows(ctx, "quality", turns, func(ctx context.Context, turn esc.Turn) ([]any, error) {
		var rows []any
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
	all, err := results.DecodeRows[results.ScoredPair](rows)
	if err != nil {
		return output{}, err
	}
	sum, example := results.SumScoredPairs(j.Name(), params.Role, all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "pairs", example); err != nil {
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"pairs": float64(sum.Samples), "empathy_chosen": sum.Chosen.Empathy, "empathy_rejected": sum.Rejected.Empathy,
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[results.FileScoredPairs], err = t.create(results.FileScoredPairs, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
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
		scores[i], err = j.Score(ctx, judge.Request{Context: turn.Context, Gold: esc.NoStrategy, Strategy: side.strategy, Response: side.response})
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
