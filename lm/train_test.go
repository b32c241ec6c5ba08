package lm

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
)

// state is a trainer's saved state.
func state(t *testing.T, trainer *Trainer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := trainer.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// steps takes n steps and returns their losses.
func steps(t *testing.T, trainer *Trainer, n int) []float64 {
	t.Helper()
	var losses []float64
	for range n {
		m, err := trainer.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, m.Loss)
	}
	return losses
}

// TestResume: interrupted twice within an epoch and once after, a training with dropout and micro-batches ends in the
// same bytes, and goes through the same losses, as one that ran through.
func TestResume(t *testing.T) {
	engine := testEngine(t)
	for _, full := range []bool{false, true} {
		model := tinyModel(t, tinyConfig())
		var adapter *Adapter
		if !full {
			var err error
			if adapter, err = NewAdapter(model.Config, LoRA{Rank: 2, Alpha: 4, Dropout: 0.2}, 5); err != nil {
				t.Fatal(err)
			}
		}
		data := Dataset{Examples: nestedExamples(2, 6, 4, 50, false)}
		config := TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 2, BatchSize: 5, LearningRate: 1e-2, WarmupRatio: 0.2,
			WeightDecay: 0.1, ClipNorm: 1, Seed: 4, RowTokens: 30, MicroBatchTokens: 40}
		start := func() *Trainer {
			trainer, err := NewTrainer(engine, model, adapter, data, config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(trainer.Close)
			return trainer
		}
		through := start()
		if through.Steps() != 10 {
			t.Fatalf("%d steps", through.Steps())
		}
		want := steps(t, through, 10)
		if want[9] >= want[0] {
			t.Errorf("nothing learnt: loss from %v to %v", want[0], want[9])
		}
		var got []float64
		trainer := start()
		for _, n := range []int{2, 2, 3, 3} {
			got = append(got, steps(t, trainer, n)...)
			saved := state(t, trainer)
			trainer = start()
			if err := trainer.Restore(bytes.NewReader(saved)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(saved, state(t, trainer)) {
				t.Error("a restored state is saved differently")
			}
		}
		// On a GPU the embedding's gradient is added up in no order: equal training differs in the last digits.
		exact := !full || !strings.HasPrefix(engine.Name, "xla")
		for i := range want {
			if off := math.Abs(got[i] - want[i]); exact && off != 0 || off > 1e-5 {
				t.Errorf("full %v: losses %v, want %v", full, got, want)
				break
			}
		}
		if trainer.Step() != 10 || exact && !bytes.Equal(state(t, trainer), state(t, through)) {
			t.Errorf("full %v: the interrupted training ended in another state", full)
		}
		if _, err := trainer.Next(t.Context()); err == nil {
			t.Error("a step after the last one")
		}
		config.Seed++
		if err := start().Restore(bytes.NewReader(state(t, through))); err == nil || !strings.Contains(err.Error(), "configuration") {
			t.Errorf("a state of another configuration: error %v, want one that says so", err)
		}
	}
}

// TestAccumulation: many micro-batches give the large batch's loss, gradient norm and update.
func TestAccumulation(t *testing.T) {
	engine := testEngine(t)
	for _, kind := range []LossKind{LossSFT, LossDPO, LossKTO, LossKTOPair} {
		model := tinyModel(t, tinyConfig())
		data := Dataset{Examples: nestedExamples(3, 5, 4, 50, kind != LossSFT)}
		if kind == LossKTO || kind == LossKTOPair {
			nearReference(t, engine, model, data.Examples)
		}
		var results [2]StepMetrics
		var micro [2]int
		for i, tokens := range []int{1, 1 << 20} {
			trainer, err := NewTrainer(engine, model, nil, data, TrainConfig{Loss: Loss{Kind: kind, Beta: 0.2, Desirable: 1, Undesirable: 1}, Epochs: 1,
				BatchSize: 20, LearningRate: 1e-3, RowTokens: 24, MicroBatchTokens: tokens})
			if err != nil {
				t.Fatal(err)
			}
			defer trainer.Close()
			if results[i], err = trainer.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			micro[i] = results[i].MicroBatches
		}
		a, b := results[0], results[1]
		if micro[0] < 4 || micro[1] != 1 {
			t.Fatalf("%d and %d micro-batches", micro[0], micro[1])
		}
		if math.Abs(a.Loss-b.Loss) > 1e-6*(1+a.Loss) || math.Abs(a.GradNorm-b.GradNorm) > 2e-6*(1+a.GradNorm) {
			t.Errorf("%s: loss %v and %v, norm %v and %v, want the same of both", kind, a.Loss, b.Loss, a.GradNorm, b.GradNorm)
		}
	}
}

// TestPreferenceAtReference: with the policy's own log-probabilities as reference, DPO starts at log 2 with rewards 0,
// and its gradient is not zero (a softplus derived piecewise has a wrong one there). LoRA dropout is off.
func TestPreferenceAtReference(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 3, Dropout: 0.5})
	data := nestedExamples(6, 4, 4, 50, true)
	scores, err := LogProbs(t.Context(), engine, model, adapter, data, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i].Reference = []float64{scores[i][0].Sum(), scores[i][1].Sum()}
	}
	trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data, Validation: data[:3]}, TrainConfig{
		Loss: Loss{Kind: LossDPO, Beta: 0.1}, Epochs: 20, BatchSize: 8, LearningRate: 2e-2, Schedule: ScheduleConstant})
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	v, err := trainer.Validate(t.Context())
	if err != nil || math.Abs(v.Loss-math.Ln2) > 1e-6 {
		t.Errorf("validation loss %v (%v), want log 2", v.Loss, err)
	}
	m, err := trainer.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(m.Loss-math.Ln2) > 1e-6 || math.Abs(m.Preference.Margin) > 1e-5 || m.GradNorm < 1e-4 {
		t.Errorf("step 0: loss %v, want log 2; %+v; gradient norm %v", m.Loss, *m.Preference, m.GradNorm)
	}
	for trainer.Step() < trainer.Steps() {
		if m, err = trainer.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if m.Loss > 0.7*math.Ln2 || m.Preference.Accuracy < 0.9 || m.Preference.Margin < 0.5 {
		t.Errorf("after training: loss %v, %+v", m.Loss, *m.Preference)
	}
}

