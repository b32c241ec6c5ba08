package tokens

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokensOfTheConfigurationAlone: what stands in added_tokens_decoder and not in tokenizer.json is added as
// transformers adds it, or refused where the ids do not fit.
func TestTokensOfTheConfigurationAlone(t *testing.T) {
	dir := t.TempDir()
	plain, err := TrainBPE(t.Context(), func(yield func(string) bool) { yield("low lower lowest") }, dir, BPEOptions{VocabSize: 280})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokenizer_config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := plain.VocabSize()
	for name, c := range map[string]struct {
		added map[int]string
		text  string
		want  string // the tokens, with bars between; "" where it is refused
		names string
	}{
		"one":                {map[int]string{next: "<|extra|>"}, "<|extra|>", "<|extra|>", ""},
		"two in order":       {map[int]string{next + 1: "<|b|>", next: "<|a|>"}, "<|b|><|a|>", "<|b|>|<|a|>", ""},
		"within a text":      {map[int]string{next: "<|extra|>"}, "low<|extra|>low", "low|<|extra|>|low", ""},
		"a gap":              {map[int]string{next + 3: "<|extra|>"}, "", "", "<|extra|>"},
		"an id that is used": {map[int]string{0: "<|extra|>"}, "", "", "<|extra|>"},
	} {
		t.Run(name, func(t *testing.T) {
			var config map[string]any
			if err := json.Unmarshal(data, &config); err != nil {
				t.Fatal(err)
			}
			decoder, _ := config["added_tokens_decoder"].(map[string]any)
			for id, content := range c.added {
				decoder[fmt.Sprintf("x%d", id)[1:]] = map[string]any{"content": content, "special": true}
			}
			changed, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			tok, err := Load(dir)
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.names) {
					t.Errorf("the error has to name %s, it is: %v", c.names, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, id := range tok.Encode(c.text) {
				got = append(got, tok.Token(id))
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("%q becomes %q, want %q", c.text, got, c.want)
			}
			if tok.digest == plain.digest {
				t.Error("the tokenizer's digest does not tell that tokens were added")
			}
		})
	}
}
