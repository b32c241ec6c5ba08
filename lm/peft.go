package lm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/internal/jsonerror"
)

// peft is what an adapter_config.json says of a LoRA adapter, as PEFT writes it (peft/tuners/lora/config.py).
type peft struct {
	rank          int
	alpha         float64
	dropout       float64
	rsLoRA        bool
	targets       func(module string) bool
	ranks, alphas []modulePattern // exceptions, the first that matches a module counts
}

// modulePattern gives modules a rank or an alpha of their own.
type modulePattern struct {
	modules *regexp.Regexp
	value   float64
}

// peftNeutral are keys that change nothing of what an adapter computes.
var peftNeutral = []string{"auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "inference_mode",
	"loftq_config", "megatron_config", "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type"}

// peftUsed are the keys that readPEFT understands.
var peftUsed = []string{"alpha_pattern", "bias", "exclude_modules", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
	"lora_dropout", "peft_type", "r", "rank_pattern", "target_modules", "use_rslora"}

// plainInits are initialisations that leave the base model as it is. The others (pissa, olora, corda, loftq, lora_ga)
// subtract from the base what they put into the adapter, and PEFT does so again when it loads one.
var plainInits = []string{"true", "false", "null", `"gaussian"`, `"orthogonal"`, `"eva"`, `"default"`}

// readPEFT reads an adapter_config.json. Every key of it that is not off is used, known to change nothing, or an error
// that names it: to apply such an adapter as plain LoRA would give wrong numbers without a word.
func readPEFT(data []byte) (*peft, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, jsonerror.Plain(err)
	}
	var c struct {
		Type    string          `json:"peft_type"`
		Bias    string          `json:"bias"`
		Rank    int             `json:"r"`
		Alpha   float64         `json:"lora_alpha"`
		Dropout float64         `json:"lora_dropout"`
		RSLoRA  bool            `json:"use_rslora"`
		Init    json.RawMessage `json:"init_lora_weights"`
		Ranks   json.RawMessage `json:"rank_pattern"`
		Alphas  json.RawMessage `json:"alpha_pattern"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, jsonerror.Plain(err)
	}
	if c.Type != "LORA" {
		return nil, fmt.Errorf("peft_type %q is not supported: LORA is", c.Type)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		raw := keys[key]
		switch {
		case off(raw), slices.Contains(peftUsed, key), slices.Contains(peftNeutral, key):
		default:
			return nil, fmt.Errorf("%s %s is not supported: only plain LoRA is; merge the adapter into its base with PEFT (merge_and_unload) and give the merged model",
				key, brief(raw))
		}
	}
	switch {
	case c.Bias != "none" && c.Bias != "":
		return nil, fmt.Errorf("bias %q is not supported: none is; merge the adapter into its base with PEFT (merge_and_unload) and give the merged model", c.Bias)
	case len(c.Init) > 0 && !slices.Contains(plainInits, string(c.Init)):
		return nil, fmt.Errorf("init_lora_weights %s changes the base model too, which plain LoRA leaves as it is: convert the adapter with PEFT "+
			"(save_pretrained with path_initial_model_for_weight_conversion), or merge it there and give the merged model", brief(c.Init))
	}
	p := &peft{rank: c.Rank, alpha: c.Alpha, dropout: c.Dropout, rsLoRA: c.RSLoRA}
	var err error
	if p.targets, err = targetModules(keys); err != nil {
		return nil, err
	}
	if p.ranks, err = modulePatterns("rank_pattern", c.Ranks); err != nil {
		return nil, err
	}
	p.alphas, err = modulePatterns("alpha_pattern", c.Alphas)
	return p, err
}

// modulePatterns reads rank_pattern or alpha_pattern in the order of the file, in which PEFT tries them
// (peft/utils/other.py, get_pattern_key).
func modulePatterns(key string, raw json.RawMessage) ([]modulePattern, error) {
	if off(raw) || len(raw) == 0 {
		return nil, nil
	}
	var patterns []modulePattern
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s is no object of numbers by modules", key)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", key, name, jsonerror.Plain(err))
		}
		modules, err := regexp.Compile(fmt.Sprintf(`^(?:.*\.)?(?:%s)$`, name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w: give the modules' names", key, err)
		}
		patterns = append(patterns, modulePattern{modules, value})
	}
	return patterns, nil
}

// valueOf is the pattern's value for a module, or the general one.
func valueOf(patterns []modulePattern, module string, general float64) float64 {
	for _, p := range patterns {
		if p.modules.MatchString(module) {
			return p.value
		}
	}
	return general
}

// allLinear is PEFT's name for every linear map but the head.
const allLinear = "all-linear"

// targetModules says which modules an adapter has (peft/tuners/tuners_utils.py, check_target_module_exists):
// target_modules is a list of names or suffixes, a regular expression, or "all-linear"; exclude_modules takes some
// away, and layers_to_transform keeps those of some layers.
func targetModules(keys map[string]json.RawMessage) (func(module string) bool, error) {
	wanted, isRegexp, err := moduleNames("target_modules", keys["target_modules"])
	if err != nil {
		return nil, err
	}
	if wanted == nil {
		return nil, fmt.Errorf("target_modules is missing: which modules the adapter belongs to cannot be told")
	}
	excluded, _, err := moduleNames("exclude_modules", keys["exclude_modules"])
	if err != nil {
		return nil, err
	}
	layers, err := intOrList("layers_to_transform", keys["layers_to_transform"])
	if err != nil {
		return nil, err
	}
	if layers != nil && isRegexp {
		return nil, fmt.Errorf("layers_to_transform does not go with target_modules as a regular expression: name the layers in the expression")
	}
	if pattern := keys["layers_pattern"]; !off(pattern) && len(pattern) > 0 {
		var names []string
		if json.Unmarshal(pattern, &names) != nil {
			names = []string{strings.Trim(string(pattern), `"`)}
		}
		if !slices.Contains(names, "layers") {
			return nil, fmt.Errorf("layers_pattern %s matches no layer of a Llama or Qwen2 model: they are named layers", brief(pattern))
		}
	}
	return func(module string) bool {
		if excluded != nil && excluded(module) || !wanted(module) {
			return false
		}
		return layers == nil || slices.Contains(layers, layerOf(module))
	}, nil
}

