package lm

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBFloat16 checks the rounding on its borders and by way back.
func TestBFloat16(t *testing.T) {
	for bits, want := range map[uint32]uint16{
		0x3f800000: 0x3f80, 0x3f808000: 0x3f80, 0x3f808001: 0x3f81, 0x3f818000: 0x3f82, 0x3f817fff: 0x3f81, // ties to even
		0xbf818000: 0xbf82, 0x80000000: 0x8000, 0x7f7fffff: 0x7f80, 0xff800000: 0xff80, 0x00008001: 0x0001,
	} {
		if got := roundBFloat16(math.Float32frombits(bits)); got != want {
			t.Errorf("%#08x is rounded to %#04x, want %#04x", bits, got, want)
		}
	}
	for _, nan := range []uint32{0x7f800001, 0xffc00000} {
		if got := math.Float32frombits(uint32(roundBFloat16(math.Float32frombits(nan))) << 16); !math.IsNaN(float64(got)) {
			t.Errorf("NaN %#08x is rounded to %v", nan, got)
		}
	}
}

// divergenceByHand compares two models over labelled tokens through LogProbs of every possible next token.
func divergenceByHand(t *testing.T, engine *Engine, first *Model, adapter *Adapter, second *Model, examples []Example) Divergence {
	t.Helper()
	var d Divergence
	vocab := first.Config.VocabSize
	for _, e := range examples {
		for _, s := range e.Sequences {
			for k := s.LossFrom; k < len(s.Tokens); k++ {
				var all Example
				for v := range int32(vocab) {
					all.Sequences = append(all.Sequences, Sequence{Tokens: append(slices.Clone(s.Tokens[:k]), v), LossFrom: k})
				}
				var p [2][]SequenceLogProbs
				for i, m := range []*Model{first, second} {
					a := []*Adapter{adapter, nil}[i]
					scores, err := LogProbs(t.Context(), engine, m, a, []Example{all}, LogProbsOptions{})
					if err != nil {
						t.Fatal(err)
					}
					p[i] = scores[0]
				}
				kl := 0.0
				for v := range vocab {
					kl += math.Exp(p[0][v].Sum()) * (p[0][v].Sum() - p[1][v].Sum())
				}
				apart := math.Abs(p[0][s.Tokens[k]].Sum() - p[1][s.Tokens[k]].Sum())
				d.Tokens++
				d.MaxAbs, d.MaxKL = max(d.MaxAbs, apart), max(d.MaxKL, kl)
				d.MeanAbs += apart
				d.KL += kl
			}
		}
	}
	d.MeanAbs /= float64(d.Tokens)
	d.KL /= float64(d.Tokens)
	return d
}

// TestDiverge: the measure by its definition, and nothing between a model and itself.
func TestDiverge(t *testing.T) {
	engine := testEngine(t)
	model, other := tinyModel(t, tinyConfig()), tinyModel(t, tinyConfig())
	randomize(other.weights, 5, 0.02)
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 2, Alpha: 4})
	data := nestedExamples(9, 2, 2, model.Config.VocabSize, true)
	for _, packing := range []Packing{PackTree, PackNone} {
		got, err := Diverge(t.Context(), engine, model, adapter, other, data, LogProbsOptions{Packing: packing, RowTokens: 20, MicroBatchTokens: 40})
		if err != nil {
			t.Fatal(err)
		}
		want := divergenceByHand(t, engine, model, adapter, other, data)
		for _, c := range [][2]float64{{got.MaxAbs, want.MaxAbs}, {got.MeanAbs, want.MeanAbs}, {got.KL, want.KL}, {got.MaxKL, want.MaxKL}} {
			if math.Abs(c[0]-c[1]) > 1e-5*(1+c[1]) {
				t.Errorf("packing %s: %+v, want %+v", packing, got, want)
			}
		}
		if got.Tokens != want.Tokens || got.KL < 1e-3 {
			t.Errorf("packing %s: %+v, want %+v: too close to say anything", packing, got, want)
		}
	}
	same, err := Diverge(t.Context(), engine, model, nil, model, data, LogProbsOptions{})
	if err != nil || same.MaxAbs != 0 || same.MaxKL != 0 || same.Tokens == 0 {
		t.Errorf("a model and itself: %+v (%v)", same, err)
	}
}

