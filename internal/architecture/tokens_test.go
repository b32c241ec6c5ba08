package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// tokenizerKeys are keys of tokenizer.json and tokenizer_config.json that no other file has: whoever parses one of
// these files names some of them. The files' own names are no sign, since they are also copied and imported by name.
var tokenizerKeys = []string{"added_tokens", "pre_tokenizer", "post_processor", "byte_fallback", "merges", "bos_token", "eos_token", "chat_template"}

// keyOf returns the key that a string literal of Go code names, as a whole or as the JSON name in a field's tag.
func keyOf(literal string) string {
	text, err := strconv.Unquote(literal)
	if err != nil {
		return ""
	}
	if tag, ok := reflect.StructTag(text).Lookup("json"); ok {
		text, _, _ = strings.Cut(tag, ",")
	}
	return text
}

// TestTokenizersAreParsedOnce makes sure that lm/tokens alone knows what stands in a tokenizer's files.
func TestTokenizersAreParsedOnce(t *testing.T) {
	files := token.NewFileSet()
	named := map[string]bool{}
	walk(t, func(name string) {
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return
		}
		parsed, err := parser.ParseFile(files, filepath.Join(root, filepath.FromSlash(name)), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			for _, key := range tokenizerKeys {
				switch {
				case keyOf(literal.Value) != key:
				case within(name, "lm/tokens"):
					named[key] = true
				default:
					t.Errorf("%s:%d names %q, a key of a tokenizer's files: lm/tokens alone parses them", name, files.Position(literal.Pos()).Line, key)
				}
			}
			return true
		})
	})
	for _, key := range tokenizerKeys {
		if !named[key] {
			t.Errorf("lm/tokens names no key %q: take it out of tokenizerKeys, or correct it", key)
		}
	}
}

func TestKeyOf(t *testing.T) {
	for literal, want := range map[string]string{
		`"merges"`:                           "merges",
		"`json:\"chat_template,omitempty\"`": "chat_template",
		`"added_tokens.json"`:                "added_tokens.json",
		"`json:\"eos_token_id\"`":            "eos_token_id",
	} {
		if got := keyOf(literal); got != want {
			t.Errorf("%s names %q, want %q", literal, got, want)
		}
	}
}

// TestTokensAreLight makes sure that no module between lm/tokens and the standard library brings GoMLX along.
func TestTokensAreLight(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "./lm/tokens")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list -deps ./lm/tokens: %v", err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 20 {
		t.Errorf("go list names only the packages %q: it did not look at what lm/tokens imports", packages)
	}
	for _, name := range packages {
		if within(name, "github.com/gomlx") {
			t.Errorf("lm/tokens depends on %s: nothing of GoMLX belongs there", name)
		}
	}
}
