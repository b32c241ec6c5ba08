package lm

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
)

// peftModel is the architecture of the tests of PEFT's configurations.
func peftModel(t *testing.T) Config {
	t.Helper()
	c, err := ParseConfig([]byte(`{"model_type":"llama","hidden_size":8,"intermediate_size":12,"num_hidden_layers":3,
		"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":20,"max_position_embeddings":32}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// writePEFT writes an adapter as PEFT saves it: its configuration with changes, and matrices of the given ranks.
func writePEFT(t *testing.T, config Config, changes map[string]any, ranks map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	keys := map[string]any{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "target_modules": []string{"q_proj", "v_proj"},
		"task_type": "CAUSAL_LM", "init_lora_weights": true, "modules_to_save": nil, "rank_pattern": map[string]int{}, "alpha_pattern": map[string]int{},
		"use_dora": false, "loftq_config": map[string]any{}, "layers_to_transform": nil, "megatron_core": "megatron.core", "qalora_group_size": 16}
	maps.Copy(keys, changes)
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	weights := map[string]*tensors.Tensor{}
	for i := range config.NumHiddenLayers {
		for _, p := range config.projections() {
			module := layerName(i) + p.name
			if rank := ranks[module]; rank > 0 {
				weights[peftPrefix+module+".lora_A.weight"] = tensors.FromFlatDataAndDimensions(sines(module+"A", rank*p.in), rank, p.in)
				weights[peftPrefix+module+".lora_B.weight"] = tensors.FromFlatDataAndDimensions(sines(module+"B", p.out*rank), p.out, rank)
			}
		}
	}
	err = writeFile(filepath.Join(dir, "adapter_model.safetensors"), func(w io.Writer) error { return writeSafetensors(w, weights, nil) })
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sines are numbers that a name decides.
func sines(name string, n int) []float32 {
	s, values := newStream(1, purposeInit, named(name)), make([]float32, n)
	for i := range values {
		values[i] = float32(s.uniform() - 0.5)
	}
	return values
}

// everyRank gives the modules of all layers with one of the short names a rank.
func everyRank(config Config, rank int, layers []int, short ...string) map[string]int {
	ranks := map[string]int{}
	for _, i := range layers {
		for _, p := range config.projections() {
			for _, s := range short {
				if strings.HasSuffix(p.name, "."+s) {
					ranks[layerName(i)+p.name] = rank
				}
			}
		}
	}
	return ranks
}

// TestPEFTUnderstood reads what PEFT users have and compares what is added to each weight with scale · B A.
func TestPEFTUnderstood(t *testing.T) {
	config := peftModel(t)
	all := []int{0, 1, 2}
	seven := everyRank(config, 4, all, loraTargets...)
	mixed := everyRank(config, 4, all, "q_proj", "v_proj")
	mixed["model.layers.1.self_attn.q_proj"] = 2
	for i := range all {
		mixed[layerName(i)+"self_attn.v_proj"] = 6
	}
	alphas := func(of map[string]float64) func(string) float64 {
		return func(module string) float64 {
			for suffix, alpha := range of {
				if strings.HasSuffix(module, suffix) {
					return alpha
				}
			}
			return 8
		}
	}
	for name, c := range map[string]struct {
		changes map[string]any
		ranks   map[string]int
		alpha   func(module string) float64
		rs      bool
	}{
		"list of names":              {nil, everyRank(config, 4, all, "q_proj", "v_proj"), nil, false},
		"list of suffixes":           {map[string]any{"target_modules": []string{"self_attn.k_proj", "mlp.down_proj"}}, everyRank(config, 4, all, "k_proj", "down_proj"), nil, false},
		"full path":                  {map[string]any{"target_modules": []string{"model.layers.2.mlp.up_proj"}}, everyRank(config, 4, []int{2}, "up_proj"), nil, false},
		"all-linear":                 {map[string]any{"target_modules": "all-linear"}, seven, nil, false},
		"regular expression":         {map[string]any{"target_modules": `.*\.(?:self_attn\.(?:q|o)_proj)`}, everyRank(config, 4, all, "q_proj", "o_proj"), nil, false},
		"regular expression, layers": {map[string]any{"target_modules": `model\.layers\.[12]\.mlp\..*`}, everyRank(config, 4, []int{1, 2}, "gate_proj", "up_proj", "down_proj"), nil, false},
		"layers_to_transform list":   {map[string]any{"layers_to_transform": []int{0, 2}}, everyRank(config, 4, []int{0, 2}, "q_proj", "v_proj"), nil, false},
		"layers_to_transform number": {map[string]any{"layers_to_transform": 1, "layers_pattern": "layers"}, everyRank(config, 4, []int{1}, "q_proj", "v_proj"), nil, false},
		"layers_to_transform empty":  {map[string]any{"layers_to_transform": []int{}}, everyRank(config, 4, all, "q_proj", "v_proj"), nil, false},
		"a name of no module":        {map[string]any{"target_modules": []string{"q_proj", "v_proj", "c_attn"}}, everyRank(config, 4, all, "q_proj", "v_proj"), nil, false},
		"exclude_modules":            {map[string]any{"target_modules": "all-linear", "exclude_modules": []string{"mlp.gate_proj", "up_proj", "down_proj"}}, everyRank(config, 4, all, loraTargets[:4]...), nil, false},
		"use_rslora":                 {map[string]any{"use_rslora": true}, everyRank(config, 4, all, "q_proj", "v_proj"), nil, true},
		"rank_pattern":               {map[string]any{"rank_pattern": map[string]int{"layers.1.self_attn.q_proj": 2, "v_proj": 6}}, mixed, nil, false},
		"rank_pattern and alpha_pattern under rslora": {map[string]any{"use_rslora": true, "rank_pattern": map[string]int{"layers.1.self_attn.q_proj": 2, "v_proj": 6},
			"alpha_pattern": map[string]any{"^model.layers.0.self_attn.q_proj": 3.5}}, mixed, alphas(map[string]float64{"layers.0.self_attn.q_proj": 3.5}), true},
		"alpha_pattern":      {map[string]any{"alpha_pattern": map[string]any{`layers\.\d\.self_attn\.v_proj`: 1}}, everyRank(config, 4, all, "q_proj", "v_proj"), alphas(map[string]float64{"v_proj": 1}), false},
		"initialised by eva": {map[string]any{"init_lora_weights": "eva", "eva_config": map[string]any{"rho": 2}}, everyRank(config, 4, all, "q_proj", "v_proj"), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := LoadAdapter(writePEFT(t, config, c.changes, c.ranks), config)
			if err != nil {
				t.Fatal(err)
			}
			if c.alpha == nil {
				c.alpha = alphas(nil)
			}
			for i := range config.NumHiddenLayers {
				for _, p := range config.projections() {
					module := layerName(i) + p.name
					rank := c.ranks[module]
					got := make([]float32, p.out*p.in)
					if _, err := a.addTo(module+".weight", got, []int{p.out, p.in}); err != nil {
						t.Fatal(err)
					}
					scale := c.alpha(module) / float64(rank)
					if c.rs {
						scale = c.alpha(module) / math.Sqrt(float64(rank))
					}
					down, up := sines(module+"A", rank*p.in), sines(module+"B", p.out*rank)
					for o := range p.out {
						for in := range p.in {
							want := 0.0
							for r := range rank {
								want += scale * float64(up[o*rank+r]) * float64(down[r*p.in+in])
							}
							if math.Abs(float64(got[o*p.in+in])-want) > 1e-6 {
								t.Fatalf("%s [%d, %d]: %v is added, want scale · B A = %v", module, o, in, got[o*p.in+in], want)
							}
						}
					}
				}
			}
		})
	}
}

// TestPEFTRefused names the key of every adapter that is no plain LoRA: one for each way in which PEFT changes the base
// or the forward pass, and files whose tensors are not those that the configuration speaks of.
func TestPEFTRefused(t *testing.T) {
	config := peftModel(t)
	plain := everyRank(config, 4, []int{0, 1, 2}, "q_proj", "v_proj")
	for i, c := range []struct {
		changes map[string]any
		ranks   map[string]int
		names   string
	}{
		{map[string]any{"init_lora_weights": "pissa"}, plain, "init_lora_weights"},
		{map[string]any{"init_lora_weights": "pissa_niter_16"}, plain, "init_lora_weights"},
		{map[string]any{"init_lora_weights": "olora"}, plain, "init_lora_weights"},
		{map[string]any{"init_lora_weights": "corda", "corda_config": nil}, plain, "init_lora_weights"},
		{map[string]any{"init_lora_weights": "loftq"}, plain, "init_lora_weights"},
		{map[string]any{"init_lora_weights": "lora_ga"}, plain, "init_lora_weights"},
		{map[string]any{"use_dora": true}, plain, "use_dora"},
		{map[string]any{"use_qalora": true}, plain, "use_qalora"},
		{map[string]any{"use_bdlora": map[string]any{"nblocks": 2}}, plain, "use_bdlora"},
		{map[string]any{"alora_invocation_tokens": []int{1, 2}}, plain, "alora_invocation_tokens"},
		{map[string]any{"arrow_config": map[string]any{"top_k": 3}}, plain, "arrow_config"},
		{map[string]any{"layer_replication": [][]int{{0, 2}, {1, 3}}}, plain, "layer_replication"},
		{map[string]any{"trainable_token_indices": []int{5}}, plain, "trainable_token_indices"},
		{map[string]any{"target_parameters": []string{"mlp.experts.gate_up_proj"}}, plain, "target_parameters"},
		{map[string]any{"modules_to_save": []string{"lm_head"}}, plain, "modules_to_save"},
		{map[string]any{"lora_bias": true}, plain, "lora_bias"},
		{map[string]any{"fan_in_fan_out": true}, plain, "fan_in_fan_out"},
		{map[string]any{"bias": "lora_only"}, plain, "bias"},
		{map[string]any{"peft_type": "LOHA"}, plain, "peft_type"},
		{map[string]any{"something_of_next_year": 3}, plain, "something_of_next_year"},
		{map[string]any{"target_modules": []string{"q_proj", "lm_head"}}, plain, "lm_head"},
		{map[string]any{"target_modules": []string{"c_attn"}}, plain, "target_modules"},
		{map[string]any{"target_modules": `.*(?<!mlp)\.q_proj`}, plain, "target_modules"},
		{map[string]any{"target_modules": nil}, plain, "target_modules"},
		{map[string]any{"layers_pattern": "h", "layers_to_transform": []int{1}}, plain, "layers_pattern"},
		{map[string]any{"rank_pattern": map[string]int{"q_proj": -1}}, plain, "rank"},
		{map[string]any{"layers_to_transform": []int{0}}, plain, "target_modules"},
		{map[string]any{"rank_pattern": map[string]int{"q_proj": 2}}, plain, "lora_A"},
	} {
		_, err := LoadAdapter(writePEFT(t, config, c.changes, c.ranks), config)
		if err == nil || !strings.Contains(err.Error(), c.names) || strings.Contains(err.Error(), "\n") {
			t.Errorf("case %d, %v: the error has to name %s on one line, it is: %v", i, fmt.Sprint(c.changes), c.names, err)
		}
	}
}
