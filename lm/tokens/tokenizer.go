package tokens

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/text/unicode/norm"

	"github.com/esclab/esclab/internal/jsonerror"
)

// Tokenizer is a byte-level BPE tokenizer in Hugging Face's format, with the
// chat template that belongs to it. Its methods may be called concurrently.
//
// It is our own rather than go-huggingface's: that one compiles pre-tokenizer
// patterns with Go's regexp, which has no lookahead, and takes the whole text
// as one word for Qwen2 and Llama 3; nor can it keep special tokens out of
// user text.
type Tokenizer struct {
	nfc               bool
	split             splitter
	bpe               bpe
	plain, normalized *addedMatcher // added tokens looked for before and after normalization
	anyAdded          *addedMatcher
	added             map[string]int32
	tokens            []string // by id, as written in tokenizer.json
	raw               []string // by id, the bytes they stand for
	special           []bool
	before, after     []int32 // what the post-processor adds

	roles map[string]string // the special tokens by their names: "bos_token" …
	stop  []int32           // eos ids of generation_config.json
	chat  *chatTemplate
}

// Load reads tokenizer.json from dir, and what is there of tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, chat_template.jinja and
// generation_config.json. A tokenizer that would not be reproduced exactly
// (anything but byte-level BPE with the pre-tokenizers of GPT-2, SmolLM, Qwen2
// or Llama 3) is an error that names what is not supported. The
// chat template is compiled here; where there is none, or one that cannot be
// rendered, the chat methods and Check return an error.
func Load(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := readLimited(path, maxTokenizer)
	if err != nil {
		return nil, fmt.Errorf("tokens: load tokenizer: %w", err)
	}
	var file tokenizerJSON
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("tokens: load tokenizer %s: %w", path, jsonerror.Plain(err))
	}
	config, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	if err := file.add(config); err != nil {
		return nil, fmt.Errorf("tokens: load tokenizer %s: %w", dir, err)
	}
	t, err := file.build()
	if err != nil {
		return nil, fmt.Errorf("tokens: load tokenizer %s: %w", path, err)
	}
	t.roles = map[string]string{}
	for name, token := range config.special {
		if token.Content != "" {
			t.roles[name] = token.Content
		}
	}
	t.setTemplate(config.chatTemplate(dir))
	return t, t.loadStop(filepath.Join(dir, generationFile))
}

func (t *Tokenizer) loadStop(path string) error {
	data, err := readOptional(path)
	if err != nil {
		return fmt.Errorf("tokens: load tokenizer: %w", err)
	}
	if data == nil {
		return nil
	}
	var config struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("tokens: load tokenizer %s: %w", path, err)
	}
	var one *int32
	if json.Unmarshal(config.EOS, &one) == nil && one != nil {
		t.stop = []int32{*one}
	} else if len(config.EOS) > 0 && config.EOS[0] == '[' {
		if err := json.Unmarshal(config.EOS, &t.stop); err != nil {
			return fmt.Errorf("tokens: load tokenizer %s: eos_token_id: %w", path, jsonerror.Plain(err))
		}
	}
	return nil
}

// Encode returns the ids of text as Hugging Face's tokenizer does with
// add_special_tokens=False: added tokens that text spells out become their
// ids. It is for text of our own (templates); text of users goes through
// EncodeText.
func (t *Tokenizer) Encode(text string) []int32 {
	return t.encode(nil, text)
}

// EncodeText returns the ids of text and never an added or special token:
// "<|im_end|>" in it is encoded as the characters it is made of.
func (t *Tokenizer) EncodeText(text string) []int32 {
	return t.encodeText(nil, t.normalize(text))
}

// EncodeWithSpecial is Encode plus what the post-processor adds around a
// sequence (Llama 3: <|begin_of_text|>).
func (t *Tokenizer) EncodeWithSpecial(text string) []int32 {
	ids := t.encode(slices.Clone(t.before), text)
	return append(ids, t.after...)
}

func (t *Tokenizer) encode(ids []int32, text string) []int32 {
	at := 0
	for {
		tok, start, end, ok := t.plain.next(text, at)
		if !ok {
			return t.encodeNormalized(ids, t.normalize(text[at:]))
		}
		ids = t.encodeNormalized(ids, t.normalize(text[at:start]))
		ids = append(ids, tok.ID)
		at = end
	}
}

func (t *Tokenizer) encodeNormalized(ids []int32, text string) []int32 {
	at := 0
	for {
		tok, start, end, ok := t.normalized.next(text, at)
		if !ok {
			return t.encodeText(ids, text[at:])
		}
		ids = t.encodeText(ids, text[at:start])
		ids = append(ids, tok.ID)
		at = end
	}
}

func (t *Tokenizer) encodeText(ids []int32, text string) []int32 {
	for text != "" {
		n := t.split(text)
		ids = t.bpe.append(ids, text[:n])
		text = text[n:]
	}
	return ids
}

func (t *Tokenizer) normalize(text string) string {
	if t.nfc && !norm.NFC.IsNormalString(text) {
		return norm.NFC.String(text)
	}
	return text
}

// VocabSize is the number of embedding rows the tokenizer needs: its largest
// id plus one.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token as tokenizer.json writes it.
func (t *Tokenizer) ID(token string) (int32, bool) {
	if id, ok := t.added[token]; ok {
		return id, true
	}
	id, ok := t.bpe.whole[tokenBytes(token)]
	return id, ok
}

// Token returns the token of an id as tokenizer.json writes it, "" for an
// unknown one.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// IsSpecial says whether id is a special token.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// BOS returns the token that begins a sequence, where the tokenizer has one.
func (t *Tokenizer) BOS() (int32, bool) { return t.named("bos_token") }

// EOS returns the token that ends a sequence.
func (t *Tokenizer) EOS() (int32, bool) { return t.named("eos_token") }

// Pad returns the padding token.
func (t *Tokenizer) Pad() (int32, bool) { return t.named("pad_token") }

func (t *Tokenizer) named(name string) (int32, bool) {
	token, ok := t.roles[name]
	if !ok {
		return 0, false
	}
	return t.ID(token)
}

// StopIDs returns the ids that end a generated answer: EOS, the template's end
// of turn, and those that generation_config.json lists, in ascending order.
func (t *Tokenizer) StopIDs() []int32 {
	ids := slices.Clone(t.stop)
	if eos, ok := t.EOS(); ok {
		ids = append(ids, eos)
	}
	if end, err := t.EndOfTurn(); err == nil {
		ids = append(ids, end)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
