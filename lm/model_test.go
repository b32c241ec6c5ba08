package lm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

const storiesDir = "../../shared/weights/stories260K"

// tinyConfig is a model small enough for exact comparisons.
func tinyConfig() Config {
	c := Config{ModelType: "llama", HiddenSize: 16, IntermediateSize: 24, NumHiddenLayers: 2, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, VocabSize: 50, MaxPositionEmbeddings: 256, RMSNormEps: 1e-5, RopeTheta: 10000,
		HiddenAct: "silu", TieWordEmbeddings: true}
	if err := c.complete(); err != nil {
		panic(err)
	}
	return c
}

// tinyModel has weights large enough for predictions to differ from token to token.
func tinyModel(t testing.TB, config Config) *Model {
	t.Helper()
	m, err := NewModel(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range m.weights {
		tensors.MustMutableFlatData(w, func(flat []float32) {
			s := newStream(99, named(name))
			for i := range flat {
				flat[i] += float32(0.2 * s.normal())
			}
		})
	}
	return m
}

// logitsOf runs a model over one sequence: [tokens][vocabulary].
func logitsOf(t *testing.T, engine *Engine, m *Model, ids []int32) [][]float32 {
	t.Helper()
	o, err := operandsOf(engine, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(engine, "logits", func(nodes []*graph.Node) []*graph.Node {
		d := o.decoder(nodes[:len(o.names)])
		b := packedOf(nodes[len(o.names):])
		return []*graph.Node{d.logits(d.forward(b.tokens, b.positions, treeMask(b.enter, b.exit)))}
	})
	examples := []Example{{Sequences: []Sequence{{Tokens: append(append([]int32(nil), ids...), 0), LossFrom: 1}}}}
	micro := microBatch{rows: [][]*tree{growTrees(examples, []int{0}, true, 1)}, length: ladder(len(ids), 8)}
	out, err := p.run(append(keep(o.tensors...), keep(micro.fill(micro.size()).tensors()...)...))
	if err != nil {
		t.Fatal(err)
	}
	flat, err := floats(out[0])
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]float32, len(ids))
	for i := range rows {
		rows[i] = flat[i*m.Config.VocabSize:][:m.Config.VocabSize]
	}
	return rows
}

func TestGoldenLogits(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(storiesDir, "golden_logits.json"))
	if err != nil {
		t.Skipf("reference data is absent: %v", err)
	}
	var golden struct {
		Cases []struct {
			Text          string
			IDs           []int32   `json:"ids"`
			TokenLogProbs []float64 `json:"token_logprobs"`
			LastLogits    []float64 `json:"last_logits"`
			GreedyNext    []int     `json:"greedy_next_32"`
		}
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	engine := testEngine(t)
	model, err := LoadModel(storiesDir)
	if err != nil {
		t.Fatal(err)
	}
	var examples []Example
	for _, c := range golden.Cases {
		logits := logitsOf(t, engine, model, c.IDs)
		last, largest, worst := logits[len(logits)-1], 0.0, 0.0
		for i, want := range c.LastLogits {
			largest = max(largest, math.Abs(want))
			worst = max(worst, math.Abs(float64(last[i])-want))
		}
		if worst/largest > 1e-4 {
			t.Errorf("%q: logits differ by %.2g of the largest", c.Text, worst/largest)
		}
		best := 0
		for i := range last {
			if last[i] > last[best] {
				best = i
			}
		}
		if best != c.GreedyNext[0] {
			t.Errorf("%q: next token %d, want %d", c.Text, best, c.GreedyNext[0])
		}
		if len(c.IDs) > 1 {
			examples = append(examples, Example{Sequences: []Sequence{{Tokens: c.IDs, LossFrom: 1}}})
		}
	}
	// By a prefix tree: all cases in one prefix tree (they share BOS).
	scores, err := LogProbs(t.Context(), engine, model, nil, examples, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, c := range golden.Cases {
		if len(c.IDs) < 2 {
			continue
		}
		for k, want := range c.TokenLogProbs {
			if got := float64(scores[i][0].Tokens[k]); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
				t.Errorf("%q: log-probability of token %d is %v, want %v", c.Text, k+1, got, want)
			}
		}
		i++
	}
}

