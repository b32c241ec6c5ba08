package lm

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
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

// RopeScaling holds Llama 3's frequency scaling; RopeType is "llama3" or "default".
type RopeScaling struct {
	RopeType                      string  `json:"rope_type"`
	Type                          string  `json:"type,omitempty"` // the older name of rope_type
	Factor                        float64 `json:"factor,omitempty"`
	LowFreqFactor                 float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor                float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositionEmbeddings int     `json:"original_max_position_embeddings,omitempty"`
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

// ParseConfig parses and checks a config.json.
func ParseConfig(data []byte) (Config, error) {
	c := Config{RopeTheta: 10000, RMSNormEps: 1e-6, HiddenAct: "silu"}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("parse model configuration: %w", err)
	}
	var other struct {
		UseSlidingWindow    bool     `json:"use_sliding_window"`
		PretrainingTP       int      `json:"pretraining_tp"`
		PartialRotaryFactor *float64 `json:"partial_rotary_factor"`
		Quantization        any      `json:"quantization_config"`
	}
	if err := json.Unmarshal(data, &other); err != nil {
		return Config{}, fmt.Errorf("parse model configuration: %w", err)
	}
	switch {
	case other.UseSlidingWindow:
		return Config{}, fmt.Errorf("use_sliding_window is not supported")
	case other.PartialRotaryFactor != nil && *other.PartialRotaryFactor != 1:
		return Config{}, fmt.Errorf("partial_rotary_factor %v is not supported", *other.PartialRotaryFactor)
	case other.Quantization != nil:
		return Config{}, fmt.Errorf("quantized checkpoints are not supported: give the bf16, f16 or f32 weights")
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
	if s := c.RopeScaling; s != nil {
		if s.RopeType == "" {
			s.RopeType = s.Type
		}
		switch s.RopeType {
		case "default":
		case "llama3":
			if s.Factor <= 0 || s.HighFreqFactor <= s.LowFreqFactor || s.OriginalMaxPositionEmbeddings <= 0 {
				return fmt.Errorf("rope_scaling llama3 is incomplete: factor, low_freq_factor < high_freq_factor and original_max_position_embeddings are needed")
			}
		default:
			return fmt.Errorf("rope_scaling %q is not supported: llama3 and default are", s.RopeType)
		}
	}
	return nil
}

// ropeFrequencies returns the angle per position of each pair of head dimensions, [HeadDim/2], with Llama 3's
// scaling where the configuration asks for it (transformers, modeling_rope_utils._compute_llama3_parameters).
func (c *Config) ropeFrequencies() []float64 {
	inv := make([]float64, c.HeadDim/2)
	for i := range inv {
		inv[i] = math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
		s := c.RopeScaling
		if s == nil || s.RopeType != "llama3" {
			continue
		}
		old := float64(s.OriginalMaxPositionEmbeddings)
		wave := 2 * math.Pi / inv[i]
		switch {
		case wave > old/s.LowFreqFactor:
			inv[i] /= s.Factor
		case wave >= old/s.HighFreqFactor:
			smooth := (old/wave - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			inv[i] = (1-smooth)*inv[i]/s.Factor + smooth*inv[i]
		}
	}
	return inv
}

// ropeTables returns cos and sin of position times frequency, each [positions, HeadDim/2], rounded once from
// float64 so that long positions lose nothing.
func (c *Config) ropeTables(positions int) (cos, sin []float32) {
	inv := c.ropeFrequencies()
	cos = make([]float32, positions*len(inv))
	sin = make([]float32, positions*len(inv))
	for p := range positions {
		for i, f := range inv {
			s, k := math.Sincos(float64(p) * f)
			cos[p*len(inv)+i], sin[p*len(inv)+i] = float32(k), float32(s)
		}
	}
	return cos, sin
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
	list := []parameter{{"model.embed_tokens.weight", []int{c.VocabSize, c.HiddenSize}}}
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
		list = append(list, parameter{"lm_head.weight", []int{c.VocabSize, c.HiddenSize}})
	}
	return list
}
