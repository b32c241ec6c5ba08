package tokens

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzTokenizer: a tokenizer.json is refused, or encodes and decodes any text
// without leaving its vocabulary.
func FuzzTokenizer(f *testing.F) {
	dir := f.TempDir()
	if _, err := TrainBPE(f.Context(), slices.Values([]string{"low lower lowest", "é 🙂"}), dir, BPEOptions{VocabSize: 280}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, "lowest é <|end|>")
	const pipeline = `"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}`
	for _, s := range []string{
		`{` + pipeline + `,"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`,
		`{` + pipeline + `,"model":{"vocab":{"a":2147483647}}}`, `{` + pipeline + `,"model":{"vocab":{"a":-1}}}`,
		`{` + pipeline + `,"model":{"vocab":{"a":0},"merges":[["a","a"]]}}`,
		`{` + pipeline + `,"added_tokens":[{"id":0,"content":"a"},{"id":0,"content":""},{"id":5,"content":"ab","lstrip":true,"rstrip":true}],"model":{"vocab":{"a":0}}}`,
		`{` + pipeline + `,"normalizer":{"type":"NFC"},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}],"special_tokens":{"x":{"ids":[7]}}},"model":{"vocab":{"a":0}}}`,
		`{}`, `null`, `{"model":{"vocab":{"":0}}}`, `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Sequence"}]}}`,
	} {
		f.Add([]byte(s), "a ab\x00\xff")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if len(data) > 64<<10 || len(text) > 1<<10 {
			return
		}
		var file tokenizerJSON
		if err := json.Unmarshal(data, &file); err != nil {
			return
		}
		tok, err := file.build()
		if err != nil {
			return
		}
		for _, ids := range [][]int32{tok.Encode(text), tok.EncodeText(text), tok.EncodeWithSpecial(text)} {
			tok.Decode(ids)
			if s := tok.DecodeText(ids); !utf8.ValidString(s) {
				t.Fatalf("decoded to %q", s)
			}
		}
		tok.Decode([]int32{-1, 1 << 30})
	})
}

// FuzzTemplate: a chat template is refused, or writes a bounded text; it reads
// no file and ends.
func FuzzTemplate(f *testing.F) {
	dir := f.TempDir()
	tok, err := TrainBPE(f.Context(), slices.Values([]string{"low lower lowest"}), dir, BPEOptions{VocabSize: 280})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		trainedTemplate, "", "{{ messages[0].content }}", "{% for m in messages %}{{ m['role'] }}{% endfor %}", "{{ raise_exception('no') }}",
		"{% include '/etc/passwd' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"{% for i in range(1000000000) %}x{% endfor %}", "{{ 'x' * 1000000000 }}", "{{ 'x'|center(1000000000) }}", "{{ lipsum(n=1000000) }}", "{{ 10 ** 10 ** 10 }}",
		"{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x ~ m.content %}{% endfor %}{{ ns.x }}", "{% if", "{{", "{% raw %}", "{{ messages[9].content }}",
		`{{ "{:>60000000000}".format(1) }}`, "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "{{ [[[[[[1]]]]]] }}", "{{ ((((1)))) }}", "{{ {'a': {'a': 1}}|tojson(indent=9) }}",
		"{% set x = 'ab' %}{% for i in range(9) %}{% set x = x ~ x %}{% endfor %}{{ x|length }}", "{{ 'a'.join(messages|map(attribute='content')) }}", "{{ '%99999d' % 1 }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if tok.setTemplate(source, nil); tok.chat.template == nil {
			return
		}
		text, err := tok.chat.render([]Message{{"user", "hello"}, {"assistant", "yes"}}, true, nil)
		if err == nil && len(text) > maxRendering {
			t.Fatalf("%d bytes", len(text))
		}
		if _, err := tok.ChatPrompt([]Message{{"user", "hello <|end|>"}}, ""); err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}
