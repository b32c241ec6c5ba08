package activities

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// runDPO trains a role's adapter further on its preference pairs (equations 5
// and 6). The policy starts at the SFT adapter; the reference is the same SFT
// model, by the log-probabilities that the reference stage computed once.
func runDPO(ctx context.Context, t *attempt, params experiments.DPOParams) (output, error) {
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	pairs, data, notes, err := pairData(ctx, t, b, params.Role)
	if err != nil {
		return output{}, err
	}
	if _, ok := t.in.Inputs["reference"]; ok {
		if err := addReference(ctx, t, &data); err != nil {
			return output{}, err
		}
	}
	data = selectPairs(data, pairs, params.PairSet)
	notes.Examples = len(data.Examples)
	// Pairs whose two sides are the same tokens have no gradient.
	if contrast(data) == 0 {
		return output{}, noPairs(ctx, t, params.PairSet, len(pairs))
	}
	adapter, err := loadAdapter(ctx, t, b, "sft")
	if err != nil {
		return output{}, err
	}
	adapter.Config.Dropout = params.LoRA.Dropout
	config := trainConfig(b, t.in.Memory, params.Training, params.LearningRate, params.Seed)
	config.Batching = lm.Batching(params.Batching)
	config.Loss = lm.Loss{
		Kind: lm.LossKind(params.Loss), Beta: params.Beta,
		LabelSmoothing: params.LabelSmoothing, Gamma: params.SimPOGamma,
		SFTWeight: params.SFTWeight, Desirable: params.DesirableWeight, Undesirable: params.UndesirableWeight,
	}
	out, err := trainAdapter(ctx, t, b, adapter, data, config, notes)
	if err != nil {
		return out, err
	}
	steps, err := results.ReadRows[results.Step](results.Dir(filepath.Dir(out.files[results.FileMetrics])), results.FileMetrics)
	if err != nil {
		return out, err
	}
	if w := results.Moved(steps, params.Beta, params.Loss.NeedsReference()).Warning(); w != "" {
		t.log.Warn().Msg(w) // and the report says so; the artifact has the record that it follows from
	}
	if oneClass(params.Role, pairs, params.PairSet) {
		t.suspicious(out.metrics, "one_class", len(data.Examples), "all pairs want the same strategy: the model learns to plan that one alone")
	}
	return out, nil
}

// readPairs loads the mined pairs.
func readPairs(ctx context.Context, t *attempt) ([]esc.Pair, error) {
	dir, err := t.input(ctx, "mine")
	if err != nil {
		return nil, err
	}
	return results.ReadPairs(results.Dir(dir))
}

// pairData reads the mined pairs and encodes each: chosen and rejected share their prompt. An
// example without sequences stands for a pair that is too long, so that the
// examples stay in step with the pairs.
func pairData(ctx context.Context, t *attempt, b *models.Backbone, role esc.Role) (pairs []esc.Pair, data lm.Dataset, notes results.DataNotes, err error) {
	if pairs, err = readPairs(ctx, t); err != nil {
		return nil, data, notes, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTrain)
	if err != nil {
		return nil, data, notes, err
	}
	turns := map[esc.Place]esc.Turn{}
	for _, turn := range esc.AllTurns(corpus[results.FileTrain]) {
		turns[turn.Place()] = turn
	}
	e, err := b.Encoder(role)
	if err != nil {
		return nil, data, notes, err
	}
	data.Examples = make([]lm.Example, len(pairs))
	for i, p := range pairs {
		turn, ok := turns[p.Place()]
		if !ok {
			return nil, data, notes, badInput(fmt.Errorf("pair %d: the corpus has no turn %d in dialogue %d", i, p.Turn, p.Dialogue))
		}
		chosen, rejected, err := e.Prompts.Examples(p, turn)
		if err != nil {
			return nil, data, notes, badInput(err)
		}
		sequences, ok, err := e.Answers(turn, chosen.Answer, rejected.Answer)
		if err != nil {
			return nil, data, notes, badInput(err)
		}
		data.Examples[i] = lm.Example{Group: models.Group(p.Dialogue)}
		if ok {
			data.Examples[i].Sequences = sequences
		}
	}
	return pairs, data, results.DataNotes{Examples: len(pairs) - e.Skipped, Trimmed: e.Trimmed, Skipped: e.Skipped}, nil
}

// selectPairs keeps the examples of a pair set that fit the limits.
func selectPairs(data lm.Dataset, pairs []esc.Pair, set esc.PairSet) lm.Dataset {
	var kept lm.Dataset
	for i, e := range data.Examples {
		if len(e.Sequences) == 0 || !set.Has(pairs[i]) {
			continue
		}
		kept.Examples = append(kept.Examples, e)
	}
	return kept
}
