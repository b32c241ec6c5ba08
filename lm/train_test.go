package lm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
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
		if !slices.Equal(got, want) {
			t.Errorf("full %v: losses %v, want %v", full, got, want)
		}
		if trainer.Step() != 10 || !bytes.Equal(state(t, trainer), state(t, through)) {
			t.Errorf("full %v: the interrupted training ended in another state", full)
		}
		if _, err := trainer.Next(t.Context()); err == nil {
			t.Error("a step after the last one")
		}
		config.Seed++
		if err := start().Restore(bytes.NewReader(state(t, through))); err == nil || !strings.Contains(err.Error(), "configuration") {
			t.Errorf("a state of another configuration was restored: %v", err)
		}
	}
}

// TestAccumulation: many micro-batches give the large batch's loss, gradient norm and update.
func TestAccumulation(t *testing.T) {
	engine := testEngine(t)
	for _, kind := range []LossKind{LossSFT, LossDPO} {
		model := tinyModel(t, tinyConfig())
		data := Dataset{Examples: nestedExamples(3, 5, 4, 50, kind == LossDPO)}
		var results [2]StepMetrics
		var micro [2]int
		for i, tokens := range []int{1, 1 << 20} {
			trainer, err := NewTrainer(engine, model, nil, data, TrainConfig{Loss: Loss{Kind: kind, Beta: 0.2}, Epochs: 1,
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
			t.Errorf("%s: loss %v and %v, norm %v and %v", kind, a.Loss, b.Loss, a.GradNorm, b.GradNorm)
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
	if m.Loss > 0.5*math.Ln2 || m.Preference.Accuracy < 0.9 || m.Preference.Margin < 1 {
		t.Errorf("after training: loss %v, %+v", m.Loss, *m.Preference)
	}
}

// TestLossesByHand computes every loss from log-probabilities in plain Go.
func TestLossesByHand(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	data := nestedExamples(8, 3, 3, 50, true)
	scores, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	logSigmoid := func(x float64) float64 { return -math.Log1p(math.Exp(-x)) }
	mean := func(f func(i int) float64) float64 {
		sum := 0.0
		for i := range data {
			sum += f(i)
		}
		return sum / float64(len(data))
	}
	sum := func(i, j int) float64 { return scores[i][j].Sum() }
	length := func(i, j int) float64 { return float64(len(scores[i][j].Tokens)) }
	ratio := func(i, j int) float64 { return sum(i, j) - data[i].Reference[j] }
	labels := 0.0
	for i := range data {
		labels += length(i, 0)
	}
	sft := slices.Clone(data)
	for i := range sft {
		sft[i].Sequences, sft[i].Reference = sft[i].Sequences[:1], nil
	}
	for _, c := range []struct {
		loss Loss
		want float64
	}{
		{Loss{Kind: LossSFT}, -mean(func(i int) float64 { return sum(i, 0) }) * float64(len(data)) / labels},
		{Loss{Kind: LossDPO, Beta: 0.4}, -mean(func(i int) float64 { return logSigmoid(0.4 * (ratio(i, 0) - ratio(i, 1))) })},
		{Loss{Kind: LossDPO, Beta: 0.4, LabelSmoothing: 0.2}, -mean(func(i int) float64 {
			x := 0.4 * (ratio(i, 0) - ratio(i, 1))
			return 0.8*logSigmoid(x) + 0.2*logSigmoid(-x)
		})},
		{Loss{Kind: LossIPO, Beta: 0.4}, mean(func(i int) float64 {
			x := ratio(i, 0)/length(i, 0) - ratio(i, 1)/length(i, 1) - 1/(2*0.4)
			return x * x
		})},
		{Loss{Kind: LossSimPO, Beta: 2, Gamma: 0.7}, -mean(func(i int) float64 {
			return logSigmoid(2*(sum(i, 0)/length(i, 0)-sum(i, 1)/length(i, 1)) - 0.7)
		})},
	} {
		examples := data
		if c.loss.Kind == LossSFT {
			examples = sft
		}
		m, _ := gradientOf(t, engine, model, nil, examples, TrainConfig{Loss: c.loss})
		if math.Abs(m.Loss-c.want) > 2e-6*(1+math.Abs(c.want)) {
			t.Errorf("%+v: loss %v, want %v", c.loss, m.Loss, c.want)
		}
	}
}

// TestGradientByDifferences checks the gradient against central differences of the loss, along random directions.
func TestGradientByDifferences(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	config.ModelType = "qwen2"
	model := tinyModel(t, config)
	data := nestedExamples(9, 2, 3, 50, true)
	c := TrainConfig{Loss: Loss{Kind: LossDPO, Beta: 0.3}}
	_, gradients := gradientOf(t, engine, model, nil, data, c)
	parameters := model.Config.parameters()
	for i, p := range parameters {
		const h = 1e-2
		direction, norm, slope := make([]float32, shapeSize(p.shape)), 0.0, 0.0
		s := newStream(1, uint64(i))
		for j := range direction {
			direction[j] = float32(s.normal())
			norm += float64(direction[j]) * float64(direction[j])
		}
		var losses [2]float64
		for side, sign := range []float32{-1, 1} {
			moved := &Model{Config: model.Config, rope: model.rope, weights: map[string]*tensors.Tensor{}}
			for name, w := range model.weights {
				moved.weights[name] = w
			}
			values, err := floats(model.weights[p.name])
			if err != nil {
				t.Fatal(err)
			}
			for j := range values {
				values[j] += sign * h * direction[j] / float32(math.Sqrt(norm))
			}
			moved.weights[p.name] = tensors.FromFlatDataAndDimensions(values, p.shape...)
			m, _ := gradientOf(t, engine, moved, nil, data, c)
			losses[side] = m.Loss
		}
		for j := range direction {
			slope += float64(gradients[i][j]) * float64(direction[j]) / math.Sqrt(norm)
		}
		if got := (losses[1] - losses[0]) / (2 * h); math.Abs(got-slope) > 2e-3*max(0.05, math.Abs(slope)) {
			t.Errorf("%s: gradient along a direction %v, difference %v", p.name, slope, got)
		}
	}
}

// TestAdamW follows two updates in float64.
func TestAdamW(t *testing.T) {
	engine := testEngine(t)
	names := []string{"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}
	const decay, clip = 0.1, 1.0
	p := newProgram(engine, "update", func(nodes []*graph.Node) []*graph.Node { return adamW(names, decay, clip, nodes) })
	config := TrainConfig{LearningRate: 0.05, Schedule: ScheduleConstant}
	weights := [][]float64{{1, -2}, {0.5}}
	gradients := [][][]float64{{{0.3, 0.4}, {0.1}}, {{3, -4}, {2}}}
	moments, squares := [][]float64{{0, 0}, {0}}, [][]float64{{0, 0}, {0}}
	tensor := func(x []float64) *tensors.Tensor {
		y := make([]float32, len(x))
		for i := range x {
			y[i] = float32(x[i])
		}
		return tensors.FromFlatDataAndDimensions(y, len(y))
	}
	var now []*tensors.Tensor
	for _, list := range [][][]float64{weights, moments, squares} {
		for _, x := range list {
			now = append(now, tensor(x))
		}
	}
	for step, g := range gradients {
		norm := 0.0
		for i := range g {
			for _, x := range g[i] {
				norm += x * x
			}
		}
		norm = math.Sqrt(norm)
		for i := range g {
			for j, x := range g[i] {
				x *= min(1, clip/(norm+1e-6))
				moments[i][j] = 0.9*moments[i][j] + 0.1*x
				squares[i][j] = 0.999*squares[i][j] + 0.001*x*x
				if i == 0 {
					weights[i][j] *= 1 - 0.05*decay
				}
				n := float64(step + 1)
				weights[i][j] -= 0.05 * moments[i][j] / (1 - math.Pow(0.9, n)) /
					(math.Sqrt(squares[i][j]/(1-math.Pow(0.999, n))) + 1e-8)
			}
		}
		hyper := tensors.FromFlatDataAndDimensions(config.hyper(step, 10), 3)
		out, err := p.run(keep(append(now, tensor(g[0]), tensor(g[1]), hyper)...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := scalar(out[0])
		if err != nil || math.Abs(got-norm) > 1e-5 {
			t.Errorf("norm %v, want %v (%v)", got, norm, err)
		}
		now = out[1:7]
		for i := range weights {
			values, err := floats(now[i])
			if err != nil {
				t.Fatal(err)
			}
			for j := range values {
				if math.Abs(float64(values[j])-weights[i][j]) > 1e-6 {
					t.Errorf("step %d, weight %d %d: %v, want %v", step, i, j, values[j], weights[i][j])
				}
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		schedule Schedule
		want     []float64 // transformers' multipliers for 10 steps, 4 of warm-up
	}{
		{ScheduleCosine, []float64{0, 0.25, 0.5, 0.75, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873}},
		{ScheduleLinear, []float64{0, 0.25, 0.5, 0.75, 1, 5. / 6, 4. / 6, 3. / 6, 2. / 6, 1. / 6}},
		{ScheduleConstant, []float64{0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1}},
	} {
		config := TrainConfig{LearningRate: 2, Schedule: c.schedule, WarmupRatio: 0.35}
		for step, want := range c.want {
			if got := config.learningRate(step, 10); math.Abs(got-2*want) > 1e-6 {
				t.Errorf("%s: step %d has rate %v, want %v", c.schedule, step, got, 2*want)
			}
		}
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
	bad.Loss = Loss{Kind: "kto"}
	check("kto", good, bad)
	bad = config
	bad.Packing = "rows"
	check("packing", good, bad)
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
		t.Errorf("cancelled step: %v", err)
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
	for range 2 {
		if _, err := trainer.Next(t.Context()); !errors.Is(err, ErrNonFinite) {
			t.Errorf("training on NaN: %v", err)
		}
	}
	if err := trainer.Save(&bytes.Buffer{}); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a broken state was saved: %v", err)
	}
}

func TestAdapterRoundTrip(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	for _, lora := range []LoRA{{Rank: 3, Alpha: 6}, {Rank: 4, Alpha: 6, RSLoRA: true, Targets: []string{"q_proj", "down_proj"}}} {
		a := trainedAdapter(t, model.Config, lora)
		dir := t.TempDir()
		if err := a.Save(dir, "base"); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadAdapter(dir, model.Config)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.Config.Scale() != lora.Scale() || len(loaded.weights) != len(a.weights) {
			t.Errorf("loaded %+v with %d tensors, want %+v with %d", loaded.Config, len(loaded.weights), lora, len(a.weights))
		}
		merged, err := a.Merge(model)
		if err != nil {
			t.Fatal(err)
		}
		data := nestedExamples(3, 2, 3, 50, true)
		score := func(m *Model, a *Adapter) [][]SequenceLogProbs {
			s, err := LogProbs(t.Context(), engine, m, a, data, LogProbsOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		base, with, again, folded := score(model, nil), score(model, a), score(model, loaded), score(merged, nil)
		if fmt.Sprint(with) != fmt.Sprint(again) || fmt.Sprint(with) == fmt.Sprint(base) {
			t.Error("the loaded adapter computes something else, or nothing")
		}
		for i := range with {
			if math.Abs(with[i][0].Sum()-folded[i][0].Sum()) > 1e-4 {
				t.Errorf("merged: %v, want %v", folded[i][0].Sum(), with[i][0].Sum())
			}
		}
	}
	if _, err := NewAdapter(model.Config, LoRA{Rank: 2, Alpha: 1, Targets: []string{"wq"}}, 1); err == nil {
		t.Error("an unknown target was accepted")
	}
}
