package tokens

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// tokenizerJSON is what we read of a Hugging Face tokenizer.json.
type tokenizerJSON struct {
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         struct {
		Type         string           `json:"type"`
		Dropout      *float64         `json:"dropout"`
		UnkToken     *string          `json:"unk_token"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       []bpeMerge       `json:"merges"`
	} `json:"model"`
}

// bpeMerge is written "left right" by older and ["left","right"] by newer
// versions of Hugging Face tokenizers.
type bpeMerge struct{ left, right string }

func (m *bpeMerge) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		var pair []string
		if err := json.Unmarshal(data, &pair); err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("merge %s has %d parts, want 2", data, len(pair))
		}
		m.left, m.right = pair[0], pair[1]
		return nil
	}
	var both string
	if err := json.Unmarshal(data, &both); err != nil {
		return err
	}
	var ok bool
	if m.left, m.right, ok = strings.Cut(both, " "); !ok {
		return fmt.Errorf("merge %q has no space", both)
	}
	return nil
}

// component is one normalizer, pre-tokenizer, post-processor or decoder of
// tokenizer.json, with the fields of all of them.
type component struct {
	Type           string          `json:"type"`
	Normalizers    []component     `json:"normalizers"`
	Pretokenizers  []component     `json:"pretokenizers"`
	Processors     []component     `json:"processors"`
	Pattern        json.RawMessage `json:"pattern"`
	Behavior       string          `json:"behavior"`
	Invert         bool            `json:"invert"`
	AddPrefixSpace *bool           `json:"add_prefix_space"`
	UseRegex       *bool           `json:"use_regex"`
	Individual     bool            `json:"individual_digits"`
	Single         []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// parseComponent flattens the Sequence kinds into a list; null gives none.
func parseComponent(raw json.RawMessage) ([]component, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var c component
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.Type != "Sequence" {
		return []component{c}, nil
	}
	return append(append(c.Normalizers, c.Pretokenizers...), c.Processors...), nil
}

// add takes over the tokens that stand in tokenizer_config.json alone, as transformers does when it loads a tokenizer:
// in the order of their ids, each under its id of the vocabulary, or under the next that is free. Where that is another
// id than the file says, the model and the tokenizer are not of one piece. It gives the contents of what was added.
func (file *tokenizerJSON) add(decoder map[string]addedToken) (contents []string, err error) {
	var missing []addedToken
	for id, token := range decoder {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no id", id)
		}
		token.ID = int32(n)
		if !slices.ContainsFunc(file.AddedTokens, func(known addedToken) bool { return known.Content == token.Content }) {
			missing = append(missing, token)
		}
	}
	slices.SortFunc(missing, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	next := int32(0)
	for _, id := range file.Model.Vocab {
		next = max(next, id+1)
	}
	for _, known := range file.AddedTokens {
		next = max(next, known.ID+1)
	}
	for _, token := range missing {
		id, known := file.Model.Vocab[token.Content]
		if !known {
			id = next
			next++
		}
		if id != token.ID {
			return nil, fmt.Errorf("%q has id %d there, but tokenizer.json makes it %d: save the tokenizer again with transformers (save_pretrained)", token.Content, token.ID, id)
		}
		file.AddedTokens = append(file.AddedTokens, token)
		contents = append(contents, token.Content)
	}
	return contents, nil
}

// build turns the parsed file into a Tokenizer. It refuses what it would not
// reproduce exactly.
func (file *tokenizerJSON) build() (*Tokenizer, error) {
	m := &file.Model
	switch {
	case m.Type != "BPE" && m.Type != "":
		return nil, fmt.Errorf("model.type is %q, only byte-level BPE is supported", m.Type)
	case m.Dropout != nil && *m.Dropout != 0, m.ByteFallback,
		m.Prefix != nil && *m.Prefix != "", m.Suffix != nil && *m.Suffix != "":
		return nil, errors.New("model uses dropout, byte_fallback or subword affixes, only byte-level BPE is supported")
	case len(m.Vocab) == 0:
		return nil, errors.New("model.vocab is empty")
	}
	t := &Tokenizer{added: map[string]int32{}}
	if err := t.setPipeline(file); err != nil {
		return nil, err
	}
	if err := t.setVocabulary(file); err != nil {
		return nil, err
	}
	return t, t.setPostProcessor(file.PostProcessor)
}

func (t *Tokenizer) setPipeline(file *tokenizerJSON) error {
	normalizers, err := parseComponent(file.Normalizer)
	if err != nil {
		return fmt.Errorf("normalizer: %w", err)
	}
	for _, c := range normalizers {
		if c.Type != "NFC" {
			return fmt.Errorf("normalizer %q is not supported, only NFC is", c.Type)
		}
		t.nfc = true
	}
	pretokenizers, err := parseComponent(file.PreTokenizer)
	if err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	byteLevel, digits := false, false
	for _, c := range pretokenizers {
		regex := c.UseRegex == nil || *c.UseRegex
		switch {
		case c.Type == "Split" && t.split == nil && !byteLevel && c.Behavior == "Isolated" && !c.Invert:
			var pattern struct{ Regex string }
			if err := json.Unmarshal(c.Pattern, &pattern); err != nil {
				return fmt.Errorf("pre_tokenizer.pattern: %w", err)
			}
			if t.split, err = splitterFor(pattern.Regex); err != nil {
				return err
			}
		case c.Type == "Digits" && t.split == nil && !byteLevel && c.Individual:
			t.split, digits = splitDigits, true
		case c.Type == "ByteLevel" && !byteLevel && (c.AddPrefixSpace == nil || !*c.AddPrefixSpace) && (regex || !digits):
			byteLevel = true
			if t.split == nil && regex {
				t.split = splitGPT2
			}
		default:
			return fmt.Errorf("pre_tokenizer %q with these settings is not supported", c.Type)
		}
	}
	if !byteLevel {
		return errors.New("pre_tokenizer has no ByteLevel step, only byte-level BPE is supported")
	}
	if t.split == nil {
		t.split = func(text string) int { return len(text) }
	}
	decoders, err := parseComponent(file.Decoder)
	if err != nil {
		return fmt.Errorf("decoder: %w", err)
	}
	if len(decoders) != 1 || decoders[0].Type != "ByteLevel" {
		return errors.New("decoder is not ByteLevel, only byte-level BPE is supported")
	}
	return nil
}

// maxVocabulary bounds the ids, by which tables are laid out; the largest
// vocabulary in use has a quarter of a million.
const maxVocabulary = 1 << 22

func (t *Tokenizer) setVocabulary(file *tokenizerJSON) error {
	m := &file.Model
	size := int32(0)
	for token, id := range m.Vocab {
		if id < 0 || id >= maxVocabulary {
			return fmt.Errorf("model.vocab: token %q has id %d", token, id)
		}
		size = max(size, id+1)
	}
	for _, added := range file.AddedTokens {
		if added.ID < 0 || added.ID >= maxVocabulary {
			return fmt.Errorf("added_tokens: %q has id %d", added.Content, added.ID)
		}
		size = max(size, added.ID+1)
	}
	t.tokens = make([]string, size)
	t.raw = make([]string, size)
	t.special = make([]bool, size)
	t.bpe.ignoreMerges = m.IgnoreMerges
	t.bpe.whole = make(map[string]int32, len(m.Vocab))
	for token, id := range m.Vocab {
		t.tokens[id], t.raw[id] = token, tokenBytes(token)
		t.bpe.whole[t.raw[id]] = id
	}
	for b, char := range byteChars {
		id, ok := m.Vocab[string(char)]
		if !ok {
			id = -1
		}
		t.bpe.byteID[b] = id
	}
	t.bpe.merges = make(map[uint64]bpeRule, len(m.Merges))
	for rank, merge := range m.Merges {
		left, okLeft := m.Vocab[merge.left]
		right, okRight := m.Vocab[merge.right]
		id, ok := m.Vocab[merge.left+merge.right]
		if !ok || !okLeft || !okRight {
			return fmt.Errorf("model.merges[%d]: %q + %q is not in the vocabulary", rank, merge.left, merge.right)
		}
		// A pair listed twice keeps its last rank, as in Hugging Face's map.
		t.bpe.merges[pairKey(left, right)] = bpeRule{int32(rank), id}
	}
	var plain, normalized []addedToken
	for _, added := range file.AddedTokens {
		t.tokens[added.ID], t.raw[added.ID] = added.Content, tokenBytes(added.Content)
		t.special[added.ID] = added.Special
		t.added[added.Content] = added.ID
		if added.Normalized {
			normalized = append(normalized, added)
		} else {
			plain = append(plain, added)
		}
	}
	t.plain, t.normalized = newAddedMatcher(plain), newAddedMatcher(normalized)
	t.anyAdded = newAddedMatcher(file.AddedTokens)
	return nil
}

// setPostProcessor keeps what a TemplateProcessing adds around a single
// sequence (Llama: BOS before it).
func (t *Tokenizer) setPostProcessor(raw json.RawMessage) error {
	processors, err := parseComponent(raw)
	if err != nil {
		return fmt.Errorf("post_processor: %w", err)
	}
	for _, c := range processors {
		switch c.Type {
		case "ByteLevel": // trims offsets, changes no id
		case "TemplateProcessing":
			side := &t.before
			for _, piece := range c.Single {
				if piece.Sequence != nil {
					side = &t.after
				} else if piece.SpecialToken != nil {
					*side = append(*side, c.SpecialTokens[piece.SpecialToken.ID].IDs...)
				}
			}
		default:
			return fmt.Errorf("post_processor %q is not supported", c.Type)
		}
	}
	return nil
}

// tokenizerConfig is what we read of tokenizer_config.json.
type tokenizerConfig struct {
	BOS tokenName `json:"bos_token"`
	EOS tokenName `json:"eos_token"`
	Pad tokenName `json:"pad_token"`
	// Added are the added tokens by their ids, as transformers keeps them.
	Added        map[string]addedToken `json:"added_tokens_decoder"`
	Unknown      tokenName             `json:"unk_token"`
	Separator    tokenName             `json:"sep_token"`
	Class        tokenName             `json:"cls_token"`
	Mask         tokenName             `json:"mask_token"`
	ChatTemplate json.RawMessage       `json:"chat_template"`
}

// special gives the special tokens that there are by the names under which templates know them.
func (c *tokenizerConfig) special() map[string]string {
	tokens := map[string]string{}
	for name, token := range map[string]tokenName{"bos_token": c.BOS, "eos_token": c.EOS, "pad_token": c.Pad, "unk_token": c.Unknown,
		"sep_token": c.Separator, "cls_token": c.Class, "mask_token": c.Mask} {
		if token != "" {
			tokens[name] = string(token)
		}
	}
	return tokens
}

// tokenName is null, a string, or an object with the string as content.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var object struct {
			Content string `json:"content"`
		}
		err := json.Unmarshal(data, &object)
		*n = tokenName(object.Content)
		return err
	}
	return json.Unmarshal(data, (*string)(n))
}

// template returns the chat template: a string, or the one named "default" of
// a list.
func (c *tokenizerConfig) template() (string, error) {
	switch raw := c.ChatTemplate; {
	case len(raw) == 0 || string(raw) == "null":
		return "", nil
	case raw[0] == '[':
		var list []struct{ Name, Template string }
		if err := json.Unmarshal(raw, &list); err != nil {
			return "", fmt.Errorf("chat_template: %w", err)
		}
		for _, named := range list {
			if named.Name == "default" {
				return named.Template, nil
			}
		}
		return "", errors.New(`chat_template is a list without one named "default"`)
	}
	var template string
	if err := json.Unmarshal(c.ChatTemplate, &template); err != nil {
		return "", fmt.Errorf("chat_template: %w", err)
	}
	return template, nil
}

// Limits of the JSON files, which are read whole. The largest tokenizer.json in use has 34 MB.
const (
	maxTokenizer = 256 << 20
	maxConfig    = 16 << 20
)

// readLimited reads a file whole that has at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d MiB: is it the right file?", path, limit>>20)
	}
	return data, err
}

// readOptional reads a file that may be absent.
func readOptional(path string) ([]byte, error) {
	data, err := readLimited(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
