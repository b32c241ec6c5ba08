package lm

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
)

// boundedGradient is gradientOf with a bound on the logits.
func boundedGradient(t *testing.T, engine *Engine, m *Model, a *Adapter, data []Example, c TrainConfig, bound int) (StepMetrics, [][]float32) {
	t.Helper()
	c.Epochs, c.LearningRate, c.BatchSize = 1, 1e-3, len(data)
	trainer, err := NewTrainer(engine, m, a, Dataset{Examples: data}, c)
	if err != nil {
		t.Fatal(err)
	}
	trainer.operands.maxLogits = bound
	return stepGradient(t, trainer)
}

// TestLogitsInChunks: however few logits are computed at once, the loss, its gradients and the scores are those of all
// logits at once, whether the head is trained or not.
func TestLogitsInChunks(t *testing.T) {
	engine := testEngine(t)
	for _, tied := range []bool{true, false} {
		config := tinyConfig()
		config.TieWordEmbeddings = tied
		model := tinyModel(t, config)
		adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 6})
		for _, a := range []*Adapter{nil, adapter} {
			for _, loss := range []Loss{{Kind: LossSFT}, {Kind: LossDPO, Beta: 0.3}} {
				data := nestedExamples(3, 3, 4, config.VocabSize, loss.preference())
				c := TrainConfig{Loss: loss}
				whole, gw := boundedGradient(t, engine, model, a, data, c, 0)
				for _, bound := range []int{1, 7 * config.VocabSize, 20*config.VocabSize + 3} {
					for _, c.Checkpointing = range []bool{false, true} {
						name := fmt.Sprintf("tied %v, adapter %v, %v, bound %d, checkpointing %v", tied, a != nil, loss.Kind, bound, c.Checkpointing)
						parts, gp := boundedGradient(t, engine, model, a, data, c, bound)
						sameGradients(t, name, whole, parts, gw, gp)
					}
				}
			}
		}
		data := nestedExamples(4, 3, 4, config.VocabSize, false)
		want, err := LogProbs(t.Context(), engine, model, adapter, data, LogProbsOptions{})
		if err != nil {
			t.Fatal(err)
		}
		scorer, err := NewScorer(engine, model, adapter, LogProbsOptions{})
		if err != nil {
			t.Fatal(err)
		}
		scorer.operands.maxLogits = 3 * config.VocabSize
		got, err := scorer.LogProbs(t.Context(), data)
		scorer.Close()
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			for k, p := range want[i][0].Tokens {
				if q := got[i][0].Tokens[k]; math.Abs(float64(p-q)) > 1e-6*math.Abs(float64(p)) {
					t.Errorf("tied %v, example %d: the log-probability of token %d is %v, all at once %v", tied, i, k, q, p)
				}
			}
		}
	}
}

// TestLogitsFrozenHead: the gradient given by hand under a frozen head is the one that is derived.
func TestLogitsFrozenHead(t *testing.T) {
	engine := testEngine(t)
	for _, tied := range []bool{true, false} {
		config := tinyConfig()
		config.TieWordEmbeddings = tied
		model := tinyModel(t, config)
		adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 6})
		data := nestedExamples(3, 3, 4, config.VocabSize, true)
		c := TrainConfig{Loss: Loss{Kind: LossDPO, Beta: 0.3}, Epochs: 1, LearningRate: 1e-3, BatchSize: len(data)}
		trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data}, c)
		if err != nil {
			t.Fatal(err)
		}
		trainer.gradient.build = func(nodes []*graph.Node) []*graph.Node {
			// The validation's graph, whose normaliser is derived like any other node.
			outputs, trained, sums := trainer.buildLoss(nodes, false)
			for i, g := range graph.Gradient(outputs[0], trained...) {
				outputs = append(outputs, graph.Add(sums[i], g))
			}
			return outputs
		}
		derived, gd := stepGradient(t, trainer)
		byHand, gh := gradientOf(t, engine, model, adapter, data, TrainConfig{Loss: c.Loss})
		sameGradients(t, fmt.Sprintf("tied %v", tied), derived, byHand, gd, gh)
	}
}

// TestLogitsBound: no node of the graphs for a vocabulary of 150,000 is larger than the bound, neither on the way there
// nor on the way back; there are more logits than that.
func TestLogitsBound(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	config.VocabSize, config.HiddenSize, config.NumHiddenLayers, config.HeadDim = 150_000, 8, 1, 2
	data := nestedExamples(3, 20, 6, 50, true)
	for i := range data { // every token is a label
		for j := range data[i].Sequences {
			data[i].Sequences[j].LossFrom = 1
		}
	}
	model, err := NewModel(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 2, Alpha: 2})
	for _, a := range []*Adapter{nil, adapter} {
		trainer, err := NewTrainer(engine, model, a, Dataset{Examples: data}, TrainConfig{Loss: Loss{Kind: LossDPO, Beta: 0.1},
			Epochs: 1, LearningRate: 1e-3, BatchSize: len(data), MicroBatchTokens: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		micro := trainer.planner.split(trainer.batch(0))[0]
		p := micro.fill(trainer.planner.fit(&micro))
		if p.shape.sources*config.VocabSize < 2*maxLogits {
			t.Fatalf("%d sources: too few to need chunks", p.shape.sources)
		}
		given := append(p.tensors(), trainer.extras(p, data, 1, BatchKL{})...)
		for _, program := range []*program{trainer.gradient, trainer.forward} {
			inputs := append(trainer.inputs(), keep(given...)...)
			if program == trainer.gradient {
				inputs = append(inputs, keep(trainer.sums...)...)
			}
			g, err := program.graph(inputs)
			if err != nil {
				t.Fatal(err)
			}
			largest := 0
			for _, n := range g.Nodes() {
				if n.NumOutputs() == 1 {
					largest = max(largest, n.Shape().Size())
				}
			}
			if largest > maxLogits || largest < maxLogits/2 {
				t.Errorf("%s, adapter %v: the largest node has %d numbers, the bound is %d", program.name, a != nil, largest, maxLogits)
			}
		}
		trainer.Close()
	}
}
