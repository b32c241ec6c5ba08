package lm

import (
	"math"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
)

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
		{Loss{Kind: LossSimPO, Beta: 2, Gamma: 0.7, SFTWeight: 0.3}, -mean(func(i int) float64 {
			return logSigmoid(2*(sum(i, 0)/length(i, 0)-sum(i, 1)/length(i, 1))-0.7) + 0.3*sum(i, 0)/length(i, 0)
		})},
		{Loss{Kind: LossDPO, Beta: 0.4, SFTWeight: 1.5}, -mean(func(i int) float64 {
			return logSigmoid(0.4*(ratio(i, 0)-ratio(i, 1))) + 1.5*sum(i, 0)/length(i, 0)
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

// TestGradientByDifferences checks the gradient of each loss against central differences, along random directions.
func TestGradientByDifferences(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	config.ModelType = "qwen2"
	model := tinyModel(t, config)
	data := nestedExamples(9, 2, 3, 50, true)
	for _, loss := range []Loss{{Kind: LossDPO, Beta: 0.3}, {Kind: LossKTO, Beta: 0.3, Desirable: 1.3, Undesirable: 0.7},
		{Kind: LossDPO, Beta: 0.3, SFTWeight: 0.8}} {
		gradientByDifferences(t, engine, model, data, TrainConfig{Loss: loss})
	}
}

func gradientByDifferences(t *testing.T, engine *Engine, model *Model, data []Example, c TrainConfig) {
	t.Helper()
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
			t.Errorf("%+v: %s: gradient along a direction %v, difference %v", c.Loss, p.name, slope, got)
		}
	}
}
