package activities

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// DPO trains a role's adapter further on its preference pairs (equations 5
// and 6). The policy starts at the SFT adapter; the reference is the same SFT
// model, by the log-probabilities that the reference stage computed once.
func (a *Activities) DPO(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.dpo)
}

func (a *Activities) dpo(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.DPOParams](t.in.Stage)
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
	if _, ok := t.in.Inputs["reference"]; ok {
		if err := t.addReference(ctx, &data); err != nil {
			return output{}, err
		}
	}
	data = selectPairs(data, pairs, params.PairSet)
	notes.Examples = len(data.Examples)
	// Pairs whose two sides are the same tokens have no gradient.
	if contrast(data) == 0 {
		return output{}, t.noPairs(ctx, params.PairSet, len(pairs))
	}
	adapter, err := t.adapter(ctx, k, "sft")
	if err != nil {
		return output{}, err
	}
	adapter.Config.Dropout = params.LoRA.Dropout
	config := k.trainConfig(params.Training, params.LearningRate, params.Seed)
	config.Loss = lm.Loss{
		Kind: lm.LossKind(params.Loss), Beta: params.Beta,
		LabelSmoothing: params.LabelSmoothing, Gamma: params.SimPOGamma,
	}
	out, err := t.trainAdapter(ctx, k, adapter, data, config, notes)
	if err == nil && oneClass(esc.Role(params.Role), pairs, params.PairSet) {
		t.suspicious(out.metrics, "one_class", len(data.Examples), "all pairs want the same strategy: the model learns to plan that one alone")
	}
	return out, err
}

// readPairs loads the mined pairs.
func (t *attempt) readPairs(ctx context.Context) ([]esc.Pair, error) {
	dir, err := t.input(ctx, "mine")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, results.FilePairs))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return esc.ReadPairs(results.FilePairs, f)
}

// pairData reads the mined pairs and encodes each: chosen and rejected share their prompt. An
// example without sequences stands for a pair that is too long, so that the
// examples stay in step with the pairs.
func (t *attempt) pairData(ctx context.Context, k *kernel, role esc.Role) (pairs []esc.Pair, data lm.Dataset, notes results.DataNotes, err error) {
	if pairs, err = t.readPairs(ctx); err != nil {
		return nil, data, notes, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTrain)
	if err != nil {
		return nil, data, notes, err
	}
	turns := map[esc.Place]esc.Turn{}
	for _, turn := range esc.AllTurns(corpus[results.FileTrain]) {
		turns[turn.Place()] = turn
	}
	e, err := newEncoder(k.tok, k.params, role)
	if err != nil {
		return nil, data, notes, err
	}
	data.Examples = make([]lm.Example, len(pairs))
	for i, p := range pairs {
		turn, ok := turns[p.Place()]
		if !ok {
			return nil, data, notes, badInput(fmt.Errorf("pair %d: the corpus has no turn %d in dialogue %d", i, p.Turn, p.Dialogue))
		}
		chosen, rejected, err := e.prompts.Examples(p, turn)
		if err != nil {
			return nil, data, notes, badInput(err)
		}
		sequences, ok, err := e.answers(turn, chosen.Answer, rejected.Answer)
		if err != nil {
			return nil, data, notes, badInput(err)
		}
		data.Examples[i] = lm.Example{Group: group(p.Dialogue)}
		if ok {
			data.Examples[i].Sequences = sequences
		}
	}
	return pairs, data, results.DataNotes{Examples: len(pairs) - e.skipped, Trimmed: e.trimmed, Skipped: e.skipped}, nil
}

// selectPairs keeps the examples of a pair set that fit the limits.
func selectPairs(data lm.Dataset, pairs []esc.Pair, set experiments.PairSet) lm.Dataset {
	var kept lm.Dataset
	for i, e := range data.Examples {
		if len(e.Sequences) == 0 || set != experiments.PairsAll && string(pairs[i].Kind) != string(set) {
			continue
		}
		kept.Examples = append(kept.Examples, e)
	}
	return kept
}
