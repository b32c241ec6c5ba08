package lm

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// minimalConfig is a configuration with further keys.
func minimalConfig(keys string) string {
	if keys != "" {
		keys = "," + keys
	}
	return `{"model_type":"llama","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,
		"vocab_size":50,"max_position_embeddings":64` + keys + `}`
}

// TestRopeSettings reads the rotary settings as each version of transformers writes them.
func TestRopeSettings(t *testing.T) {
	const llama3 = `"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32`
	scaled := RopeScaling{RopeType: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 32}
	for keys, want := range map[string]struct {
		theta   float64
		scaling *RopeScaling
	}{
		``: {10000, nil},
		`"rope_theta":500000.0,"rope_scaling":null`: {500000, nil},
		// transformers 5
		`"rope_parameters":{"rope_theta":500000.0,"rope_type":"default"}`:                                                {500000, nil},
		`"rope_parameters":{"rope_theta":500000}`:                                                                        {500000, nil},
		`"rope_parameters":{"rope_type":"llama3","rope_theta":1e6,` + llama3 + `}`:                                       {1e6, &scaled},
		`"rope_parameters":{"full_attention":{"rope_type":"default","rope_theta":123}}`:                                  {123, nil},
		`"rope_parameters":{"rope_type":"default","rope_theta":7,"partial_rotary_factor":1.0},"partial_rotary_factor":1`: {7, nil},
		// both, for readers of either version
		`"rope_theta":500000,"rope_parameters":{"rope_type":"default","rope_theta":500000.0}`: {500000, nil},
		`"rope_theta":9,"rope_scaling":{"type":"llama3",` + llama3 + `}`:                      {9, &scaled},
		// the base inside rope_scaling, as transformers 5 reads it
		`"rope_scaling":{"rope_type":"default","rope_theta":250000}`: {250000, nil},
	} {
		c, err := ParseConfig([]byte(minimalConfig(keys)))
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if same := (c.RopeScaling == nil) == (want.scaling == nil) && (want.scaling == nil || *c.RopeScaling == *want.scaling); c.RopeTheta != want.theta || !same {
			t.Errorf("%s: theta %v and scaling %+v, want %v and %+v", keys, c.RopeTheta, c.RopeScaling, want.theta, want.scaling)
		}
	}
	// The same frequencies whichever version has written them, to the bit.
	four, err := ParseConfig([]byte(minimalConfig(`"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3",` + llama3 + `}`)))
	if err != nil {
		t.Fatal(err)
	}
	five, err := ParseConfig([]byte(minimalConfig(`"rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3",` + llama3 + `}`)))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range four.ropeFrequencies() {
		if got := five.ropeFrequencies()[i]; math.Float64bits(got) != math.Float64bits(f) {
			t.Errorf("frequency %d is %v under rope_parameters, %v under rope_scaling", i, got, f)
		}
	}
}

// TestConfigKeysRefused names every key that asks for what is not computed.
func TestConfigKeysRefused(t *testing.T) {
	for keys, names := range map[string]string{
		`"rope_parameters":{"rope_type":"yarn","factor":4,"rope_theta":10000}`:                           `rope_parameters.rope_type "yarn"`,
		`"rope_parameters":{"rope_type":"dynamic","factor":4}`:                                           `rope_parameters.rope_type "dynamic"`,
		`"rope_scaling":{"type":"linear","factor":2}`:                                                    `rope_scaling.rope_type "linear"`,
		`"rope_scaling":{"rope_type":"longrope","short_factor":[1],"long_factor":[1]}`:                   `rope_scaling.rope_type "longrope"`,
		`"rope_parameters":{"rope_type":"default","rope_theta":10000,"partial_rotary_factor":0.5}`:       "rope_parameters.partial_rotary_factor",
		`"rope_parameters":{"sliding_attention":{"rope_theta":1e4},"full_attention":{"rope_theta":1e6}}`: "rope_parameters",
		`"rope_parameters":{"rope_type":"default","mrope_section":[1,2]}`:                                "rope_parameters.mrope_section",
		`"rope_theta":10000,"rope_parameters":{"rope_theta":500000}`:                                     "rope_theta",
		`"rope_scaling":{"rope_type":"default","rope_theta":5},"rope_theta":6`:                           "rope_theta",
		`"partial_rotary_factor":0.25`:                                                                   "partial_rotary_factor",
		`"rotary_pct":0.25`:                                                                              "rotary_pct",
		`"attn_logit_softcapping":50.0`:                                                                  "attn_logit_softcapping",
		`"final_logit_softcapping":30.0`:                                                                 "final_logit_softcapping",
		`"embedding_multiplier":12.0`:                                                                    "embedding_multiplier",
		`"residual_multiplier":0.22`:                                                                     "residual_multiplier",
		`"logits_scaling":16.0`:                                                                          "logits_scaling",
		`"use_qk_norm":true`:                                                                             "use_qk_norm",
		`"clip_qkv":8`:                                                                                   "clip_qkv",
		`"no_rope_layers":[1,0]`:                                                                         "no_rope_layers",
		`"num_local_experts":8`:                                                                          "num_local_experts",
		`"layer_types":["full_attention","sliding_attention"]`:                                           "layer_types",
		`"use_sliding_window":true`:                                                                      "use_sliding_window",
		`"attention_dropout":0.1`:                                                                        "attention_dropout",
		`"hidden_activation":"gelu_pytorch_tanh"`:                                                        "hidden_activation",
		`"quantization_config":{"quant_method":"gptq"}`:                                                  "quantization_config",
		`"pruned_heads":{"1":[0]}`:                                                                       "pruned_heads",
		`"is_causal":false`:                                                                              "is_causal",
		`"use_bidirectional_attention":true`:                                                             "use_bidirectional_attention",
		`"use_mrope":true`:                                                                               "use_mrope",
		`"embd_pdrop":0.1`:                                                                               "embd_pdrop",
		`"norm_type":"layernorm"`:                                                                        "norm_type",
		`"attention_type":"chunked"`:                                                                     "attention_type",
		`"rope_type":"yarn"`:                                                                             "rope_type",
		`"position_embedding_type":"alibi"`:                                                              "position_embedding_type",
		`"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}`: "rope_scaling.rope_type llama3",
		`"rope_parameters":{"rope_type":"default","attention_factor":1.2}`:                          "rope_parameters.attention_factor",
		`"rope_parameters":{"rope_type":"linear","factor":2}`:                                       `rope_parameters.rope_type "linear"`,
		`"rope_interleaved":true`: "rope_interleaved",
	} {
		if _, err := ParseConfig([]byte(minimalConfig(keys))); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: the error has to name %s, it is: %v", keys, names, err)
		}
	}
}

