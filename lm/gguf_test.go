package lm

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/google/go-cmp/cmp"
)

// TestGGUFGolden reads SmolLM2-135M-Instruct, quantised as Q4_1, and compares with what llama.cpp, tokenizers and
// transformers (in float64) make of the same file.
func TestGGUFGolden(t *testing.T) {
	golden := reference.JSON[struct {
		Cases []struct {
			Text string  `json:"text"`
			IDs  []int32 `json:"ids"`
		} `json:"cases"`
		Chat []struct {
			Messages []tokens.Message `json:"messages"`
			Text     string           `json:"text"`
			IDs      []int32          `json:"ids"`
			LogProbs []float64        `json:"token_logprobs"`
		} `json:"chat"`
	}](t, reference.Path(t, "golden", "smollm2", "golden.json"))
	if len(golden.Cases) != 103 || len(golden.Chat) != 8 {
		t.Fatalf("%d golden texts and %d chats, want 103 and 8", len(golden.Cases), len(golden.Chat))
	}
	file, err := OpenGGUF(reference.SmolLM2(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := file.Quantization(), "210 Q4_1, 61 F32, 1 Q8_0"; got != want {
		t.Errorf("the file keeps its tensors as %q, want %q", got, want)
	}
	dir := t.TempDir()
	if err := file.Write(dir); err != nil {
		t.Fatal(err)
	}
	tok, err := tokens.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	model, err := LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Check(model.Config.VocabSize, model.Config.EOSTokenIDs); err != nil {
		t.Error(err)
	}
	for _, c := range golden.Cases {
		if ids := tok.Encode(c.Text); !slices.Equal(ids, c.IDs) {
			t.Errorf("ids of %q are %v, want %v", c.Text, ids, c.IDs)
		}
	}
	var examples []Example
	for i, c := range golden.Chat {
		text, err := tok.RenderChat(c.Messages, false)
		if err != nil {
			t.Fatal(err)
		}
		if text != c.Text {
			t.Errorf("chat %d is rendered as %q, want %q", i, text, c.Text)
		}
		if ids := tok.Encode(c.Text); !slices.Equal(ids, c.IDs) {
			t.Errorf("ids of chat %d are %v, want %v", i, ids, c.IDs)
		}
		examples = append(examples, Example{Sequences: []Sequence{{Tokens: c.IDs, LossFrom: 1}}})
	}
	engine, worst := testEngine(t), 0.0
	for _, native := range []bool{false, true} { // as in training, and as in generation
		scores, err := LogProbs(t.Context(), engine, model, nil, examples, LogProbsOptions{Native: native})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range golden.Chat {
			got := scores[i][0].Tokens
			if len(got) != len(c.LogProbs) {
				t.Fatalf("chat %d has %d log-probabilities, want %d", i, len(got), len(c.LogProbs))
			}
			for j, want := range c.LogProbs {
				worst = max(worst, math.Abs(float64(got[j])-want))
			}
		}
	}
	t.Logf("largest difference of a log-probability: %.2g", worst)
	if !(worst <= 1e-4) {
		t.Errorf("a log-probability differs by %g from the reference, want at most 1e-4", worst)
	}
}

// tinyGGUF is a tiny model as llama.cpp's converter writes it.
func tinyGGUF(t testing.TB, model *Model) *ggufFile {
	t.Helper()
	c := model.Config
	a := c.ModelType + "."
	f := &ggufFile{keys: []ggufKey{
		{"general.architecture", c.ModelType}, {a + "block_count", uint32(c.NumHiddenLayers)}, {a + "context_length", uint32(c.MaxPositionEmbeddings)},
		{a + "embedding_length", uint32(c.HiddenSize)}, {a + "feed_forward_length", uint32(c.IntermediateSize)},
		{a + "attention.head_count", uint32(c.NumAttentionHeads)}, {a + "attention.head_count_kv", uint32(c.NumKeyValueHeads)},
		{a + "attention.layer_norm_rms_epsilon", float32(c.RMSNormEps)}, {a + "rope.freq_base", float32(c.RopeTheta)},
		{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "smollm"},
		{"tokenizer.ggml.tokens", []string{"<|end|>", "a", "b", "ab", "1"}}, {"tokenizer.ggml.token_type", []int32{3, 1, 1, 1, 1}},
		{"tokenizer.ggml.merges", []string{"a b"}}, {"tokenizer.ggml.eos_token_id", uint32(0)},
		{"tokenizer.chat_template", "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"},
	}}
	for _, p := range c.parameters() {
		values, err := floats(model.weights[p.name])
		if err != nil {
			t.Fatal(err)
		}
		for _, heads := range []struct {
			projection string
			count      int
		}{{"self_attn.q_proj", c.NumAttentionHeads}, {"self_attn.k_proj", c.NumKeyValueHeads}} {
			if c.ModelType == "llama" && strings.Contains(p.name, heads.projection) {
				values = permute(values, heads.count)
			}
		}
		f.tensors = append(f.tensors, ggufTensor{name: ggufNames.Replace(p.name), shape: p.shape, values: values})
	}
	return f
}

// permute is LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py, written after NumPy's terms:
// weights.reshape(heads, 2, rows / heads / 2, width).swapaxes(1, 2).
func permute(values []float32, heads int) []float32 {
	var out []float32
	head := len(values) / heads
	width := head / 4 // tiny heads have four rows
	for h := range heads {
		for i := range 2 {
			for half := range 2 {
				at := h*head + (half*2+i)*width
				out = append(out, values[at:at+width]...)
			}
		}
	}
	return out
}

// TestGGUFIsTheModel writes models as llama.cpp would and reads them back: the same configuration, the same weights.
func TestGGUFIsTheModel(t *testing.T) {
	llama3 := &RopeScaling{RopeType: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	for name, change := range map[string]func(c *Config){
		"llama":                 func(*Config) {},
		"llama, untied":         func(c *Config) { c.TieWordEmbeddings = false },
		"llama, biases":         func(c *Config) { c.AttentionBias, c.MLPBias = true, true },
		"llama, scaled":         func(c *Config) { c.RopeScaling, c.RopeTheta = llama3, 5e6 },
		"qwen2 keeps its order": func(c *Config) { c.ModelType = "qwen2" },
	} {
		for _, reversed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				config := tinyConfig()
				change(&config)
				model := tinyModel(t, config)
				f := tinyGGUF(t, model)
				f.reversed = reversed
				if config.RopeScaling != nil {
					plain := config
					plain.RopeScaling = nil
					var factors []float32
					for i, v := range plain.ropeFrequencies() {
						factors = append(factors, float32(v/config.ropeFrequencies()[i]))
					}
					f.tensors = append(f.tensors, ggufTensor{name: "rope_freqs.weight", shape: []int{len(factors)}, values: factors})
				}
				file, err := OpenGGUF(f.write(t))
				if err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				if err := file.Write(dir); err != nil {
					t.Fatal(err)
				}
				got, err := LoadModel(dir)
				if err != nil {
					t.Fatal(err)
				}
				want := model.Config
				want.EOSTokenIDs = TokenIDs{0}
				if diff := cmp.Diff(want, got.Config); diff != "" {
					t.Errorf("the configuration is another one (-want +got):\n%s", diff)
				}
				for weight, tensor := range model.weights {
					a, errA := floats(tensor)
					b, errB := floats(got.weights[weight])
					if err := errors.Join(errA, errB); err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(a, b) {
						t.Errorf("%s differs from what was written", weight)
					}
				}
			})
		}
	}
}

