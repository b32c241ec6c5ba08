package activities

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
)

// Files of the scores of preference pairs.
const (
	fileScoredPairs = "quality.jsonl"
	fileQuality     = "quality.json"
)

// scoredPair is a preference pair with the judge's scores of its two responses.
type scoredPair struct {
	Dialogue int          `json:"dialogue"` // of the train split
	Turn     int          `json:"turn"`
	Draw     int          `json:"draw"`
	Chosen   judge.Scores `json:"chosen"`
	Rejected judge.Scores `json:"rejected"`
	// Problem says why the judge gave no verdict; such a pair counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// quality sums the scores of a role's pairs up (Table 2).
type quality struct {
	Judge    string           `json:"judge"`
	Role     experiments.Role `json:"role"`
	Samples  int              `json:"samples"` // pairs with a verdict
	Chosen   judge.Scores     `json:"chosen"`  // means
	Rejected judge.Scores     `json:"rejected"`
	// Unjudged counts the pairs without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// runQuality scores the chosen and the rejected responses of mined pairs.
func runQuality(ctx context.Context, t *attempt, params experiments.QualityParams) (output, error) {
	dir, err := t.input(ctx, "mine", filePairs)
	if err != nil {
		return output{}, err
	}
	data, err := os.ReadFile(filepath.Join(dir, filePairs))
	if err != nil {
		return output{}, err
	}
	pairs, err := esc.ReadPairs(filePairs, bytes.NewReader(data))
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, fileTrain)
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
	for _, turn := range esc.AllTurns(corpus[fileTrain]) {
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
	all, err := decodeRows[scoredPair](rows)
	if err != nil {
		return output{}, err
	}
	sum := quality{Judge: j.Name(), Role: params.Role}
	example := sum.add(all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "pairs", example); err != nil {
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"pairs": float64(sum.Samples), "empathy_chosen": sum.Chosen.Empathy, "empathy_rejected": sum.Rejected.Empathy,
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[fileScoredPairs], err = t.create(fileScoredPairs, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	out.files[fileQuality], err = t.createJSON(fileQuality, sum)
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
func scorePair(ctx context.Context, j judge.Judge, turn esc.Turn, p esc.Pair) (scoredPair, error) {
	row := scoredPair{Dialogue: p.Dialogue, Turn: p.Turn, Draw: p.Draw}
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

// add gives the means; example is the first pair without a verdict.
func (q *quality) add(all []scoredPair) (example string) {
	for _, one := range all {
		if one.Problem != "" {
			if q.Unjudged++; q.Unjudged == 1 {
				example = fmt.Sprintf("train dialogue %d, turn %d: %s", one.Dialogue, one.Turn, one.Problem)
			}
		}
	}
	q.Samples = len(all) - q.Unjudged
	for _, one := range all {
		if one.Problem == "" {
			addShare(&q.Chosen, one.Chosen, q.Samples)
			addShare(&q.Rejected, one.Rejected, q.Samples)
		}
	}
	return example
}
