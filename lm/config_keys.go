package lm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// neutralKeys are keys of a config.json that change nothing of what is computed here, whatever their value: they
// belong to initialisation, to classification heads, to generation or to one implementation of the same mathematics.
// transformers' PretrainedConfig writes most of them into every file.
var neutralKeys = []string{
	"_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_experts_implementation", "attn_implementation",
	"_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention", "use_flash_attention_2", "initializer_range", "initializer_factor", "max_window_layers", "sliding_window", "output_attentions",
	"classifier_dropout", "classifier_dropout_prob", "chunk_size_feed_forward", "encoder_no_repeat_ngram_size", "num_logits_to_keep",
	"is_decoder", "temperature", "diversity_penalty", "num_beam_groups", "prefix", "decoder_start_token_id", "cross_attention_hidden_size",
}

// usedKeys are read by Config or readRope.
var usedKeys = []string{
	"model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
	"vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "hidden_act",
	"tie_word_embeddings", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id",
}

// mathWords are the words of keys by which the family's models differ in what they compute. A key that has one of them
// and is in neither list above asks for something that is not done here, unless its value says that it is off.
var mathWords = []string{
	"act", "activation", "adapter", "alibi", "attend", "attention", "attn", "bias", "bidirectional", "cap", "capping", "causal", "chunk", "clip",
	"conv", "cross", "decoder", "depth", "dropout", "embed", "embedding", "embeddings", "encoder", "expert", "experts", "factor", "gate", "gating", "head", "heads", "kv", "latent",
	"layer", "layernorm", "layers", "local", "logit", "logits", "lora", "mamba", "mlp", "moe", "mrope", "multiplier", "mup", "nope", "norm", "ntk",
	"parallel", "pdrop", "position", "positions", "prefix", "pruned", "qk", "qkv", "quantization", "query", "residual", "rms", "rmsnorm", "rope",
	"rotary", "router", "scale", "scaling", "sink", "sinks", "sliding", "softcap", "softcapping", "sparse", "ssm", "temperature",
	"tie", "tied", "topk", "window", "yarn",
}

// checkConfigKeys refuses a configuration with a key that would change what is computed and that is not understood.
func checkConfigKeys(keys map[string]json.RawMessage) error {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		raw := keys[key]
		if slices.Contains(usedKeys, key) || slices.Contains(neutralKeys, key) || key != "is_causal" && off(raw) {
			continue
		}
		words := strings.FieldsFunc(strings.ToLower(key), func(r rune) bool { return r == '_' || r == '.' || r == '-' })
		switch {
		case key == "quantization_config":
			return fmt.Errorf("quantization_config: quantized checkpoints are not supported: give the bf16, f16 or f32 weights")
		case key == "layer_types" && allFullAttention(raw),
			key == "is_causal" && string(raw) == "true", // transformers 5 attends to all tokens otherwise
			key == "hidden_activation" && string(raw) == `"silu"`,
			key == "position_embedding_type" && (string(raw) == `"rotary"` || string(raw) == `"rope"`):
		case key == "hidden_activation", key == "position_embedding_type",
			slices.ContainsFunc(words, isMathWord) && !(isFactor(words) && isOne(raw)):
			return fmt.Errorf("%s %s is not supported: if it changes nothing of what the model computes, take it out of config.json", key, brief(raw))
		}
	}
	return nil
}

// allFullAttention says whether a list of layers' types has none but full_attention.
func allFullAttention(raw json.RawMessage) bool {
	var types []string
	return json.Unmarshal(raw, &types) == nil && !slices.ContainsFunc(types, func(t string) bool { return t != "full_attention" })
}

// isFactor says whether a key, by its last word, is something that is multiplied with.
func isFactor(words []string) bool {
	return slices.Contains([]string{"factor", "multiplier", "scale", "scaling"}, words[len(words)-1])
}

func isOne(raw json.RawMessage) bool {
	var v float64
	return json.Unmarshal(raw, &v) == nil && v == 1
}

func isMathWord(word string) bool { return slices.Contains(mathWords, word) }

// present says whether a key is there with a value.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// off says whether a value switches off whatever it belongs to: null, false, 0, "", [] or {}.
func off(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// brief shortens a value for a message of one line.
func brief(raw json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, raw) != nil {
		return "that is no JSON"
	}
	if line.Len() > 60 {
		return strings.ToValidUTF8(line.String()[:60], "") + "…"
	}
	return line.String()
}
