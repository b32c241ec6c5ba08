package activities

import (
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// SFT trains one role's adapter on the train split (equations 3 and 4).
func (a *Activities) SFT(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.sft)
}

func (a *Activities) sft(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.SFTParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTrain, results.FileValid)
	if err != nil {
		return output{}, err
	}
	train, trainNotes, err := k.sftData(esc.Role(params.Role), esc.AllTurns(corpus[results.FileTrain]))
	if err != nil {
		return output{}, badInput(err)
	}
	valid, _, err := k.sftData(esc.Role(params.Role), esc.AllTurns(corpus[results.FileValid]))
	if err != nil {
		return output{}, badInput(err)
	}
	adapter, err := lm.NewAdapter(k.model.Config, loraOf(params.LoRA), params.Seed)
	if err != nil {
		return output{}, badInput(err)
	}
	config := k.trainConfig(params.Training, params.LearningRate, params.Seed)
	config.Loss = lm.Loss{Kind: lm.LossSFT}
	train.Validation = valid.Examples
	return t.trainAdapter(ctx, k, adapter, train, config, trainNotes)
}

// sftData encodes turns as the role's examples.
func (k *kernel) sftData(role esc.Role, turns []esc.Turn) (lm.Dataset, results.DataNotes, error) {
	e, err := newEncoder(k.tok, k.params, role)
	if err != nil {
		return lm.Dataset{}, results.DataNotes{}, err
	}
	var data lm.Dataset
	for _, turn := range turns {
		sequences, ok, err := e.answers(turn, esc.Answer(role, turn.Strategy, turn.Response))
		if err != nil {
			return lm.Dataset{}, results.DataNotes{}, err
		}
		if ok {
			data.Examples = append(data.Examples, lm.Example{Group: group(turn.Dialogue), Sequences: sequences})
		}
	}
	return data, results.DataNotes{Examples: len(data.Examples), Trimmed: e.trimmed, Skipped: e.skipped}, nil
}

// loraOf translates the experiment's adapter into the kernel's.
func loraOf(l experiments.LoRA) lm.LoRA {
	return lm.LoRA{Rank: l.Rank, Alpha: l.Alpha, Dropout: l.Dropout, Targets: l.Targets, RSLoRA: l.RSLoRA}
}

// trainConfig translates the experiment's training into the kernel's. The
// random counters are rooted in the experiment's seed and the kind of work,
// not in the order of calls.
func (k *kernel) trainConfig(p experiments.Training, learningRate float64, seed uint64) lm.TrainConfig {
	return lm.TrainConfig{
		Seed:         seed,
		Epochs:       p.Epochs,
		MaxSteps:     p.MaxSteps,
		BatchSize:    p.BatchSize,
		LearningRate: learningRate,
		Schedule:     lm.Schedule(p.Schedule),
		WarmupRatio:  p.WarmupRatio,
		WeightDecay:  p.WeightDecay,
		ClipNorm:     p.MaxGradNorm,
		Packing:      lm.Packing(k.params.Packing),
		// One micro-batch is at most pack_tokens; its rows are shorter, since
		// attention costs the square of a row.
		MicroBatchTokens: k.params.PackTokens,
	}
}

// trainAdapter trains and puts the adapter and its record into the artifact.
func (t *attempt) trainAdapter(ctx context.Context, k *kernel, adapter *lm.Adapter, train lm.Dataset, config lm.TrainConfig, notes results.DataNotes) (output, error) {
	if len(train.Examples) == 0 {
		return output{}, badInput(fmt.Errorf("nothing to train on: every example is longer than limits.max_tokens (%d)", k.params.MaxTokens))
	}
	trainer, err := lm.NewTrainer(k.engine, k.model, adapter, train, config)
	if err != nil {
		return output{}, err
	}
	defer trainer.Close()
	out, err := t.train(ctx, trainer, len(train.Validation) > 0, notes)
	if err != nil {
		return output{}, err
	}
	trained, err := trainer.Adapter()
	if err != nil {
		return output{}, err
	}
	return out, t.saveAdapter(trained, out)
}
