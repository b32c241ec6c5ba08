package tokens

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/internal/reference"
)

// addedCase is a tokenizer with added tokens, as changes of one that the test trains.
type addedCase struct {
	added   []addedToken      // in tokenizer.json, without ids
	config  map[string]any    // keys of tokenizer_config.json; nil takes one away
	files   map[string]string // beside it
	texts   []string
	refused string // what the error names; "" where the answer is transformers'
}

// without takes the list of added tokens out of tokenizer_config.json, as transformers 5 writes it.
var without = map[string]any{addedTokensDecoder: nil}

// addedTexts are tried on every tokenizer.
var addedTexts = []string{"low<x>low", "low <x> low", "  low \t<x>\n\n low", "<x><x> <x>", " <x>", "<x> ", "low<y> <x>lower", "a<x>", "é<x>é", "_<x>_",
	"<|bos|>low<|end|>", "<|bos|> low <|end|> \n", "lowest <z>", "e\u0301<x>", "\u00a0<x>\u00a0", "\u3000<x>\u2028low", "<xx>", "<<x>>", ""}

func addedCases(next int) map[string]addedCase {
	x := func(change func(*addedToken)) []addedToken {
		token := addedToken{Content: "<x>", Special: true}
		change(&token)
		return []addedToken{token}
	}
	plain := func(*addedToken) {}
	listed := func(tokens map[int]string) map[string]any {
		list := map[string]any{}
		for offset, content := range tokens {
			list[jsonNumber(next+offset)] = map[string]any{"content": content, "special": true}
		}
		return map[string]any{addedTokensDecoder: list}
	}
	with := func(keys map[string]any) map[string]any {
		keys[addedTokensDecoder] = nil
		return keys
	}
	return map[string]addedCase{
		"special":     {added: x(plain)},
		"not special": {added: x(func(a *addedToken) { a.Special = false })},
		"normalized":  {added: x(func(a *addedToken) { a.Normalized = true })},
		"lstrip":      {added: x(func(a *addedToken) { a.LStrip = true })},
		"rstrip":      {added: x(func(a *addedToken) { a.RStrip = true })},
		"both strips": {added: x(func(a *addedToken) { a.LStrip, a.RStrip = true, true })},
		"single word": {added: x(func(a *addedToken) { a.SingleWord = true })},
		"single word, normalized, strips": {added: x(func(a *addedToken) {
			a.SingleWord, a.Normalized, a.LStrip, a.RStrip = true, true, true, true
		})},
		"a word": {added: []addedToken{{Content: "low", SingleWord: true, ID: -1}}, texts: []string{"low lower slow low", "low-low", "low_low", "1low low1", "élow lowé", "low"}},
		"a word, with strips": {added: []addedToken{{Content: "low", SingleWord: true, LStrip: true, RStrip: true, ID: -1}},
			texts: []string{"low lower  slow  low ", "low low  low", " lower low"}},
		"one within another":         {added: []addedToken{{Content: "<x>"}, {Content: "<x><y>"}, {Content: "<y>"}}, texts: []string{"<x><y>", "<x><x><y><y>", "<y><x><y"}},
		"one overlaps another":       {added: []addedToken{{Content: "ab"}, {Content: "bcd"}}, texts: []string{"abcd", "aabcd", "bcdab"}},
		"normalized and not":         {added: []addedToken{{Content: "<x>", Normalized: true}, {Content: "x", ID: -1}}, texts: []string{"<x>", "x<x>x", "<x"}},
		"decomposed":                 {added: []addedToken{{Content: "e\u0301", Normalized: true}}, texts: []string{"e\u0301", "\u00e9", "caf\u00e9"}},
		"decomposed, as it is":       {added: []addedToken{{Content: "e\u0301"}}, texts: []string{"e\u0301", "\u00e9", "cafe\u0301"}},
		"white space":                {added: []addedToken{{Content: "  "}, {Content: "\n"}}, texts: []string{"low   low", "low\n\nlow", "    "}},
		"strips of neighbours":       {added: []addedToken{{Content: "<x>", RStrip: true}, {Content: "<y>", LStrip: true}}, texts: []string{"<x> <y>", "<x>  <y> <x>", " <y> <x> "}},
		"other letters":              {added: []addedToken{{Content: "你好", SingleWord: true}, {Content: "🙂"}}, texts: []string{"你好", "你好吗", "a🙂b 你好 🙂🙂", "x你好"}},
		"in the vocabulary":          {added: []addedToken{{Content: "low", ID: -1}}, texts: []string{"low lower", "flow"}},
		"other than its word":        {added: []addedToken{{Content: "low"}}, refused: `added_tokens: "low" has id`},
		"a gap":                      {added: []addedToken{{Content: "<x>"}, {Content: ""}, {Content: "<y>"}}, refused: `added_tokens: "<y>" has id`},
		"twice":                      {added: []addedToken{{Content: "<x>"}, {Content: "<x>"}}, refused: `added_tokens: "<x>" has id`},
		"listed":                     {config: listed(map[int]string{0: "<x>"})},
		"two listed":                 {config: listed(map[int]string{1: "<x>", 0: "<y>"})},
		"listed, in both":            {added: x(plain), config: listed(map[int]string{0: "<x>"})},
		"listed otherwise":           {added: x(plain), config: map[string]any{addedTokensDecoder: map[string]any{jsonNumber(next): map[string]any{"content": "<x>", "lstrip": true, "rstrip": true, "special": true}}}},
		"listed, no attributes":      {config: map[string]any{addedTokensDecoder: map[string]any{jsonNumber(next): map[string]any{"content": "e\u0301"}}}, texts: []string{"e\u0301", "caf\u00e9"}},
		"listed with a gap":          {config: listed(map[int]string{3: "<x>"}), refused: `"<x>" has id`},
		"listed over another":        {config: listed(map[int]string{-next: "<x>"}), refused: `"<x>" has id 0`},
		"named":                      {config: with(map[string]any{"pad_token": "<x>"})},
		"named, an object":           {config: with(map[string]any{"unk_token": map[string]any{"__type": "AddedToken", "content": "<x>", "lstrip": true, "rstrip": false, "normalized": false, "single_word": false}})},
		"several named":              {config: with(map[string]any{"pad_token": "<x>", "unk_token": "<y>", "mask_token": "<z>"})},
		"named, of the words":        {config: with(map[string]any{"pad_token": "low"}), texts: []string{"low lower", "flow"}},
		"extra":                      {config: with(map[string]any{"extra_special_tokens": []string{"<y>", "<x>"}})},
		"additional":                 {config: with(map[string]any{"additional_special_tokens": []string{"<y>", "<x>"}})},
		"named and extra":            {config: with(map[string]any{"extra_special_tokens": []string{"<x>"}, "pad_token": "<y>"})},
		"of one model":               {config: with(map[string]any{"image_token": "<x>"}), refused: `image_token: "<x>"`},
		"extra by names":             {config: with(map[string]any{"extra_special_tokens": map[string]string{"y_token": "<x>"}}), refused: `y_token: "<x>"`},
		"special_tokens_map":         {config: without, files: map[string]string{specialTokensFile: `{"eos_token": "<x>", "pad_token": {"content": "<y>", "lstrip": true, "rstrip": false, "normalized": false, "single_word": false}}`}},
		"special_tokens_map, listed": {files: map[string]string{specialTokensFile: `{"eos_token": "<x>"}`}},
		"added_tokens":               {config: without, files: map[string]string{addedTokensFile: `{"<x>": ` + jsonNumber(next) + `}`}},
		"added_tokens, listed":       {files: map[string]string{addedTokensFile: `{"<x>": ` + jsonNumber(next) + `}`}},
		"added_tokens, special": {config: without, files: map[string]string{addedTokensFile: `{"e\u0301": ` + jsonNumber(next) + `, "e\u0300": ` + jsonNumber(next+1) + `}`,
			specialTokensFile: `{"extra_special_tokens": ["e\u0301"]}`}, texts: []string{"e\u0301", "\u00e9", "e\u0300", "\u00e8"}},
		"added_tokens with a gap": {config: without, files: map[string]string{addedTokensFile: `{"<x>": ` + jsonNumber(next+2) + `}`}, refused: `added_tokens.json: "<x>" has id`},
		"split_special_tokens":    {config: map[string]any{"split_special_tokens": true}, refused: "split_special_tokens"},
		"add_prefix_space":        {config: map[string]any{"add_prefix_space": true}, refused: "add_prefix_space"},
		"add_bos_token":           {config: map[string]any{"add_bos_token": true, "add_eos_token": true}},
	}
}