// moduleNames reads target_modules or exclude_modules; nil where there is none.
func moduleNames(key string, raw json.RawMessage) (match func(module string) bool, isRegexp bool, err error) {
	if len(raw) == 0 || off(raw) {
		return nil, false, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if one == allLinear {
			return func(module string) bool { return module != "lm_head" && module != "model.embed_tokens" }, false, nil
		}
		re, err := regexp.Compile(`^(?:` + one + `)$`)
		if err != nil {
			return nil, true, fmt.Errorf("%s: %w: write it without what Python alone knows, or as a list of names", key, err)
		}
		return re.MatchString, true, nil
	}
	var names []string
	if err := json.Unmarshal(raw, &names); err != nil {
		return nil, false, fmt.Errorf("%s %s is neither a list of names, nor a regular expression, nor %q", key, brief(raw), allLinear)
	}
	return func(module string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return module == name || strings.HasSuffix(module, "."+name) })
	}, false, nil
}

// intOrList reads a number or a list of numbers; nil where there is none.
func intOrList(key string, raw json.RawMessage) ([]int, error) {
	if !present(raw) {
		return nil, nil
	}
	var ids TokenIDs
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, fmt.Errorf("%s %s is neither a number nor a list of numbers", key, brief(raw))
	}
	if len(ids) == 0 {
		return nil, nil // an empty list is none, too
	}
	return ids, nil
}

// layerOf is the number of the layer that a module belongs to, -1 where to none.
func layerOf(module string) int {
	layer := -1
	if rest, ok := strings.CutPrefix(module, "model.layers."); ok {
		if _, err := fmt.Sscanf(rest, "%d.", &layer); err != nil {
			return -1
		}
	}
	return layer
}