// TestGGUFRefuses names what would be computed otherwise.
func TestGGUFRefuses(t *testing.T) {
	model := tinyModel(t, tinyConfig())
	for name, c := range map[string]struct {
		spoil func(f *ggufFile)
		says  string
	}{
		"another architecture": {func(f *ggufFile) { f.set("general.architecture", "gemma3") }, `general.architecture "gemma3" is not supported`},
		"scaled positions":     {func(f *ggufFile) { f.set("llama.rope.scaling.type", "yarn") }, "llama.rope.scaling.type yarn is not supported"},
		"half rotary":          {func(f *ggufFile) { f.set("llama.rope.dimension_count", uint32(2)) }, "rope.dimension_count 2"},
		"experts":              {func(f *ggufFile) { f.set("llama.expert_count", uint32(8)) }, "llama.expert_count 8 is not supported"},
		"no layers":            {func(f *ggufFile) { f.set("llama.block_count", nil) }, "num_hidden_layers is 0"},
		"a part of a model":    {func(f *ggufFile) { f.set("split.count", uint32(3)) }, "one of 3 parts"},
		"sentencepiece":        {func(f *ggufFile) { f.set("tokenizer.ggml.model", "llama") }, `tokenizer.ggml.model "llama" is not supported`},
		"another pre-tokenizer": {func(f *ggufFile) { f.set("tokenizer.ggml.pre", "tekken") },
			`tokenizer.ggml.pre "tekken" is not supported: llama-bpe, qwen2, smollm are`},
		"no types of tokens": {func(f *ggufFile) { f.set("tokenizer.ggml.token_type", nil) }, "tokenizer.ggml.token_type 0"},
		"an id outside":      {func(f *ggufFile) { f.set("tokenizer.ggml.eos_token_id", uint32(99)) }, "eos_token_id 99 is outside"},
		"no chat template":   {func(f *ggufFile) { f.set("tokenizer.chat_template", nil) }, "tokenizer.chat_template is missing"},
		"a tensor too many": {func(f *ggufFile) {
			f.tensors = append(f.tensors, ggufTensor{name: "blk.0.attn_q_norm.weight", shape: []int{4}, values: make([]float32, 4)})
		}, "attn_q_norm.weight has no place"},
		"a tensor too few": {func(f *ggufFile) { f.tensors = f.tensors[:len(f.tensors)-1] }, "tensor output_norm.weight is missing"},
		"another shape":    {func(f *ggufFile) { f.tensors[1].shape = []int{4, 4} }, "blk.0.attn_norm.weight has shape [4 4]"},
		"an unknown type":  {func(f *ggufFile) { f.tensors[1].kind = 18 }, "type IQ3_XXS, which is not supported"},
		"no whole blocks":  {func(f *ggufFile) { f.tensors[1].kind = 8 }, "rows of 16 are not made of blocks of 32"},
		"other factors": {func(f *ggufFile) {
			f.tensors = append(f.tensors, ggufTensor{name: "rope_freqs.weight", shape: []int{2}, values: []float32{1, 3}})
		}, "not Llama 3's scaling"},
	} {
		t.Run(name, func(t *testing.T) {
			f := tinyGGUF(t, model)
			c.spoil(f)
			_, err := OpenGGUF(f.write(t))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
	path := tinyGGUF(t, model).write(t)
	if err := os.Truncate(path, 12_000); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGGUF(path); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("a truncated file gives error %v, want one that says so", err)
	}
}
