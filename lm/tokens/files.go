package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
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

// add gives the added tokens their ids as transformers does when it loads a tokenizer, and adds those that stand in the
// configuration alone: those that are listed with their ids, then named ones, then extra ones. Each has its id of the
// vocabulary, or the next that is free; where that is another id than a list says, model and tokenizer are not of one
// piece. What a later list says of a token counts.
func (file *tokenizerJSON) add(config *tokenizerConfig) error {
	var tokens []addedToken
	places := map[string]int{}
	next := int32(len(file.Model.Vocab))
	add := func(token addedToken) int32 {
		i, known := places[token.Content]
		id, inVocabulary := file.Model.Vocab[token.Content]
		switch {
		case known:
			token.ID = tokens[i].ID
			tokens[i] = token
			return token.ID
		case inVocabulary:
			token.ID = id
		default:
			token.ID = next
		}
		next = max(next, token.ID+1)
		places[token.Content] = len(tokens)
		tokens = append(tokens, token)
		return token.ID
	}
	for _, list := range []struct {
		where  string
		tokens []addedToken
	}{{"added_tokens", file.AddedTokens}, {config.listedIn, config.listed}} {
		for _, token := range list.tokens {
			if token.Content == "" {
				continue
			}
			if id := add(token); id != token.ID {
				return fmt.Errorf("%s: %q has id %d there, but as the vocabulary and the tokens before it are, it gets %d: save the tokenizer again with transformers (save_pretrained)",
					list.where, token.Content, token.ID, id)
			}
		}
	}
	more := config.extra
	for _, name := range slices.Backward(standardTokens) {
		more = slices.Insert(more, 0, config.special[name])
	}
	for _, token := range more {
		if _, known := places[token.Content]; token.Content != "" && !known {
			token.Special = true
			add(addedToken(token))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.special)) {
		token := config.special[name]
		if _, known := places[token.Content]; token.Content != "" && !known {
			return fmt.Errorf("%s: %q is no added token of tokenizer.json: save the tokenizer again with transformers (save_pretrained)", name, token.Content)
		}
	}
	file.AddedTokens = tokens
	return nil
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
			added.Content = t.normalize(added.Content) // the text in which it is looked for is
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

// Limits of the JSON files, which are read whole. The largest tokenizer.json in use has 34 MB.
const (
	maxTokenizer = 256 << 20
	maxConfig    = 16 << 20
)

// readLimited reads a text whole that has at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
	case int64(len(data)) > limit:
		err = fmt.Errorf("%s: more than %d MiB: is it the right file?", path, limit>>20)
	case !utf8.Valid(data): // a JSON reader would replace the bytes without a word
		err = fmt.Errorf("%s: its bytes are not UTF-8", path)
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
