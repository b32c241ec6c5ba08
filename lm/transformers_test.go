package lm

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/lm/tokens"
)

// TestTransformersSaves reads what the installed transformers and PEFT save, and compares every token's
// log-probability with theirs.
func TestTransformersSaves(t *testing.T) {
	dir := t.TempDir()
	cases := reference.Python[[]struct {
		Name, Model, Adapter string
		IDs                  [][]int32
		LogProbs             [][]float64
	}](t, "torch transformers peft", filepath.Join("testdata", "save_with_transformers.py"), nil, dir)
	if len(cases) < 30 {
		t.Errorf("%d models and adapters are compared, want 9 models and 22 adapters", len(cases))
	}
	engine := testEngine(t)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			model, err := LoadModel(filepath.Join(dir, c.Model))
			if err != nil {
				t.Fatal(err)
			}
			var adapter *Adapter
			if c.Adapter != "" {
				if adapter, err = LoadAdapter(filepath.Join(dir, c.Adapter), model.Config); err != nil {
					t.Fatal(err)
				}
			}
			worst := disagreement(t, c.Name, tokenLogProbs(t, engine, model, adapter, c.IDs), slices.Concat(c.LogProbs...))
			t.Logf("at most %.1e apart", worst)
			if !(worst <= 1e-4) { // NaN as well
				t.Errorf("log-probabilities are %.2g apart from transformers', at most 1e-4 is allowed", worst)
			}
		})
	}
}