func jsonNumber(n int) string {
	data, _ := json.Marshal(n) // a number always marshals
	return string(data)
}

// TestAddedTokens gives texts the ids that transformers and tokenizers give them, whatever an added token asks for and
// wherever it is named. testdata/added_tokens.json has their answers; with ESCLAB_TEST_PYTHON they are asked again, and
// -update writes what they say.
func TestAddedTokens(t *testing.T) {
	base := t.TempDir()
	tok, err := TrainBPE(t.Context(), func(yield func(string) bool) { yield("low lower lowest slow é 🙂 low low") }, base, BPEOptions{VocabSize: 275})
	if err != nil {
		t.Fatal(err)
	}
	cases := addedCases(tok.VocabSize())
	dirs := map[string]string{}
	for name, c := range cases {
		if c.texts = append(c.texts, addedTexts...); c.refused == "" {
			cases[name] = c
		}
		dirs[name] = c.write(t, base, tok.VocabSize())
	}
	path := filepath.Join("testdata", "added_tokens.json")
	if *update {
		data, err := json.Marshal(askTransformers(t, cases, dirs))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := reference.JSON[map[string][][]int32](t, path)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tok, err := Load(dirs[name])
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error has to name %s on one line, it is: %v", c.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(want[name]) != len(c.texts) {
				t.Fatalf("%s has answers to %d texts, want %d: run the test with -update", path, len(want[name]), len(c.texts))
			}
			for i, text := range c.texts {
				if got := tok.Encode(text); !slices.Equal(got, want[name][i]) {
					t.Errorf("%q becomes %v, want %v as transformers has it", text, got, want[name][i])
				}
			}
		})
	}
	t.Run("as committed", func(t *testing.T) {
		for name, ids := range askTransformers(t, cases, dirs) {
			if !slices.EqualFunc(ids, want[name], slices.Equal) {
				t.Errorf("%s: the installed transformers answers %v, %s has %v", name, ids, path, want[name])
			}
		}
	})
}