func TestConfig(t *testing.T) {
	const base = `"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":50,"max_position_embeddings":64,"eos_token_id":[1,2]`
	c, err := ParseConfig([]byte(`{"model_type":"qwen2",` + base + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if !c.AttentionBias || c.HeadDim != 4 || c.NumKeyValueHeads != 4 || len(c.EOSTokenIDs) != 2 {
		t.Errorf("qwen2: %+v", c)
	}
	for name, bad := range map[string]string{
		"model_type":         `{"model_type":"gpt2",` + base + `}`,
		"hidden_act":         `{"model_type":"llama","hidden_act":"gelu",` + base + `}`,
		"rope_scaling":       `{"model_type":"llama","rope_scaling":{"type":"yarn","factor":4},` + base + `}`,
		"use_sliding_window": `{"model_type":"qwen2","use_sliding_window":true,` + base + `}`,
		"hidden_size":        `{"model_type":"llama"}`,
	} {
		if _, err := ParseConfig([]byte(bad)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", name, err)
		}
	}
}

// TestRopeScaling checks Llama 3.1's frequencies against numbers computed with transformers' formula by hand:
// unchanged above the high-frequency border, divided by the factor below the low one.
func TestRopeScaling(t *testing.T) {
	c := Config{HeadDim: 128, RopeTheta: 500000, RopeScaling: &RopeScaling{RopeType: "llama3", Factor: 8,
		LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}}
	scaled := c.ropeFrequencies()
	c.RopeScaling = nil
	plain := c.ropeFrequencies()
	if scaled[0] != plain[0] || math.Abs(scaled[63]/plain[63]-1.0/8) > 1e-12 {
		t.Errorf("ends: %v of %v, %v of %v", scaled[0], plain[0], scaled[63], plain[63])
	}
	const i = 32 // wavelength 2π·sqrt(500000) = 4442.9: between 8192/4 and 8192/1
	wave := 2 * math.Pi * math.Sqrt(500000)
	smooth := (8192/wave - 1) / 3
	if want := plain[i] * ((1-smooth)/8 + smooth); math.Abs(scaled[i]-want) > 1e-15 {
		t.Errorf("middle: %v, want %v", scaled[i], want)
	}
}

func TestModelRoundTrip(t *testing.T) {
	for _, modelType := range []string{"llama", "qwen2"} {
		config := tinyConfig()
		config.ModelType, config.TieWordEmbeddings = modelType, modelType == "llama"
		m := tinyModel(t, config)
		dir, again := t.TempDir(), t.TempDir()
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadModel(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := loaded.Save(again); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"config.json", "model.safetensors"} {
			a, _ := os.ReadFile(filepath.Join(dir, f))
			b, _ := os.ReadFile(filepath.Join(again, f))
			if len(a) == 0 || !bytes.Equal(a, b) {
				t.Errorf("%s: %s differs after a round trip (%d and %d bytes)", modelType, f, len(a), len(b))
			}
		}
	}
}

func TestLoadModelErrors(t *testing.T) {
	config := tinyConfig()
	m := tinyModel(t, config)
	change := func(f func(m *Model, dir string)) error {
		dir := t.TempDir()
		weights := map[string]*tensors.Tensor{}
		for name, w := range m.weights {
			weights[name] = w
		}
		other := newModel(config, weights)
		if err := other.Save(dir); err != nil {
			t.Fatal(err)
		}
		f(other, dir)
		_, err := LoadModel(dir)
		if check := CheckModel(dir); err == nil || check == nil || check.Error() != err.Error() {
			t.Errorf("LoadModel says %v, CheckModel %v", err, check)
		}
		return err
	}
	write := func(m *Model, dir string) {
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	for want, f := range map[string]func(m *Model, dir string){
		"model.norm.weight [16] is missing": func(m *Model, dir string) { delete(m.weights, "model.norm.weight"); write(m, dir) },
		"extra.weight":                      func(m *Model, dir string) { m.weights["extra.weight"] = zeros([]int{2}); write(m, dir) },
		"has shape [3], the configuration says [16]": func(m *Model, dir string) {
			m.weights["model.norm.weight"] = zeros([]int{3})
			write(m, dir)
		},
		"truncated": func(m *Model, dir string) {
			path := filepath.Join(dir, "model.safetensors")
			data, _ := os.ReadFile(path)
			_ = os.WriteFile(path, data[:len(data)-5], 0o644)
		},
	} {
		if err := change(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

// TestShardedHalfPrecision reads shards through an index, in bf16 and f16.
func TestShardedHalfPrecision(t *testing.T) {
	config := tinyConfig()
	m := tinyModel(t, config)
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	index := map[string]string{}
	for k, p := range config.parameters() {
		values, err := floats(m.weights[p.name])
		if err != nil {
			t.Fatal(err)
		}
		dtype, data := "BF16", make([]byte, 2*len(values))
		for i := range values {
			bits := math.Float32bits(values[i]) &^ 0xffff // exact in bf16
			if k%2 == 1 {                                 // exact in f16: a power of two with three mantissa bits
				dtype = "F16"
				values[i] = float32(i%8+8) / 8
				bits = uint32(15<<10|(i%8)<<7) << 16
			} else {
				values[i] = math.Float32frombits(bits)
			}
			data[2*i], data[2*i+1] = byte(bits>>16), byte(bits>>24)
		}
		m.weights[p.name] = tensors.FromFlatDataAndDimensions(values, p.shape...)
		shard := fmt.Sprintf("model-%05d.safetensors", k)
		header, _ := json.Marshal(map[string]any{p.name: tensorHeader{dtype, p.shape, [2]int64{0, int64(len(data))}}})
		file := append([]byte{byte(len(header)), byte(len(header) >> 8), 0, 0, 0, 0, 0, 0}, header...)
		if err := os.WriteFile(filepath.Join(dir, shard), append(file, data...), 0o644); err != nil {
			t.Fatal(err)
		}
		index[p.name] = shard
	}
	if err := writeJSON(filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": index}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range m.weights {
		if !w.Equal(loaded.weights[name]) {
			t.Errorf("tensor %s differs", name)
		}
	}
	for h, want := range map[uint16]float32{0: 0, 0x8000: float32(math.Copysign(0, -1)), 1: 1.0 / (1 << 24), 0x3c00: 1, 0xc500: -5, 0x7bff: 65504} {
		if got := float16(h); got != want {
			t.Errorf("half %#x is %v, want %v", h, got, want)
		}
	}
	if !math.IsInf(float64(float16(0x7c00)), 1) || !math.IsNaN(float64(float16(0x7e00))) {
		t.Error("half infinity or NaN is wrong")
	}
}
