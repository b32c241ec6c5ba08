package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Reference computes the reference's log-probabilities of all pairs of a
// role, once for every loss, beta and pair set that trains on them.
func (a *Activities) Reference(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.reference)
}

func (a *Activities) reference(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.ReferenceParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	pairs, data, notes, err := t.pairData(ctx, k, esc.Role(params.Role))
	if err != nil {
		return output{}, err
	}
	adapter, err := t.adapter(ctx, k, "sft")
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
	meter := t.meter("reference", 0, len(examples))
	sums := make([][]float64, len(pairs))
	scores, err := lm.LogProbs(ctx, k.engine, k.model, adapter, examples, lm.LogProbsOptions{
		Packing: lm.Packing(params.Packing), MicroBatchTokens: params.PackTokens,
		Progress: func(done, _ int) { meter.step(ctx, done, 0, 0, 0) },
	})
	if err != nil {
		return output{}, err
	}
	for i, example := range scores {
		for _, sequence := range example {
			sum := sequence.Sum()
			if math.IsNaN(sum) || math.IsInf(sum, 0) {
				err := fmt.Errorf("pair %d: log-probability %v under the SFT model: %w", index[i], sum, lm.ErrNonFinite)
				return output{}, t.keepFailure(ctx, failure{Batch: []failedSample{{index[i], group(pairs[index[i]].Dialogue)}}}, err)
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
func (t *attempt) addReference(ctx context.Context, data *lm.Dataset) error {
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
