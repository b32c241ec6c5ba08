package activities

import (
	"context"
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// runSFT trains one role's adapter on the train split (equations 3 and 4).
func runSFT(ctx context.Context, t *attempt, params experiments.SFTParams) (output, error) {
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTrain, results.FileValid)
	if err != nil {
		return output{}, err
	}
	train, trainNotes, err := sftData(b, params.Role, esc.AllTurns(corpus[results.FileTrain]))
	if err != nil {
		return output{}, badInput(err)
	}
	valid, _, err := sftData(b, params.Role, esc.AllTurns(corpus[results.FileValid]))
	if err != nil {
		return output{}, badInput(err)
	}
	adapter, err := lm.NewAdapter(b.Model.Config, loraOf(params.LoRA), params.Seed)
	if err != nil {
		return output{}, badInput(err)
	}
	config := trainConfig(b, t.in.Memory, params.Training, params.LearningRate, params.Seed)
	config.Batching = lm.Batching(params.Batching)
	config.Loss = lm.Loss{Kind: lm.LossSFT}
	train.Validation = valid.Examples
	return trainAdapter(ctx, t, b, adapter, train, config, trainNotes)
}

// sftData encodes turns as the role's examples.
func sftData(b *models.Backbone, role esc.Role, turns []esc.Turn) (lm.Dataset, results.DataNotes, error) {
	e, err := b.Encoder(role)
	if err != nil {
		return lm.Dataset{}, results.DataNotes{}, err
	}
	var data lm.Dataset
	for _, turn := range turns {
		sequences, ok, err := e.Answers(turn, e.Prompts.Answer(role, turn.Strategy, turn.Response))
		if err != nil {
			return lm.Dataset{}, results.DataNotes{}, err
		}
		if ok {
			data.Examples = append(data.Examples, lm.Example{Group: models.Group(turn.Dialogue), Sequences: sequences})
		}
	}
	return data, results.DataNotes{Examples: len(data.Examples), Trimmed: e.Trimmed, Skipped: e.Skipped}, nil
}

// loraOf translates the experiment's adapter into that of lm.
func loraOf(l experiments.LoRA) lm.LoRA {
	return lm.LoRA{Rank: l.Rank, Alpha: l.Alpha, Dropout: l.Dropout, Targets: l.Targets, RSLoRA: l.RSLoRA}
}

// trainConfig translates the experiment's training into that of lm. The
// random counters are rooted in the experiment's seed and the kind of work,
// not in the order of calls.
func trainConfig(b *models.Backbone, keep experiments.Memory, p experiments.Training, learningRate float64, seed uint64) lm.TrainConfig {
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
		Packing:      lm.Packing(b.Params.Packing),
		// One micro-batch is at most pack_tokens; its rows are shorter, since
		// attention costs the square of a row.
		MicroBatchTokens: b.Params.PackTokens,
		Checkpointing:    keep == experiments.MemoryRecompute,
		MemoryLimit:      memoryLimit(b.Engine, keep),
	}
}

// freeShare is how much of the free memory a training's own tensors may take: temporary ones come on top of them.
const freeShare = 0.7

// memoryLimit is what a training may take before it computes layers again on the way back; 0: whatever it takes. What
// is free on a device of its own is not known here.
func memoryLimit(engine *lm.Engine, keep experiments.Memory) int64 {
	if keep == experiments.MemoryKeep || keep == experiments.MemoryRecompute || strings.HasPrefix(engine.Name, "xla:cuda") {
		return 0
	}
	return int64(freeShare * float64(memory.AvailableBytes()))
}

// trainAdapter trains and puts the adapter and its record into the artifact.
func trainAdapter(ctx context.Context, t *attempt, b *models.Backbone, adapter *lm.Adapter, train lm.Dataset, config lm.TrainConfig, notes results.DataNotes) (output, error) {
	if len(train.Examples) == 0 {
		return output{}, badInput(fmt.Errorf("nothing to train on: every example is longer than limits.max_tokens (%d)", b.Params.MaxTokens))
	}
	trainer, err := lm.NewTrainer(b.Engine, b.Model, adapter, train, config)
	if err != nil {
		return output{}, err
	}
	defer trainer.Close()
	out, err := runTraining(ctx, t, trainer, len(train.Validation) > 0, notes)
	if err != nil {
		return output{}, err
	}
	trained, err := trainer.Adapter()
	if err != nil {
		return output{}, err
	}
	return out, saveAdapter(t, trained, out)
}
