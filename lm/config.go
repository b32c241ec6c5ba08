package lm

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/esclab/esclab/internal/jsonerror"
)

// Config is a decoder's architecture: the fields of a Hugging Face config.json that change what is computed.
type Config struct {
	ModelType             string       `json:"model_type"` // "llama" or "qwen2"
	HiddenSize            int          `json:"hidden_size"`
	IntermediateSize      int          `json:"intermediate_size"`
	NumHiddenLayers       int          `json:"num_hidden_layers"`
	NumAttentionHeads     int          `json:"num_attention_heads"`
	NumKeyValueHeads      int          `json:"num_key_value_heads"`
	HeadDim               int          `json:"head_dim"`
	VocabSize             int          `json:"vocab_size"`
	MaxPositionEmbeddings int          `json:"max_position_embeddings"`
	RMSNormEps            float64      `json:"rms_norm_eps"`
	RopeTheta             float64      `json:"rope_theta"`
	RopeScaling           *RopeScaling `json:"rope_scaling,omitempty"`
	HiddenAct             string       `json:"hidden_act"`
	TieWordEmbeddings     bool         `json:"tie_word_embeddings"`
	AttentionBias         bool         `json:"attention_bias"` // bias on q, k, v (always for qwen2)
	MLPBias               bool         `json:"mlp_bias"`
	BOSTokenID            *int         `json:"bos_token_id,omitempty"`
	EOSTokenIDs           TokenIDs     `json:"eos_token_id,omitempty"`
}

// TokenIDs is one id or a list of ids, as config.json has either.
type TokenIDs []int

// UnmarshalJSON accepts a number, a list of numbers or null.
func (t *TokenIDs) UnmarshalJSON(data []byte) error {
	var one int
	if err := json.Unmarshal(data, &one); err == nil {
		*t = TokenIDs{one}
		if string(data) == "null" {
			*t = nil
		}
		return nil
	}
	var many []int
	if err := json.Unmarshal(data, &many); err != nil {
		return fmt.Errorf("token id %s is neither a number nor a list", data)
	}
	*t = many
	return nil
}

// MarshalJSON writes a single id as a number.
func (t TokenIDs) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]int(t))
}

// ReadConfig reads dir/config.json; what this package would compute differently is an error, not a guess.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	data, err := readLimited(path, maxConfigFile)
	if err != nil {
		return Config{}, fmt.Errorf("read model configuration: %w", err)
	}
	config, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return config, nil
}

// ParseConfig parses and checks a config.json. Every key is used, known to change nothing, or an error that names it:
// see configKeys.
func ParseConfig(data []byte) (Config, error) {
	c := Config{RopeTheta: defaultRopeTheta, RMSNormEps: 1e-6, HiddenAct: "silu"}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("parse model configuration: %w", jsonerror.Plain(err))
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return Config{}, fmt.Errorf("parse model configuration: %w", jsonerror.Plain(err))
	}
	if err := checkConfigKeys(keys); err != nil {
		return Config{}, err
	}
	if err := c.readRope(keys); err != nil {
		return Config{}, err
	}
	if err := c.complete(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// complete fills derived fields and checks the configuration.
func (c *Config) complete() error {
	switch c.ModelType {
	case "llama":
	case "qwen2":
		c.AttentionBias = true
	default:
		return fmt.Errorf("model_type %q is not supported: llama and qwen2 are", c.ModelType)
	}
	if c.HiddenAct != "silu" {
		return fmt.Errorf("hidden_act %q is not supported: silu is", c.HiddenAct)
	}
	if c.NumKeyValueHeads == 0 {
		c.NumKeyValueHeads = c.NumAttentionHeads
	}
	if c.HeadDim == 0 && c.NumAttentionHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	}
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"hidden_size", c.HiddenSize, 1 << 20}, {"intermediate_size", c.IntermediateSize, 1 << 22},
		{"num_hidden_layers", c.NumHiddenLayers, 4096}, {"num_attention_heads", c.NumAttentionHeads, 1 << 16},
		{"num_key_value_heads", c.NumKeyValueHeads, 1 << 16}, {"head_dim", c.HeadDim, 1 << 16}, {"vocab_size", c.VocabSize, 1 << 24},
		{"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 24},
	} {
		if f.value <= 0 {
			return fmt.Errorf("%s is %d: it must be positive", f.name, f.value)
		}
		if f.value > f.most {
			return fmt.Errorf("%s is %d, at most %d", f.name, f.value, f.most)
		}
	}
	// Weights are named, and tables filled, before a file is opened.
	if heads := max(c.NumAttentionHeads, c.NumKeyValueHeads); heads*c.HeadDim > 1<<20 || c.MaxPositionEmbeddings*c.HeadDim > 1<<30 {
		return fmt.Errorf("head_dim %d with %d heads and %d positions is larger than any model that is supported", c.HeadDim, heads, c.MaxPositionEmbeddings)
	}
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		return fmt.Errorf("num_attention_heads %d is no multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("head_dim %d is odd: rotary positions need pairs", c.HeadDim)
	}
	if c.RMSNormEps <= 0 || c.RopeTheta <= 0 {
		return fmt.Errorf("rms_norm_eps %v and rope_theta %v must be positive", c.RMSNormEps, c.RopeTheta)
	}
	if err := c.RopeScaling.check(); err != nil {
		return fmt.Errorf("rope_scaling.%w", err)
	}
	return nil
}

