package tokens

import (
	"slices"
	"strings"
	"testing"
)

// TestGGUFPreTokenizers writes the same vocabulary under each pre-tokenizer's name, and looks at how texts are split.
func TestGGUFPreTokenizers(t *testing.T) {
	bytes := make([]string, 256)
	for b, char := range byteChars {
		bytes[b] = string(char)
	}
	g := GGUF{
		Model: "gpt2", Tokens: append(bytes, "<|end|>", "11", "Ġ1", "[user]"), Merges: []string{"1 1", "Ġ 1"},
		BOS: 256, EOS: 256, Unknown: -1, Pad: -1,
		ChatTemplate: "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
	}
	g.Types = make([]int64, len(g.Tokens))
	for i := range g.Types {
		g.Types[i] = 1
	}
	g.Types[256], g.Types[259] = ggufControl, ggufUserDefined
	for pre, want := range map[string]struct {
		text   string
		pieces []string
		bos    bool
	}{
		"smollm":    {"a 11\n 1", []string{"a", "Ġ", "1", "1", "Ċ", "Ġ", "1"}, false},
		"qwen2":     {"a 11\n 1", []string{"a", "Ġ", "1", "1", "Ċ", "Ġ", "1"}, false},
		"llama-bpe": {"a 11\n 1", []string{"a", "Ġ", "11", "Ċ", "Ġ", "1"}, true},
	} {
		t.Run(pre, func(t *testing.T) {
			g.Pre = pre
			dir := t.TempDir()
			if err := g.Write(dir); err != nil {
				t.Fatal(err)
			}
			tok, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			pieces := func(ids []int32) (all []string) {
				for _, id := range ids {
					all = append(all, tok.Token(id))
				}
				return all
			}
			if got := pieces(tok.Encode(want.text)); !slices.Equal(got, want.pieces) {
				t.Errorf("%q becomes %q, want %q", want.text, got, want.pieces)
			}
			if got := pieces(tok.EncodeWithSpecial("a")); slices.Contains(got, "<|end|>") != want.bos {
				t.Errorf("a text with its special tokens is %q, want BOS there: %v", got, want.bos)
			}
			// What the file calls a control token or a user's own is read as such in texts of ours alone.
			if got := pieces(tok.Encode("[user]<|end|>")); !slices.Equal(got, []string{"[user]", "<|end|>"}) {
				t.Errorf("added tokens become %q, want them whole", got)
			}
			if got := tok.EncodeText("[user]<|end|>"); slices.ContainsFunc(got, func(id int32) bool { return id >= 256 }) {
				t.Errorf("a user's text becomes %q, want its characters", pieces(got))
			}
			if !tok.IsSpecial(256) || tok.IsSpecial(259) {
				t.Error("want the control token special, and the user's own not")
			}
			if err := tok.Check(len(g.Tokens), []int{256}); err != nil {
				t.Errorf("Check says %v, want the tokenizer usable", err)
			}
		})
	}
}

// TestSplitDigits: numbers stand alone, whatever is before them, and all else is GPT-2's.
func TestSplitDigits(t *testing.T) {
	for text, want := range map[string]string{
		"In 2019": "In| |2|0|1|9", "a  5": "a|  |5", "a  b": "a| | b", "x²½": "x|²|½", "it's 3": "it|'s| |3", " \n7": " \n|7", "٣a": "٣|a", "": "",
	} {
		var parts []string
		for rest := text; rest != ""; {
			n := splitDigits(rest)
			parts = append(parts, rest[:n])
			rest = rest[n:]
		}
		if got := strings.Join(parts, "|"); got != want {
			t.Errorf("%q is split into %q, want %q", text, got, want)
		}
	}
}