// tokenLogProbs is the log-probability of every token of some sequences but their first ones.
func tokenLogProbs(t *testing.T, engine *Engine, model *Model, adapter *Adapter, sequences [][]int32) []float64 {
	t.Helper()
	var examples []Example
	for _, ids := range sequences {
		examples = append(examples, Example{Sequences: []Sequence{{Tokens: ids, LossFrom: 1}}})
	}
	scores, err := LogProbs(t.Context(), engine, model, adapter, examples, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var values []float64
	for _, s := range scores {
		for _, p := range s[0].Tokens {
			values = append(values, float64(p))
		}
	}
	return values
}

// TestTransformersLayouts writes the same model and tokenizer in the layouts of transformers 4 and 5: the text of a
// conversation, its ids and their log-probabilities are the same to the bit.
func TestTransformersLayouts(t *testing.T) {
	engine := testEngine(t)
	scaling := RopeScaling{RopeType: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 32}
	for name, c := range map[string]struct {
		family string
		tied   bool
		theta  float64
		rope   *RopeScaling
	}{
		"llama, tied":            {"llama", true, 500000, nil},
		"llama, untied, scaled":  {"llama", false, 300, &scaling},
		"qwen2, tied":            {"qwen2", true, 1e6, nil},
		"qwen2, untied":          {"qwen2", false, 777, nil},
		"qwen2, untied, scaled":  {"qwen2", false, 10000, &scaling},
		"llama, tied, as always": {"llama", true, defaultRopeTheta, nil},
	} {
		t.Run(name, func(t *testing.T) {
			four, five := t.TempDir(), t.TempDir()
			tok, err := tokens.TrainBPE(t.Context(), func(yield func(string) bool) { yield("low lower lowest, how are you?") }, four, tokens.BPEOptions{VocabSize: 290})
			if err != nil {
				t.Fatal(err)
			}
			model := tinyModel(t, Config{ModelType: c.family, HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 2, NumAttentionHeads: 4,
				NumKeyValueHeads: 2, VocabSize: tok.VocabSize(), MaxPositionEmbeddings: 256, RMSNormEps: 1e-5, HiddenAct: "silu",
				TieWordEmbeddings: c.tied, RopeTheta: c.theta, RopeScaling: c.rope})
			if err := model.Save(four); err != nil {
				t.Fatal(err)
			}
			writeTransformers5(t, four, five)
			texts, ids, values := map[string]string{}, map[string][]int32{}, map[string][]float64{}
			for _, dir := range []string{four, five} {
				tok, err := tokens.Load(dir)
				if err != nil {
					t.Fatal(err)
				}
				messages := []tokens.Message{{Role: "user", Content: "how low?"}, {Role: "assistant", Content: "lowest"}, {Role: "user", Content: "lower!"}}
				if texts[dir], err = tok.RenderChat(messages, true); err != nil {
					t.Fatal(err)
				}
				if ids[dir], _, err = tok.ChatTokens(messages, "", "how are you?"); err != nil {
					t.Fatal(err)
				}
				loaded, err := LoadModel(dir)
				if err != nil {
					t.Fatal(err)
				}
				values[dir] = tokenLogProbs(t, engine, loaded, nil, [][]int32{ids[dir]})
			}
			if texts[four] != texts[five] || texts[four] == "" {
				t.Errorf("the conversation is %q in the layout of transformers 5, want %q", texts[five], texts[four])
			}
			if !slices.Equal(ids[four], ids[five]) {
				t.Errorf("its ids are %v in the layout of transformers 5, want %v", ids[five], ids[four])
			}
			if !slices.EqualFunc(values[four], values[five], func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
				t.Errorf("its log-probabilities are %v in the layout of transformers 5, want %v", values[five], values[four])
			}
		})
	}
}

// writeTransformers5 writes the checkpoint of a directory as transformers 5 saves it: rotary settings in one object,
// the chat template in a file of its own, the special tokens' names without a list of all added tokens.
func writeTransformers5(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"tokenizer.json", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite := func(name string, change func(keys map[string]any)) {
		keys := reference.JSON[map[string]any](t, filepath.Join(from, name))
		change(keys)
		data, err := json.MarshalIndent(keys, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("config.json", func(keys map[string]any) {
		rope := map[string]any{"rope_type": "default", "rope_theta": keys["rope_theta"]}
		if scaling, ok := keys["rope_scaling"].(map[string]any); ok {
			maps.Copy(rope, scaling)
		}
		for _, key := range []string{"rope_theta", "rope_scaling", "torch_dtype"} {
			delete(keys, key)
		}
		maps.Copy(keys, map[string]any{"rope_parameters": rope, "dtype": "float32", "transformers_version": "5.24.0", "use_cache": true,
			"attention_dropout": 0.0, "initializer_range": 0.02, "pad_token_id": nil})
		if keys["model_type"] == "qwen2" {
			delete(keys, "attention_bias")
			maps.Copy(keys, map[string]any{"layer_types": []string{"full_attention", "full_attention"}, "max_window_layers": 28,
				"sliding_window": nil, "use_sliding_window": false})
		}
	})
	rewrite("tokenizer_config.json", func(keys map[string]any) {
		template, ok := keys["chat_template"].(string)
		if !ok {
			t.Fatal("the older tokenizer_config.json has no chat_template")
		}
		if err := os.WriteFile(filepath.Join(to, "chat_template.jinja"), []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
		delete(keys, "chat_template")
		delete(keys, "added_tokens_decoder")
		maps.Copy(keys, map[string]any{"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": []string{keys["pad_token"].(string)},
			"model_max_length": 1e30})
	})
	keys := map[string]any{"_from_model_config": true, "output_attentions": false, "transformers_version": "5.24.0", "use_cache": true}
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "generation_config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTransformersReads has transformers and PEFT read what an export has: a backbone that came as safetensors or as a
// GGUF file, its tokenizer, and an adapter on it.
func TestTransformersReads(t *testing.T) {
	type ask struct {
		Model   string    `json:"model"`
		Adapter string    `json:"adapter"`
		Texts   []string  `json:"texts"`
		IDs     [][]int32 `json:"ids"`
	}
	type answer struct {
		IDs      [][]int32   `json:"ids"`
		LogProbs [][]float64 `json:"logprobs"`
	}
	for name, write := range map[string]func(t *testing.T, dir string) []string{
		"safetensors": func(t *testing.T, dir string) []string {
			if err := tinyModel(t, tinyConfig()).Save(dir); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"GGUF": func(t *testing.T, dir string) []string {
			file, err := OpenGGUF(reference.SmolLM2(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := file.Write(dir); err != nil {
				t.Fatal(err)
			}
			return []string{"<|im_start|>user\nIn 2019 I lost my job.<|im_end|>\n<|im_start|>assistant\n[Question] How do you feel?<|im_end|>\n", "I’m 37 🙀"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := ask{Model: filepath.Join(dir, "base"), Adapter: filepath.Join(dir, "adapter")}
			if a.Texts = write(t, a.Model); a.Texts == nil {
				a.IDs = [][]int32{{1, 2, 3, 5, 8, 13, 21, 34}, {7, 7, 9}}
			}
			model, err := LoadModel(a.Model)
			if err != nil {
				t.Fatal(err)
			}
			adapter := trainedAdapter(t, model.Config, LoRA{Rank: 4, Alpha: 0.1}) // its weights are large: a small scale
			if err := adapter.Save(a.Adapter, "base"); err != nil {
				t.Fatal(err)
			}
			stdin, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			theirs := reference.Python[answer](t, "torch transformers peft", filepath.Join("testdata", "read_with_transformers.py"), stdin)
			if a.Texts != nil {
				tok, err := tokens.Load(a.Model)
				if err != nil {
					t.Fatal(err)
				}
				for i, text := range a.Texts {
					if ids := tok.Encode(text); !slices.Equal(ids, theirs.IDs[i]) {
						t.Errorf("ids of %q are %v, transformers' are %v", text, ids, theirs.IDs[i])
					}
				}
			}
			engine, want := testEngine(t), slices.Concat(theirs.LogProbs...)
			if plain := disagreement(t, name, tokenLogProbs(t, engine, model, nil, theirs.IDs), want); plain < 1e-3 {
				t.Errorf("without the adapter log-probabilities are %.2g apart, want the adapter to count", plain)
			}
			worst := disagreement(t, name, tokenLogProbs(t, engine, model, adapter, theirs.IDs), want)
			t.Logf("at most %.1e apart", worst)
			if !(worst <= 1e-4) { // NaN as well
				t.Errorf("log-probabilities are %.2g apart from transformers', at most 1e-4 is allowed", worst)
			}
		})
	}
}