// Parameters is the number of weights.
func (c *Config) Parameters() int {
	n := 0
	for _, p := range c.parameters() {
		n += shapeSize(p.shape)
	}
	return n
}

// save writes dir/config.json, of weights in float32.
func (c Config) save(dir string) error {
	return writeJSON(filepath.Join(dir, "config.json"), struct {
		Architectures []string `json:"architectures"`
		Config
		TorchDType string `json:"torch_dtype"`
	}{[]string{map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[c.ModelType]}, c, "float32"})
}

// parameter is one weight of the architecture: its Hugging Face name and its shape ([out, in] for matrices).
type parameter struct {
	name  string
	shape []int
}

// projection is one linear map of a layer: its name within the layer, rows and columns of its weight.
type projection struct {
	name    string
	out, in int
	bias    bool
}

// projections lists the seven linear maps of a layer, in PEFT's and Hugging Face's names.
func (c *Config) projections() []projection {
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	outBias := c.AttentionBias && c.ModelType == "llama" // Llama's attention_bias covers o_proj too, Qwen2's does not
	return []projection{
		{"self_attn.q_proj", q, c.HiddenSize, c.AttentionBias},
		{"self_attn.k_proj", kv, c.HiddenSize, c.AttentionBias},
		{"self_attn.v_proj", kv, c.HiddenSize, c.AttentionBias},
		{"self_attn.o_proj", c.HiddenSize, q, outBias},
		{"mlp.gate_proj", c.IntermediateSize, c.HiddenSize, c.MLPBias},
		{"mlp.up_proj", c.IntermediateSize, c.HiddenSize, c.MLPBias},
		{"mlp.down_proj", c.HiddenSize, c.IntermediateSize, c.MLPBias},
	}
}

// layerName is the prefix of layer i's weights.
func layerName(i int) string { return fmt.Sprintf("model.layers.%d.", i) }

// parameters lists every weight of the architecture in the order of computation.
func (c *Config) parameters() []parameter {
	list := []parameter{{embeddingWeight, []int{c.VocabSize, c.HiddenSize}}}
	for i := range c.NumHiddenLayers {
		p := layerName(i)
		list = append(list, parameter{p + "input_layernorm.weight", []int{c.HiddenSize}})
		for _, m := range c.projections() {
			if m.name == "mlp.gate_proj" {
				list = append(list, parameter{p + "post_attention_layernorm.weight", []int{c.HiddenSize}})
			}
			list = append(list, parameter{p + m.name + ".weight", []int{m.out, m.in}})
			if m.bias {
				list = append(list, parameter{p + m.name + ".bias", []int{m.out}})
			}
		}
	}
	list = append(list, parameter{"model.norm.weight", []int{c.HiddenSize}})
	if !c.TieWordEmbeddings {
		list = append(list, parameter{headWeight, []int{c.VocabSize, c.HiddenSize}})
	}
	return list
}
