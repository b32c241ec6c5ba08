package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// runReference computes the reference's log-probabilities of all pairs of a
// role, once for every loss, beta and pair set that trains on them.
func runReference(ctx context.Context, t *attempt, params experiments.ReferenceParams) (output, error) {
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	pairs, data, notes, err := pairData(ctx, t, b, params.Role)
	if err != nil {
		return output{}, err
	}
	adapter, err := loadAdapter(ctx, t, b, "sft")
	if err != nil {
		return output{}, err
	}

	var examples []lm.Example
	var index []int
	for i, e := range data.Examples {
		if len(e.Sequences) > 0 {
			examples, index = append(examples, e), append(index, i)
		}
	}
	meter := newMeter(t, "reference", 0, len(examples))
	sums := make([][]float64, len(pairs))
	scores, err := lm.LogProbs(ctx, b.Engine, b.Model, adapter, examples, lm.LogProbsOptions{
		Packing: lm.Packing(params.Packing), MicroBatchTokens: params.PackTokens,
		Progress: func(done, _ int) { meter.step(done, 0, 0, 0) },
	})
	if err != nil {
		return output{}, err
	}
	for i, example := range scores {
		for _, sequence := range example {
			sum := sequence.Sum()
			if math.IsNaN(sum) || math.IsInf(sum, 0) {
				err := fmt.Errorf("pair %d: log-probability %v under the SFT model: %w", index[i], sum, lm.ErrNonFinite)
				return output{}, t.keepFailure(ctx, failure{Batch: []failedSample{{index[i], models.Group(pairs[index[i]].Dialogue)}}}, err)
			}
			sums[index[i]] = append(sums[index[i]], sum)
		}
	}
	path, err := t.create(results.FileReference, func(f *os.File) error {
		return results.WriteRows(f, sums)
	})
	if err != nil {
		return output{}, err
	}
	return output{
		files:   map[string]string{results.FileReference: path},
		metrics: map[string]float64{"pairs": float64(notes.Examples)},
	}, nil
}

// addReference gives each pair its reference's log-probabilities.
func addReference(ctx context.Context, t *attempt, data *lm.Dataset) error {
	dir, err := t.input(ctx, "reference")
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, results.FileReference))
	if err != nil {
		return err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	for i := range data.Examples {
		if err := d.Decode(&data.Examples[i].Reference); err != nil {
			return fmt.Errorf("%s: line %d of %d: %w", results.FileReference, i+1, len(data.Examples), err)
		}
		if got, want := len(data.Examples[i].Reference), len(data.Examples[i].Sequences); got != want {
			return fmt.Errorf("%s: line %d has %d values, the pair %d sequences", results.FileReference, i+1, got, want)
		}
	}
	return nil
}