// TestConfigKeysNeutral reads what files of published models have besides: as transformers 4 and 5 and other trainers
// write it.
func TestConfigKeysNeutral(t *testing.T) {
	for _, keys := range []string{
		`"architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16","dtype":"float32","transformers_version":"5.24.0","use_cache":true,"pretraining_tp":1,"initializer_range":0.02`,
		`"is_llama_config":true,"rope_interleaved":false,"transformers.js_config":{"dtype":"q4"},"pad_token_id":2,"attention_dropout":0.0,"_name_or_path":"x"`,
		`"sliding_window":32768,"max_window_layers":28,"use_sliding_window":false,"layer_types":["full_attention","full_attention"],"unsloth_fixed":true`,
		`"return_dict":true,"output_hidden_states":false,"pruned_heads":{},"is_decoder":false,"temperature":1.0,"top_k":50,"length_penalty":1.0,"num_beams":1,"task_specific_params":null`,
		`"is_causal":true,"_attn_implementation":"flash_attention_2","_attn_implementation_internal":"sdpa","torch_dtype":"bfloat16","loss_type":"ForCausalLM","position_embedding_type":"rope"`,
		`"logits_scaling":1.0,"embedding_multiplier":1,"id2label":{"0":"LABEL_0"},"tie_encoder_decoder":false,"chunk_size_feed_forward":0,"problem_type":null`,
	} {
		if _, err := ParseConfig([]byte(minimalConfig(keys))); err != nil {
			t.Errorf("%s: %v", keys, err)
		}
	}
}

// TestTiedHead refuses a tied model whose file has a head of its own, and reads one that repeats the embedding.
func TestTiedHead(t *testing.T) {
	config, err := ParseConfig([]byte(minimalConfig("")))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		head bool // another matrix
	}{{"the embedding again", false}, {"a matrix of its own", true}} {
		model, err := NewModel(config, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !c.head {
			model.weights[headWeight] = model.weights[embeddingWeight]
		}
		model.Config.TieWordEmbeddings = true
		dir := t.TempDir()
		if err := model.Save(dir); err != nil {
			t.Fatal(err)
		}
		_, err = LoadModel(dir)
		if c.head != (err != nil) || err != nil && !strings.Contains(err.Error(), "tie_word_embeddings") {
			t.Errorf("%s: error %v", c.name, err)
		}
		if err := CheckModel(dir); c.head != (err != nil) {
			t.Errorf("%s, from the headers: error %v", c.name, err)
		}
	}
}

// TestTensorFilesWhole refuses files with bytes that belong to no tensor, and a file beside the shards of another save.
func TestTensorFilesWhole(t *testing.T) {
	config, err := ParseConfig([]byte(minimalConfig("")))
	if err != nil {
		t.Fatal(err)
	}
	model, err := NewModel(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	save := func(t *testing.T) (dir, weights string) {
		dir = t.TempDir()
		if err := model.Save(dir); err != nil {
			t.Fatal(err)
		}
		return dir, filepath.Join(dir, "model.safetensors")
	}
	for name, c := range map[string]struct {
		change func(data []byte) []byte
		names  string
	}{
		"bytes behind":    {func(data []byte) []byte { return append(data, 1, 2, 3) }, "3 bytes stand behind"},
		"zeros behind":    {func(data []byte) []byte { return append(data, make([]byte, 4096)...) }, "4096 bytes stand behind"},
		"torn":            {func(data []byte) []byte { return data[:len(data)-5] }, "truncated"},
		"a file appended": {func(data []byte) []byte { return append(data, data...) }, "behind the last tensor"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := save(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.change(data), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadModel(dir); err == nil || !strings.Contains(err.Error(), c.names) {
				t.Errorf("the error has to say %q, it is: %v", c.names, err)
			}
		})
	}
	t.Run("stale single file", func(t *testing.T) {
		dir, path := save(t)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "model-00001-of-00001.safetensors"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		index := `{"weight_map":{`
		for i, p := range config.parameters() {
			if i > 0 {
				index += ","
			}
			index += `"` + p.name + `":"model-00001-of-00001.safetensors"`
		}
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte(index+"}}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadModel(dir); err == nil || !strings.Contains(err.Error(), "model.safetensors and the shards") {
			t.Errorf("the error has to name both, it is: %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadModel(dir); err != nil {
			t.Errorf("the shards alone: %v", err)
		}
	})
}