// LoadAdapter reads a LoRA adapter in PEFT's layout for a model of the given configuration. What PEFT can vary by
// module (rank_pattern, alpha_pattern, layers_to_transform) is brought to one rank and scale for all: ranks are filled
// up with zeros, scales go into B, and modules without an adapter get one that adds nothing.
func LoadAdapter(dir string, config Config) (*Adapter, error) {
	path := filepath.Join(dir, "adapter_config.json")
	data, err := readLimited(path, maxConfigFile)
	if err != nil {
		return nil, fmt.Errorf("read adapter: %w", err)
	}
	p, err := readPEFT(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, module := range []string{"lm_head", "model.embed_tokens"} {
		if p.targets(module) {
			return nil, fmt.Errorf("%s: target_modules has %s: adapters of the linear maps of the layers are supported", path, module)
		}
	}
	a := &Adapter{Config: LoRA{Rank: p.rank, Alpha: p.alpha, Dropout: p.dropout, RSLoRA: p.rsLoRA}, weights: map[string]*tensors.Tensor{}}
	modules := p.modules(&config)
	for _, m := range modules {
		if m.adapted && !slices.Contains(a.Config.Targets, m.short()) {
			a.Config.Targets = append(a.Config.Targets, m.short())
		}
	}
	slices.Sort(a.Config.Targets) // as PEFT and Save write them
	if len(a.Config.Targets) == 0 {
		return nil, fmt.Errorf("%s: target_modules matches no linear map of a %s model", path, config.ModelType)
	}
	if i := slices.IndexFunc(modules, func(m adapted) bool { return m.adapted && (m.rank <= 0 || m.alpha <= 0) }); i >= 0 {
		return nil, fmt.Errorf("%s: rank %d and alpha %v of %s have to be positive", path, modules[i].rank, modules[i].alpha, modules[i].module)
	}
	modules = slices.DeleteFunc(modules, func(m adapted) bool { return !slices.Contains(a.Config.Targets, m.short()) })
	uniform := !slices.ContainsFunc(modules, func(m adapted) bool { return !m.adapted || m.rank != p.rank || m.alpha != p.alpha })
	if !uniform {
		a.Config.RSLoRA = false
		for _, m := range modules {
			a.Config.Rank = max(a.Config.Rank, m.rank)
		}
		a.Config.Alpha = float64(a.Config.Rank) // a scale of 1: each module's own goes into its B
	}
	if err := a.Config.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	files, closeAll, err := tensorFiles(dir, "adapter_model")
	if err != nil {
		return nil, err
	}
	defer closeAll()
	for _, m := range modules {
		if err := m.read(files, a, uniform); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	for name := range files {
		return nil, fmt.Errorf("%s: tensor %s has no place in this model under the adapter's target_modules", dir, name)
	}
	return a, nil
}

// adapted is a linear map of a layer with what the configuration of an adapter says of it.
type adapted struct {
	projection
	module  string // "model.layers.0.self_attn.q_proj"
	adapted bool
	rank    int
	alpha   float64
	scale   float64
}

// short is the name of the kind of map: "q_proj".
func (m adapted) short() string { return m.module[strings.LastIndexByte(m.module, '.')+1:] }

// modules lists the linear maps of all layers.
func (p *peft) modules(c *Config) []adapted {
	var list []adapted
	for i := range c.NumHiddenLayers {
		for _, projection := range c.projections() {
			m := adapted{projection: projection, module: layerName(i) + projection.name}
			if m.adapted = p.targets(m.module); m.adapted {
				m.rank = int(valueOf(p.ranks, m.module, float64(p.rank)))
				m.alpha = valueOf(p.alphas, m.module, p.alpha)
				m.scale = (&LoRA{Rank: m.rank, Alpha: m.alpha, RSLoRA: p.rsLoRA}).Scale()
			}
			list = append(list, m)
		}
	}
	return list
}

// read reads the two matrices of a module into the adapter, and takes them out of files. Where the adapter is not
// uniform, the rank is filled up with zeros and B carries the scale.
func (m adapted) read(files map[string]*tensorFile, a *Adapter, uniform bool) error {
	rank := a.Config.Rank
	down, up := m.module+".lora_A.weight", m.module+".lora_B.weight"
	if !m.adapted {
		a.weights[down], a.weights[up] = zeros([]int{rank, m.in}), zeros([]int{m.out, rank})
		return nil
	}
	var err error
	for _, p := range []parameter{{down, []int{m.rank, m.in}}, {up, []int{m.out, m.rank}}} {
		if a.weights[p.name], err = readTensor(files, parameter{peftPrefix + p.name, p.shape}); err != nil {
			return err
		}
		delete(files, peftPrefix+p.name)
	}
	if uniform {
		return nil
	}
	narrowA, err := floats(a.weights[down])
	if err != nil {
		return err
	}
	narrowB, err := floats(a.weights[up])
	if err != nil {
		return err
	}
	wideA, wideB := make([]float32, rank*m.in), make([]float32, m.out*rank)
	copy(wideA, narrowA)
	for o := range m.out {
		for r := range m.rank {
			wideB[o*rank+r] = float32(float64(narrowB[o*m.rank+r]) * m.scale)
		}
	}
	a.weights[down] = tensors.FromFlatDataAndDimensions(wideA, rank, m.in)
	a.weights[up] = tensors.FromFlatDataAndDimensions(wideB, m.out, rank)
	return nil
}
