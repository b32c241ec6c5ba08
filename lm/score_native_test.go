package lm

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
)

// scoredModels are models of several shapes, with and without an adapter.
func scoredModels(t *testing.T) map[string]func() (*Model, *Adapter) {
	adapted := func() (*Model, *Adapter) {
		model := generatorModel(t, "llama")
		adapter, err := NewAdapter(model.Config, LoRA{Rank: 4, Alpha: 8}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range adapter.weights {
			stream := newStream(9, named(name))
			tensors.MustMutableFlatData(w, func(flat []float32) {
				for i := range flat {
					flat[i] = float32(stream.normal() * 0.1)
				}
			})
		}
		return model, adapter
	}
	models := map[string]func() (*Model, *Adapter){
		"llama":        func() (*Model, *Adapter) { return generatorModel(t, "llama"), nil },
		"qwen2":        func() (*Model, *Adapter) { return generatorModel(t, "qwen2"), nil },
		"with adapter": adapted,
	}
	return models
}

// The native decoder scores as graphs do, and to the same bit whatever is scored beside a sequence.
func TestScoreNative(t *testing.T) {
	engine := testEngine(t)
	for name, make := range scoredModels(t) {
		t.Run(name, func(t *testing.T) {
			model, adapter := make()
			data := nestedExamples(6, 5, 4, 97, true)
			for i := range data { // some sequences twice, some labelled throughout
				if i%4 == 1 {
					data[i].Sequences = append(data[i].Sequences, data[i].Sequences[0])
				}
				if i%7 == 2 {
					data[i].Sequences[1].LossFrom = 1
				}
				data[i].Reference = nil
			}
			score := func(data []Example, o LogProbsOptions) [][]SequenceLogProbs {
				scores, err := LogProbs(t.Context(), engine, model, adapter, data, o)
				if err != nil {
					t.Fatal(err)
				}
				return scores
			}
			want := score(data, LogProbsOptions{})
			done := 0
			tree := score(data, LogProbsOptions{Native: true, Progress: func(n, total int) { done = n; _ = total }})
			if done != len(data) {
				t.Errorf("progress ends at %d of %d", done, len(data))
			}
			for i := range want {
				for j := range want[i] {
					if !slices.Equal(want[i][j].Weights, tree[i][j].Weights) || len(want[i][j].Tokens) != len(tree[i][j].Tokens) {
						t.Fatalf("example %d, sequence %d: %v, by graphs %v", i, j, tree[i][j], want[i][j])
					}
					for k, w := range want[i][j].Tokens {
						if math.Abs(float64(tree[i][j].Tokens[k]-w)) > 1e-5*max(1, math.Abs(float64(w))) {
							t.Errorf("example %d, sequence %d, label %d: %v, by graphs %v", i, j, k, tree[i][j].Tokens[k], w)
						}
					}
				}
			}
			if n, err := newNative(engine, model, nil); err != nil || n == nil {
				t.Skipf("no native decoder here (%v): the graphs are compared with themselves", err)
			}
			none := score(data, LogProbsOptions{Native: true, Packing: PackNone})
			if !reflect.DeepEqual(tree, none) {
				t.Error("other bits without shared prefixes")
			}
			for i := range data {
				if alone := score(data[i:i+1], LogProbsOptions{Native: true}); !reflect.DeepEqual(alone[0], tree[i]) {
					t.Errorf("example %d: other bits alone", i)
				}
			}
		})
	}
}

// More trees than a cache holds, and trees of more tokens than a chunk.
func TestScoreNativeLong(t *testing.T) {
	engine := testEngine(t)
	model := distinct(t, Config{ModelType: "llama", HiddenSize: 16, IntermediateSize: 24, NumHiddenLayers: 2, NumAttentionHeads: 2,
		NumKeyValueHeads: 1, VocabSize: 60, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-6, RopeTheta: 1e4, HiddenAct: "silu"})
	s, data := newStream(5), []Example(nil)
	for d, length := range []int{2900, 700, 30, 1500, 900, 2100, 1, 800} {
		tokens := []int32{1}
		for range length {
			tokens = append(tokens, int32(s.next()%60))
		}
		data = append(data, Example{Group: fmt.Sprint(d % 5), Sequences: []Sequence{{Tokens: tokens, LossFrom: max(1, length-300)}}})
	}
	var results [][][]SequenceLogProbs
	for _, o := range []LogProbsOptions{{}, {Native: true}, {Native: true, Packing: PackNone}} {
		scores, err := LogProbs(t.Context(), engine, model, nil, data, o)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, scores)
	}
	for i := range data {
		for k, want := range results[0][i][0].Tokens {
			for _, got := range []float32{results[1][i][0].Tokens[k], results[2][i][0].Tokens[k]} {
				if math.Abs(float64(got-want)) > 2e-5*max(1, math.Abs(float64(want))) {
					t.Fatalf("example %d, label %d: %v, by graphs %v", i, k, got, want)
				}
			}
		}
	}
}