// TestDropout: training with dropout differs from training without, its mean gradient does not, validation ignores it.
func TestDropout(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	data := nestedExamples(2, 3, 4, 50, false)
	loss := func(rate float64, seed uint64) (float64, float64) {
		adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 1, Dropout: rate})
		trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data, Validation: data}, TrainConfig{
			Loss: Loss{Kind: LossSFT}, Epochs: 1, BatchSize: len(data), LearningRate: 1e-3, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		v, err := trainer.Validate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := trainer.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m.Loss, v.Loss
	}
	plain, want := loss(0, 1)
	if math.Abs(plain-want) > 1e-6 {
		t.Errorf("training loss %v, validation loss %v of the same data", plain, want)
	}
	sum := 0.0
	const n = 20
	for seed := range uint64(n) {
		dropped, validation := loss(0.1, seed)
		if dropped == plain || validation != want {
			t.Errorf("with dropout: loss %v (without %v), validation %v (%v)", dropped, plain, validation, want)
		}
		sum += dropped
	}
	if math.Abs(sum/n-plain) > 0.05*plain {
		t.Errorf("mean loss with dropout %v, without %v: inputs are not rescaled", sum/n, plain)
	}
}

// countdown is a context that is cancelled once it has been asked often enough.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelMidStep: wherever in a step a training is cancelled, it stands as it stood before the step, and goes on as
// if nothing had been.
func TestCancelMidStep(t *testing.T) {
	engine := testEngine(t)
	for _, kind := range []LossKind{LossSFT, LossKTO, LossKTOPair} {
		model := tinyModel(t, tinyConfig())
		data := Dataset{Examples: nestedExamples(3, 4, 4, 50, kind != LossSFT)}
		start := func() *Trainer {
			trainer, err := NewTrainer(engine, model, nil, data, TrainConfig{Loss: Loss{Kind: kind, Beta: 0.2, Desirable: 1, Undesirable: 1}, Epochs: 2,
				BatchSize: 16, LearningRate: 1e-2, RowTokens: 24, MicroBatchTokens: 30})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(trainer.Close)
			return trainer
		}
		through, trainer := start(), start()
		steps(t, through, 2)
		steps(t, trainer, 1)
		before, cancelled := state(t, trainer), 0
		for ; ; cancelled++ {
			_, err := trainer.Next(&countdown{t.Context(), cancelled})
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if !bytes.Equal(before, state(t, trainer)) {
				t.Fatalf("%s: cancelled at micro-batch %d, the step changed the state", kind, cancelled)
			}
		}
		if cancelled < 3 {
			t.Errorf("%s: %d places to cancel at", kind, cancelled)
		}
		if !bytes.Equal(state(t, through), state(t, trainer)) {
			t.Errorf("%s: the cancelled training went on to another state", kind)
		}
	}
}

