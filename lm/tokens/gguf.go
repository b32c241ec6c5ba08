package tokens

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// GGUF is what the metadata of a GGUF file say of its tokenizer, by the keys tokenizer.ggml.*.
type GGUF struct {
	Model, Pre string   // "gpt2" is byte-level BPE; the name of its pre-tokenizer
	Tokens     []string // by id
	Types      []int64  // of the tokens: see the constants below
	Merges     []string // "left right", by rank
	// BOS, EOS, Unknown and Pad are ids; -1: there is none.
	BOS, EOS, Unknown, Pad int
	// AddBOS says whether a text begins with BOS; nil: as the pre-tokenizer's models have it.
	AddBOS       *bool
	ChatTemplate string
}

// Types of a GGUF file's tokens (llama.h, llama_token_type). Control tokens and those of a user are added tokens;
// unused ones fill the vocabulary up to the embedding's rows.
const (
	ggufControl     = 3
	ggufUserDefined = 4
	ggufUnused      = 5
)

// ggufPre is what the tokenizer.json has that a pre-tokenizer's models come with.
type ggufPre struct {
	split        map[string]any // the step before ByteLevel
	regex        bool           // whether ByteLevel splits by GPT-2's pattern, too
	nfc          bool
	ignoreMerges bool
	addBOS       bool
}

// ggufPres are the pre-tokenizers that are known, by llama.cpp's names (llama-vocab.cpp). What a GGUF file leaves out
// is as in the models' own tokenizer.json: Qwen2's normalizes to NFC, Llama 3's takes words that are tokens whole.
func ggufPres() map[string]ggufPre {
	pattern := func(regex string) map[string]any {
		return map[string]any{"type": "Split", "pattern": map[string]any{"Regex": regex}, "behavior": "Isolated", "invert": false}
	}
	return map[string]ggufPre{
		"smollm":    {split: map[string]any{"type": "Digits", "individual_digits": true}, regex: true},
		"llama-bpe": {split: pattern(llama3Pattern), ignoreMerges: true, addBOS: true},
		"qwen2":     {split: pattern(qwen2Pattern), nfc: true},
	}
}

// GGUFValue is a value of the metadata; where there is none, Raw is nil and the others are empty.
type GGUFValue interface {
	Raw() any
	String() string
	Strings() []string
	Int64() int64
	Int64s() []int64
	Bool() bool
}

// ReadGGUF takes the tokenizer from a file's metadata. What is not supported is an error that names it.
func ReadGGUF(value func(key string) GGUFValue) (GGUF, error) {
	of := func(key string) GGUFValue { return value("tokenizer.ggml." + key) }
	id := func(key string) int {
		if v := of(key); v.Raw() != nil {
			return int(v.Int64())
		}
		return -1
	}
	g := GGUF{
		Model: of("model").String(), Pre: of("pre").String(), ChatTemplate: value("tokenizer.chat_template").String(),
		Tokens: of("tokens").Strings(), Types: of("token_type").Int64s(), Merges: of("merges").Strings(),
		BOS: id("bos_token_id"), EOS: id("eos_token_id"), Unknown: id("unknown_token_id"), Pad: id("padding_token_id"),
	}
	if v := of("add_bos_token"); v.Raw() != nil {
		add := v.Bool()
		g.AddBOS = &add
	}
	return g, g.check()
}

// check says what of the tokenizer is not supported.
func (g *GGUF) check() error {
	const prefix = "tokenizer.ggml."
	_, known := ggufPres()[g.Pre]
	switch {
	case g.Model != "gpt2":
		return fmt.Errorf("%smodel %q is not supported: gpt2, which is byte-level BPE, is", prefix, g.Model)
	case !known:
		return fmt.Errorf("%spre %q is not supported: %s are", prefix, g.Pre, strings.Join(slices.Sorted(maps.Keys(ggufPres())), ", "))
	case len(g.Tokens) == 0 || len(g.Types) != len(g.Tokens):
		return fmt.Errorf("%stokens has %d entries and %stoken_type %d: they have to be as many, and some", prefix, len(g.Tokens), prefix, len(g.Types))
	case g.ChatTemplate == "":
		return errors.New("tokenizer.chat_template is missing: take an instruction-tuned model's file")
	}
	for _, named := range []struct {
		key string
		id  int
	}{{"bos", g.BOS}, {"eos", g.EOS}, {"unknown", g.Unknown}, {"padding", g.Pad}} {
		if named.id < -1 || named.id >= len(g.Tokens) {
			return fmt.Errorf("%s%s_token_id %d is outside the vocabulary of %d", prefix, named.key, named.id, len(g.Tokens))
		}
	}
	return nil
}

// Write writes tokenizer.json and tokenizer_config.json into dir, which is created if need be: same metadata, same
// bytes.
func (g *GGUF) Write(dir string) error {
	pre := ggufPres()[g.Pre]
	byteLevel := func(regex bool) map[string]any {
		return map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex}
	}
	processors := []any{byteLevel(false)}
	if add := g.AddBOS != nil && *g.AddBOS || g.AddBOS == nil && pre.addBOS; add && g.BOS >= 0 {
		processors = append(processors, bosBefore(g.Tokens[g.BOS], g.BOS))
	}
	vocabulary, added := g.vocabulary()
	file := map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer":  map[string]any{"type": "Sequence", "pretokenizers": []any{pre.split, byteLevel(pre.regex)}},
		"post_processor": map[string]any{"type": "Sequence", "processors": processors},
		"decoder":        byteLevel(false),
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignoreMerges, "vocab": vocabulary, "merges": g.Merges,
		},
	}
	if pre.nfc {
		file["normalizer"] = map[string]any{"type": "NFC"}
	}
	settings := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "chat_template": g.ChatTemplate,
	}
	for key, id := range map[string]int{"bos_token": g.BOS, "eos_token": g.EOS, "unk_token": g.Unknown, "pad_token": g.Pad} {
		if id >= 0 {
			settings[key] = g.Tokens[id]
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]any{"tokenizer.json": file, configFile: settings} {
		data, err := marshalIndent(value)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// vocabulary gives the model's tokens by their ids, and those of them that are added ones. tokenizers gives an added
// token that the model lacks the next id that is free, whatever the file says, so all of them are in both.
func (g *GGUF) vocabulary() (vocabulary map[string]int, added []addedToken) {
	vocabulary = map[string]int{}
	for id, token := range g.Tokens {
		switch g.Types[id] {
		case ggufUnused:
			continue
		case ggufControl, ggufUserDefined:
			added = append(added, addedToken{ID: int32(id), Content: token, Special: g.Types[id] == ggufControl})
		}
		vocabulary[token] = id
	}
	return vocabulary, added
}

// bosBefore is the post-processor that puts a token before a text.
func bosBefore(token string, id int) map[string]any {
	special := map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": 0}}
	sequence := func(name string, kind int) map[string]any {
		return map[string]any{"Sequence": map[string]any{"id": name, "type_id": kind}}
	}
	return map[string]any{
		"type":           "TemplateProcessing",
		"single":         []any{special, sequence("A", 0)},
		"pair":           []any{special, sequence("A", 0), map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": 1}}, sequence("B", 1)},
		"special_tokens": map[string]any{token: map[string]any{"id": token, "ids": []int{id}, "tokens": []string{token}}},
	}
}
