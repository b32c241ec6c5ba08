package lm

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/esclab/esclab/internal/jsonerror"
)

// defaultRopeTheta is what transformers takes where a configuration names no base of the rotary frequencies.
const defaultRopeTheta = 10000

// RopeScaling holds Llama 3's frequency scaling; RopeType is "llama3" or "default".
type RopeScaling struct {
	RopeType                      string  `json:"rope_type"`
	Type                          string  `json:"type,omitempty"` // the older name of rope_type
	Factor                        float64 `json:"factor,omitempty"`
	LowFreqFactor                 float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor                float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositionEmbeddings int     `json:"original_max_position_embeddings,omitempty"`
}

// check says what of a scaling is not computed here; nil means none.
func (s *RopeScaling) check() error {
	if s == nil {
		return nil
	}
	switch s.RopeType {
	case "default":
	case "llama3":
		if s.Factor <= 0 || s.HighFreqFactor <= s.LowFreqFactor || s.OriginalMaxPositionEmbeddings <= 0 {
			return fmt.Errorf("rope_type llama3 is incomplete: factor, low_freq_factor < high_freq_factor and original_max_position_embeddings are needed")
		}
	default:
		return fmt.Errorf("rope_type %q is not supported: llama3 and default are", s.RopeType)
	}
	return nil
}

// ropeSettings is one object of rotary settings as it stands in a file: what transformers 4 calls rope_scaling, and
// transformers 5 rope_parameters, with rope_theta and partial_rotary_factor inside.
type ropeSettings struct {
	RopeScaling
	Theta   *float64 `json:"rope_theta"`
	Partial *float64 `json:"partial_rotary_factor"`
}

// ropeKeys are the keys of rotary settings that are understood.
var ropeKeys = []string{"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "low_freq_factor",
	"high_freq_factor", "original_max_position_embeddings"}

// readRope takes the rotary settings from where a version of transformers writes them: rope_theta and rope_scaling
// (4), rope_parameters (5), or both, which then have to agree (modeling_rope_utils.RotaryEmbeddingConfigMixin).
func (c *Config) readRope(keys map[string]json.RawMessage) error {
	c.RopeScaling = nil
	var from string // where the settings stood that c has by now
	theta, thetaFrom := 0.0, ""
	setTheta := func(v float64, key string) error {
		if thetaFrom != "" && v != theta {
			return fmt.Errorf("%s is %v, but %s is %v: keep the one that the model was trained with", key, v, thetaFrom, theta)
		}
		theta, thetaFrom = v, key
		return nil
	}
	if present(keys["rope_theta"]) {
		if err := setTheta(c.RopeTheta, "rope_theta"); err != nil {
			return err
		}
	}
	for _, key := range []string{"rope_parameters", "rope_scaling"} {
		raw := keys[key]
		if !present(raw) || string(raw) == "{}" {
			continue
		}
		s, err := parseRope(key, raw)
		if err != nil {
			return err
		}
		if from != "" && (c.RopeScaling == nil) != (s.RopeType == "default") || c.RopeScaling != nil && *c.RopeScaling != s.RopeScaling {
			return fmt.Errorf("%s and %s contradict each other: keep the one that the model was trained with", from, key)
		}
		from = key
		if s.RopeType != "default" {
			c.RopeScaling = &s.RopeScaling
		}
		if s.Theta != nil {
			if err := setTheta(*s.Theta, key+".rope_theta"); err != nil {
				return err
			}
		}
	}
	c.RopeTheta = defaultRopeTheta
	if thetaFrom != "" {
		c.RopeTheta = theta
	}
	return nil
}

// parseRope reads one object of rotary settings; every key in it is understood or refused.
func parseRope(key string, raw json.RawMessage) (ropeSettings, error) {
	var s ropeSettings
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return s, fmt.Errorf("%s: %w", key, jsonerror.Plain(err))
	}
	// transformers 5 has settings by type of layer where a model has several types.
	if whole, ok := keys["full_attention"]; ok {
		if len(keys) > 1 {
			return s, fmt.Errorf("%s has settings for several types of layers: full_attention alone is supported", key)
		}
		return parseRope(key+".full_attention", whole)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s: %w", key, jsonerror.Plain(err))
	}
	if s.RopeType == "" {
		s.RopeType = s.Type
	}
	if s.RopeType == "" {
		s.RopeType = "default"
	}
	s.Type = ""
	if err := s.check(); err != nil {
		return s, fmt.Errorf("%s.%w", key, err)
	}
	if s.Partial != nil && *s.Partial != 1 {
		return s, fmt.Errorf("%s.partial_rotary_factor %v is not supported: 1 is", key, *s.Partial)
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(ropeKeys, name) && present(keys[name]) {
			return s, fmt.Errorf("%s.%s is not supported with rope_type %s", key, name, s.RopeType)
		}
	}
	if s.RopeType == "default" { // a factor beside it changes nothing
		s.RopeScaling = RopeScaling{RopeType: "default"}
	}
	return s, nil
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