// TestCheckpointingDropout: recomputed activations are dropped where the first ones were.
func TestCheckpointingDropout(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 4, Dropout: 0.3})
	data := nestedExamples(2, 3, 4, 50, false)
	c := TrainConfig{Loss: Loss{Kind: LossSFT}, MicroBatchTokens: 64}
	plain, gp := gradientOf(t, engine, model, adapter, data, c)
	c.Checkpointing = true
	again, ga := gradientOf(t, engine, model, adapter, data, c)
	sameGradients(t, "checkpointing", plain, again, gp, ga)
}

func TestTrainerErrors(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	good := nestedExamples(1, 2, 2, 50, false)
	config := TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 1, BatchSize: 2, LearningRate: 1e-3}
	check := func(want string, data []Example, c TrainConfig) {
		t.Helper()
		if _, err := NewTrainer(engine, model, nil, Dataset{Examples: data}, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	with := func(s Sequence) []Example { return append(slices.Clone(good), Example{Sequences: []Sequence{s}}) }
	check("no training examples", nil, config)
	check("example 4, sequence 0: token id 50", with(Sequence{Tokens: []int32{1, 50}, LossFrom: 1}), config)
	check("example 4, sequence 0: no labelled token", with(Sequence{Tokens: []int32{1, 2}, LossFrom: 2}), config)
	check("max_position_embeddings", with(Sequence{Tokens: make([]int32, 300), LossFrom: 1}), config)
	bad := config
	bad.Loss = Loss{Kind: LossDPO, Beta: 0.1}
	check("takes pairs", good, bad)
	bad.Loss = Loss{Kind: "orpo"}
	check("orpo", good, bad)
	bad = config
	bad.Packing = "rows"
	check("packing", good, bad)
	bad = config
	bad.Batching = "sorted"
	check("batching", good, bad)
	var long *TooLongError
	if _, err := NewTrainer(engine, model, nil, Dataset{Examples: with(Sequence{Tokens: make([]int32, 300), LossFrom: 1})}, config); !errors.As(err, &long) || long.Example != 4 {
		t.Errorf("error %v is no TooLongError", err)
	}

	trainer, err := NewTrainer(engine, model, nil, Dataset{Examples: good}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	before := state(t, trainer)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trainer.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled step: error %v, want context.Canceled", err)
	}
	if !bytes.Equal(before, state(t, trainer)) {
		t.Error("a cancelled step changed the state")
	}
	steps(t, trainer, 1)

	broken := tinyModel(t, tinyConfig())
	tensors.MustMutableFlatData(broken.weights["model.norm.weight"], func(flat []float32) { flat[0] = float32(math.NaN()) })
	trainer, err = NewTrainer(engine, broken, nil, Dataset{Examples: good}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	before = state(t, trainer)
	for range 2 {
		_, err := trainer.Next(t.Context())
		var diverged *DivergedError
		if !errors.Is(err, ErrNonFinite) || !errors.As(err, &diverged) {
			t.Fatalf("training on NaN: error %v, want a DivergedError of ErrNonFinite", err)
		}
		if !diverged.Intact || diverged.Metrics.Step != 1 || !math.IsNaN(diverged.Metrics.Loss) || len(diverged.Batch) == 0 {
			t.Errorf("what is said of the step: %+v", diverged)
		}
	}
	if !bytes.Equal(before, state(t, trainer)) {
		t.Error("the loss was no number before the update, and yet the state is not the one before the step")
	}
	if _, err := trainer.Model(); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a broken model was given out: error %v, want ErrNonFinite", err)
	}
}

// TestExploded: a norm from which no training recovers ends it, clipped or not,
// and the weights after that step are given to nobody.
func TestExploded(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	tensors.MustMutableFlatData(model.weights["model.norm.weight"], func(flat []float32) {
		for i := range flat {
			flat[i] *= 1e9
		}
	})
	config := TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 2, BatchSize: 4, LearningRate: 1e-3, ClipNorm: 1}
	trainer, err := NewTrainer(engine, model, nil, Dataset{Examples: nestedExamples(2, 4, 3, 50, false)}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	_, err = trainer.Next(t.Context())
	var diverged *DivergedError
	if !errors.Is(err, ErrExploded) || !errors.As(err, &diverged) {
		t.Fatalf("training with gradients of 1e9: error %v, want a DivergedError of ErrExploded", err)
	}
	if diverged.Intact || diverged.Metrics.GradNorm <= explodedNorm || len(diverged.Batch) != 4 {
		t.Errorf("what is said of the step: %+v", diverged)
	}
	if err := trainer.Save(&bytes.Buffer{}); !errors.Is(err, ErrExploded) {
		t.Errorf("the state after the step was saved: error %v, want ErrExploded", err)
	}
}