// TestMergeFiles merges into one file and into shards, float32 and bfloat16, and reads it back.
func TestMergeFiles(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	config.ModelType, config.TieWordEmbeddings = "qwen2", false
	model := tinyModel(t, config)
	base := t.TempDir()
	if err := model.Save(base); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tokenizer.json", `{"made": "up"}`)
	write("chat_template.jinja", "{{ messages }}")
	write("notes.txt", "no part of a model")
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 6, RSLoRA: true, Targets: []string{"v_proj", "up_proj"}})
	want, err := adapter.Merge(model)
	if err != nil {
		t.Fatal(err)
	}
	data := nestedExamples(4, 2, 3, model.Config.VocabSize, true)
	near := map[string]float64{} // the mean difference by dtype
	for _, o := range []MergeOptions{{}, {ShardBytes: 6000}, {DType: "bfloat16"}, {DType: "bfloat16", ShardBytes: 1}} {
		out := filepath.Join(t.TempDir(), "new", "merged")
		m, err := adapter.MergeFiles(t.Context(), base, out, o)
		if err != nil {
			t.Fatal(err)
		}
		width := int64(4)
		if o.DType == "bfloat16" {
			width = 2
		}
		if m.Bytes != width*int64(model.Parameters()) || m.Matrices != 2*config.NumHiddenLayers || (len(m.Files) > 1) != (o.ShardBytes > 0) ||
			!slices.Equal(m.Copied, []string{"tokenizer.json", "chat_template.jinja"}) {
			t.Errorf("%+v: %+v", o, m)
		}
		if o.ShardBytes == 1 && len(m.Files) != len(model.weights) {
			t.Errorf("%d files for %d tensors", len(m.Files), len(model.weights))
		}
		if _, err := os.Stat(filepath.Join(out, "notes.txt")); err == nil {
			t.Error("a file that is no part of the model was copied")
		}
		loaded, err := LoadModel(out)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range want.weights {
			a, _ := floats(w)
			b, _ := floats(loaded.weights[name])
			for i := range a {
				x := a[i]
				if o.DType == "bfloat16" {
					x = math.Float32frombits(uint32(roundBFloat16(x)) << 16)
				}
				if x != b[i] {
					t.Fatalf("%+v: tensor %s, element %d: %v, want %v", o, name, i, b[i], x)
				}
			}
		}
		d, err := Diverge(t.Context(), engine, model, adapter, loaded, data, LogProbsOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if limit := map[string]float64{"": 1e-4, "bfloat16": 0.2}[o.DType]; d.MaxAbs > limit || d.MaxAbs == 0 {
			t.Errorf("%+v: %+v", o, d)
		}
		near[o.DType] = d.MeanAbs
		var keys map[string]any
		raw, err := os.ReadFile(filepath.Join(out, "config.json"))
		if err == nil {
			err = json.Unmarshal(raw, &keys)
		}
		if err != nil || keys["torch_dtype"] != m.DType || keys["architectures"] == nil {
			t.Errorf("config.json: %s (%v)", raw, err)
		}
		if _, err := adapter.MergeFiles(t.Context(), base, out, o); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("an existing model was overwritten: error %v, want one that says not empty", err)
		}
	}
	if near["bfloat16"] < 10*near[""] {
		t.Errorf("mean differences %v: bfloat16's rounding does not show", near)
	}

	parent := t.TempDir()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := adapter.MergeFiles(cancelled, base, filepath.Join(parent, "m"), MergeOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled merge: error %v, want context.Canceled", err)
	}
	if _, err := adapter.MergeFiles(t.Context(), base, filepath.Join(parent, "m"), MergeOptions{DType: "int8"}); err == nil {
		t.Error("int8 was accepted")
	}
	foreign := trainedAdapter(t, tinyConfig(), LoRA{Rank: 3, Alpha: 6})
	foreign.weights["model.layers.0.mlp.up_proj.lora_A.weight"] = zeros([]int{3, 1})
	if _, err := foreign.MergeFiles(t.Context(), base, filepath.Join(parent, "m"), MergeOptions{}); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("another model's adapter: error %v, want one that says so", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