// askTransformers asks the installed transformers for the ids of the texts of all cases that are not refused.
func askTransformers(t *testing.T, cases map[string]addedCase, dirs map[string]string) map[string][][]int32 {
	t.Helper()
	type question struct {
		Name  string   `json:"name"`
		Dir   string   `json:"dir"`
		Texts []string `json:"texts"`
	}
	var questions []question
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		if cases[name].refused == "" {
			questions = append(questions, question{name, dirs[name], cases[name].texts})
		}
	}
	stdin, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	return reference.Python[map[string][][]int32](t, "transformers", filepath.Join("testdata", "ask_tokenizers.py"), stdin)
}

// write writes the case's tokenizer into a directory; next is the first id that is free.
func (c addedCase) write(t *testing.T, base string, next int) string {
	t.Helper()
	dir := t.TempDir()
	file := reference.JSON[map[string]any](t, filepath.Join(base, "tokenizer.json"))
	list, _ := file["added_tokens"].([]any)
	vocab := file["model"].(map[string]any)["vocab"].(map[string]any)
	for i, token := range c.added {
		if token.ID < 0 {
			token.ID = int32(vocab[token.Content].(float64))
		} else {
			token.ID = int32(next + i)
		}
		list = append(list, token)
	}
	file["added_tokens"] = list
	config := reference.JSON[map[string]any](t, filepath.Join(base, configFile))
	for key, value := range c.config {
		listed, isList := value.(map[string]any)
		switch {
		case value == nil:
			delete(config, key)
		case isList && key == addedTokensDecoder:
			maps.Copy(config[key].(map[string]any), listed)
		default:
			config[key] = value
		}
	}
	files := map[string]any{"tokenizer.json": file, configFile: config}
	for name, text := range c.files {
		files[name] = json.RawMessage(text)
	}
	for name, value := range files {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
