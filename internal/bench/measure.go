package bench

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
)

// TrainingOptions say how a workload is trained.
type TrainingOptions struct {
	Packing lm.Packing
	Batch   int // examples a step
	Steps   int // measured, after one that warms up
	Rank    int // of LoRA on all seven projections, without dropout; 0 trains every weight
	Pack    int // tokens of a micro-batch; 0: lm's default
	// Recompute computes each layer's activations again on the way back rather than keep them.
	Recompute bool
	Beta      float64 // of DPO
	Seed      uint64
}

// Training is what was measured of a workload's steps.
type Training struct {
	Workload string     `json:"workload"`
	Packing  lm.Packing `json:"packing"`
	Batch    int        `json:"batch"`
	Steps    int        `json:"steps"`

	Seconds              float64 `json:"seconds"`     // of the measured steps, without compiling
	MedianStep           float64 `json:"median_step"` // seconds
	SamplesPerSecond     float64 `json:"samples_per_second"`
	TokensPerSecond      float64 `json:"tokens_per_second"`          // computed
	PlainTokensPerSecond float64 `json:"tokens_unpacked_per_second"` // of the sequences as they are

	Tokens         int `json:"tokens"` // of the measured steps: computed
	TokensPadded   int `json:"tokens_padded"`
	TokensUnpacked int `json:"tokens_unpacked"`
	Labels         int `json:"labels"`

	FLOP        float64 `json:"flop"` // of the measured steps, see FLOP
	FLOPS       float64 `json:"flops"`
	ShareOfPeak float64 `json:"share_of_peak,omitempty"` // of the machine's measured peak, which the caller fills in

	CompileSeconds float64 `json:"compile_seconds"` // what first steps of a shape took longer than the same step again
	Compiled       int     `json:"compiled_shapes"` // graphs compiled: one a shape met, and the optimizer's
	Planned        int     `json:"planned_shapes"`  // shapes of the whole training
	PeakBytes      int64   `json:"peak_bytes"`      // resident memory of the process during this workload
	Loss           float64 `json:"loss"`            // of the last step
}

// Train takes one step to warm up and then options.Steps measured ones on a model
// of random weights. A step that compiles is undone and taken again: the second
// time counts as the step's time, and the difference as compiling.
func Train(ctx context.Context, engine *lm.Engine, model *lm.Model, w Workload, options TrainingOptions) (Training, error) {
	r := Training{Workload: w.Name, Packing: options.Packing, Batch: options.Batch, Steps: options.Steps}
	memory.ResetPeak()
	trainer, err := newTrainer(engine, model, w, options)
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.Name, err)
	}
	defer trainer.Close()
	var times []float64
	for step := range options.Steps + 1 {
		seconds, compiling, m, err := timedStep(ctx, trainer)
		if err != nil {
			return r, fmt.Errorf("%s: %w", w.Name, err)
		}
		r.CompileSeconds += compiling
		if step == 0 {
			continue
		}
		work := trainer.Work(step)
		times = append(times, seconds)
		r.Seconds += seconds
		r.Tokens += m.Tokens
		r.TokensPadded += m.TokensPadded
		r.TokensUnpacked += m.TokensUnpacked
		r.Labels += m.Labels
		r.FLOP += FLOP(model.Config, options.Rank, work)
		r.SamplesPerSecond += float64(m.Samples)
		r.Loss = m.Loss
	}
	r.SamplesPerSecond /= r.Seconds
	r.TokensPerSecond = float64(r.Tokens) / r.Seconds
	r.PlainTokensPerSecond = float64(r.TokensUnpacked) / r.Seconds
	r.FLOPS = r.FLOP / r.Seconds
	r.MedianStep = median(times)
	r.Compiled, r.Planned = trainer.CompiledShapes(), len(trainer.Shapes())
	r.PeakBytes = memory.PeakBytes()
	return r, nil
}

// Order lists a workload's examples in the order in which Train takes them in
// one pass. An export in this order gives others the same batches.
func Order(engine *lm.Engine, model *lm.Model, w Workload, options TrainingOptions) ([]int, error) {
	trainer, err := newTrainer(engine, model, w, options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Name, err)
	}
	defer trainer.Close()
	var order []int
	for step := 0; len(order) < len(w.Examples); step++ {
		order = append(order, trainer.Work(step).Examples...)
	}
	return order, nil
}

// newTrainer prepares training with what the paper's stages use, but for
// dropout.
func newTrainer(engine *lm.Engine, model *lm.Model, w Workload, options TrainingOptions) (*lm.Trainer, error) {
	if options.Batch < 1 || options.Steps < 1 {
		return nil, fmt.Errorf("%d steps of %d examples: both have to be positive", options.Steps, options.Batch)
	}
	var adapter *lm.Adapter
	if options.Rank > 0 {
		var err error
		if adapter, err = lm.NewAdapter(model.Config, lm.LoRA{Rank: options.Rank, Alpha: float64(options.Rank)}, options.Seed); err != nil {
			return nil, err
		}
	}
	loss := lm.Loss{Kind: lm.LossSFT}
	if w.Preference {
		loss = lm.Loss{Kind: lm.LossDPO, Beta: options.Beta}
	}
	perEpoch := (len(w.Examples) + options.Batch - 1) / options.Batch
	return lm.NewTrainer(engine, model, adapter, lm.Dataset{Examples: w.Examples}, lm.TrainConfig{
		Loss: loss, Epochs: options.Steps/perEpoch + 1, MaxSteps: options.Steps + 1, BatchSize: options.Batch,
		LearningRate: 1e-4, Schedule: lm.ScheduleConstant, ClipNorm: 1, Seed: options.Seed, Packing: options.Packing,
		MicroBatchTokens: options.Pack, Checkpointing: options.Recompute,
	})
}

// timedStep takes the trainer's next step, twice where the first time compiled
// something.
func timedStep(ctx context.Context, trainer *lm.Trainer) (seconds, compiling float64, m lm.StepMetrics, err error) {
	var state bytes.Buffer
	if err := trainer.Save(&state); err != nil {
		return 0, 0, m, err
	}
	before := trainer.CompiledShapes()
	if seconds, m, err = step(ctx, trainer); err != nil || trainer.CompiledShapes() == before {
		return seconds, 0, m, err
	}
	first := seconds
	if err := trainer.Restore(&state); err != nil {
		return 0, 0, m, err
	}
	seconds, m, err = step(ctx, trainer)
	return seconds, max(0, first-seconds), m, err
}

func step(ctx context.Context, trainer *lm.Trainer) (float64, lm.StepMetrics, error) {
	start := time.Now()
	m, err := trainer.Next(ctx)
	return time.Since(start).Seconds(), m, err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
