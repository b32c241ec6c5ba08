package tokens

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/esclab/esclab/internal/reference"
	"github.com/google/go-cmp/cmp"
)

var (
	tokenizersMu sync.Mutex
	tokenizers   = map[string]*Tokenizer{}
)

// referenceTokenizer loads a tokenizer of ../shared once for all tests.
func referenceTokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	dir := reference.Path(t, "tokenizers", name)
	tokenizersMu.Lock()
	defer tokenizersMu.Unlock()
	if tokenizers[name] == nil {
		tok, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		tokenizers[name] = tok
	}
	return tokenizers[name]
}

type goldenTokens struct {
	Cases []struct {
		Text           string  `json:"text"`
		IDs            []int32 `json:"ids"`
		IDsWithSpecial []int32 `json:"ids_with_special"`
		Decoded        string  `json:"decoded"`
	} `json:"cases"`
	Chat []struct {
		Messages            []Message `json:"messages"`
		AddGenerationPrompt bool      `json:"add_generation_prompt"`
		Text                string    `json:"text"`
		IDs                 []int32   `json:"ids"`
	} `json:"chat"`
}

func TestTokenizerGolden(t *testing.T) {
	for _, name := range []string{"qwen2.5", "llama3.1"} {
		t.Run(name, func(t *testing.T) {
			tok := referenceTokenizer(t, name)
			golden := reference.JSON[goldenTokens](t, reference.Path(t, "golden", "tokenizers", name+".json"))
			if len(golden.Cases) != 150 {
				t.Fatalf("%d golden cases, want 150", len(golden.Cases))
			}
			for _, c := range golden.Cases {
				if ids := tok.Encode(c.Text); !slices.Equal(ids, c.IDs) {
					t.Errorf("Encode(%q) = %v, want %v", c.Text, ids, c.IDs)
				}
				if ids := tok.EncodeWithSpecial(c.Text); !slices.Equal(ids, c.IDsWithSpecial) {
					t.Errorf("EncodeWithSpecial(%q) = %v, want %v", c.Text, ids, c.IDsWithSpecial)
				}
				if text := tok.Decode(c.IDs); text != c.Decoded {
					t.Errorf("Decode of %q = %q, want %q", c.Text, text, c.Decoded)
				}
				literal := tok.EncodeText(c.Text)
				if slices.ContainsFunc(literal, func(id int32) bool { return slices.Contains(slices.Collect(mapValues(tok.added)), id) }) {
					t.Errorf("EncodeText(%q) = %v has an added token", c.Text, literal)
				}
				decoder, streamed := tok.NewDecoder(), ""
				for _, id := range literal {
					part := decoder.Write(id)
					if !utf8.ValidString(part) {
						t.Errorf("stream of %q gave broken %q", c.Text, part)
					}
					streamed += part
				}
				if streamed += decoder.Flush(); streamed != tok.DecodeText(literal) {
					t.Errorf("stream of %q = %q, want %q", c.Text, streamed, tok.DecodeText(literal))
				}
			}
		})
	}
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func TestChatGolden(t *testing.T) {
	for _, name := range []string{"qwen2.5", "llama3.1"} {
		t.Run(name, func(t *testing.T) {
			tok := referenceTokenizer(t, name)
			golden := reference.JSON[goldenTokens](t, reference.Path(t, "golden", "tokenizers", name+".json"))
			if len(golden.Chat) != 6 {
				t.Fatalf("%d golden chats, want 6", len(golden.Chat))
			}
			for i, c := range golden.Chat {
				text, err := tok.RenderChat(c.Messages, c.AddGenerationPrompt)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.Text, text); diff != "" {
					t.Errorf("chat %d: rendered text differs (-want +got):\n%s", i, diff)
				}
				if ids := tok.Encode(text); !slices.Equal(ids, c.IDs) {
					t.Errorf("chat %d: ids of the rendered text differ", i)
				}
				if !c.AddGenerationPrompt {
					continue
				}
				ids, err := tok.ChatPrompt(c.Messages, "")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.IDs, ids); diff != "" {
					t.Errorf("chat %d: ids of the prompt differ (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// The pre-token merges of a heap and of repeated scans must be the same.
func TestMergeLongEqualsShort(t *testing.T) {
	tok := referenceTokenizer(t, "qwen2.5")
	rng := uint32(1)
	next := func(n int) int {
		rng = rng*1664525 + 1013904223
		return int(rng>>8) % n
	}
	for range 300 {
		var word strings.Builder
		for range 1 + next(120) {
			word.WriteString([]string{"a", "th", "ing", "e", " ", "ß", "\n", "=", "the", "日"}[next(10)])
		}
		short := tok.bpe.mergeShort(nil, word.String())
		long := tok.bpe.mergeLong(nil, word.String())
		if !slices.Equal(short, long) {
			t.Fatalf("%q: scan %v, heap %v", word.String(), short, long)
		}
	}
}

func TestTokenizerBytes(t *testing.T) {
	for _, name := range []string{"qwen2.5", "llama3.1"} {
		tok := referenceTokenizer(t, name)
		for b := range 256 {
			text := "x" + string([]byte{byte(b)}) + "y"
			if got := string(tok.DecodeBytes(tok.EncodeText(text))); got != text {
				t.Errorf("%s: byte %#x comes back as %q", name, b, got)
			}
		}
	}
}

// A megabyte without a space must not take quadratic time, nor must long runs
// of spaces.
func TestTokenizerLongWord(t *testing.T) {
	tok := referenceTokenizer(t, "llama3.1")
	for _, text := range []string{strings.Repeat("a", 1<<20), strings.Repeat(" ", 1<<20), strings.Repeat("\n ", 1<<19)} {
		if got := tok.Decode(tok.EncodeText(text)); got != text {
			t.Errorf("%.10q… does not come back", text)
		}
	}
}

func TestLossyUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"ok":                   "ok",
		"\xff\xfe":             "\uFFFD\uFFFD",
		"a\xe2\x82":            "a\uFFFD",            // a beginning of three bytes is one
		"\xe2\x82\xe2\x82\xac": "\uFFFD€",            // broken off, then whole
		"\xed\xa0\x80":         "\uFFFD\uFFFD\uFFFD", // a surrogate
		"\xf0\x9f\x98\x8a":     "😊",
		"\xc0\x80":             "\uFFFD\uFFFD",
	} {
		if got := lossyUTF8([]byte(in)); got != want {
			t.Errorf("lossyUTF8(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	const pipeline = `"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"}`
	for name, c := range map[string]struct{ json, want string }{
		"not JSON":     {`{`, "unexpected end"},
		"unigram":      {`{"model":{"type":"Unigram"}}`, `"Unigram"`},
		"no vocab":     {`{"model":{"type":"BPE"},` + pipeline + `}`, "vocab is empty"},
		"normalizer":   {`{"normalizer":{"type":"Lowercase"},"model":{"type":"BPE","vocab":{"a":0}},` + pipeline + `}`, `"Lowercase"`},
		"pattern":      {`{"model":{"type":"BPE","vocab":{"a":0}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated"}]}}`, `"x+"`},
		"merge":        {`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]},` + pipeline + `}`, "merges[0]"},
		"no ByteLevel": {`{"model":{"type":"BPE","vocab":{"a":0}}}`, "ByteLevel"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(c.json), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "tokenizer.json") {
				t.Errorf("error %v, want one with %q and the file", err, c.want)
			}
		})
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("an empty directory loads")
	}
}

func BenchmarkEncode(b *testing.B) {
	tok := referenceTokenizer(b, "qwen2.5")
	data, err := os.ReadFile(reference.Path(b, "esconv", "test.json"))
	if err != nil {
		b.Fatal(err)
	}
	text := string(data)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_ = fmt.Sprint(len(tok.EncodeText(text)))
	}
}
