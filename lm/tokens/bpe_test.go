package tokens

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/reference"
)

// smallTokenizer trains a tokenizer on the texts given, for tests.
func smallTokenizer(t testing.TB, size int, texts ...string) *Tokenizer {
	t.Helper()
	tok, err := TrainBPE(context.Background(), slices.Values(texts), t.TempDir(), BPEOptions{VocabSize: size})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestTrainBPEMerges(t *testing.T) {
	// low 5, lower 2, newest 6, widest 3: the example of Sennrich et al. 2016.
	text := strings.Repeat("low ", 5) + strings.Repeat("lower ", 2) + strings.Repeat("newest ", 6) + strings.Repeat("widest ", 3)
	tok := smallTokenizer(t, 256+6+4, text)
	// By hand: "es" and "st" and "t" ties are broken by the smaller ids. es (9),
	// then es+t (9), then the pairs with a leading space.
	var got []string
	for id := int32(256); int(id) < tok.VocabSize()-6; id++ {
		got = append(got, tok.Token(id))
	}
	want := []string{"es", "est", "lo", "low"}
	if !slices.Equal(got, want) {
		t.Errorf("merges make %q, want %q", got, want)
	}
	if ids := tok.EncodeText("lowest"); tok.VocabSize() != 266 || len(ids) != 2 {
		t.Errorf("vocabulary of %d, lowest is %v", tok.VocabSize(), ids)
	}
}

// The incremental counts must give what counting anew before each merge gives.
func TestTrainBPEEqualsRecount(t *testing.T) {
	texts := reference.Contents(reference.Dialogues(t, "test.json"))[:150]
	const size = 700
	words, err := countWords(context.Background(), slices.Values(texts))
	if err != nil {
		t.Fatal(err)
	}
	tok := smallTokenizer(t, size+6, texts...)
	raw := make([][]string, len(words))
	for i, word := range words {
		for _, symbol := range word.symbols {
			raw[i] = append(raw[i], string([]byte{byteOrder[symbol]}))
		}
	}
	for id := int32(256); id < size; id++ {
		counts := map[[2]string]int{}
		for i, word := range raw {
			for j := range len(word) - 1 {
				counts[[2]string{word[j], word[j+1]}] += words[i].count
			}
		}
		var best [2]string
		for pair, n := range counts {
			key := func(p [2]string) uint64 { return pairKey(rawID(tok, p[0]), rawID(tok, p[1])) }
			if m := counts[best]; n > m || n == m && key(pair) < key(best) {
				best = pair
			}
		}
		if want := bytesToken(best[0] + best[1]); tok.Token(id) != want {
			t.Fatalf("token %d is %q, want %q", id, tok.Token(id), want)
		}
		for i, word := range raw {
			var out []string
			for j := 0; j < len(word); j++ {
				if j+1 < len(word) && word[j] == best[0] && word[j+1] == best[1] {
					out = append(out, best[0]+best[1])
					j++
				} else {
					out = append(out, word[j])
				}
			}
			raw[i] = out
		}
	}
}

func rawID(tok *Tokenizer, raw string) int32 { return tok.bpe.whole[raw] }

func TestTrainBPE(t *testing.T) {
	texts := reference.Contents(reference.Dialogues(t, "train.json"))
	start := time.Now()
	first, second := t.TempDir(), t.TempDir()
	tok, err := TrainBPE(context.Background(), slices.Values(texts), first, BPEOptions{VocabSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d texts, vocabulary %d, in %v", len(texts), tok.VocabSize(), time.Since(start).Round(time.Millisecond))
	slices.Reverse(texts)
	if _, err := TrainBPE(context.Background(), slices.Values(texts), second, BPEOptions{VocabSize: 4096}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s depends on the order of the texts", name)
		}
	}
	if tok.VocabSize() != 4096 {
		t.Errorf("vocabulary of %d, want 4096", tok.VocabSize())
	}
	bytes, tokens := 0, 0
	for _, text := range texts {
		ids := tok.EncodeText(text)
		if got := tok.Decode(ids); got != tok.normalize(text) {
			t.Fatalf("%q comes back as %q", text, got)
		}
		bytes, tokens = bytes+len(text), tokens+len(ids)
	}
	if ratio := float64(bytes) / float64(tokens); ratio < 3.5 {
		t.Errorf("%.2f bytes a token, want more than 3.5", ratio)
	}
}

func TestTrainBPEErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := TrainBPE(ctx, slices.Values([]string{"a"}), t.TempDir(), BPEOptions{VocabSize: 100}); err == nil {
		t.Error("a vocabulary below the bytes is accepted")
	}
	if _, err := TrainBPE(ctx, slices.Values([]string{""}), t.TempDir(), BPEOptions{VocabSize: 300}); err == nil {
		t.Error("empty texts are accepted")
	}
	tok, err := TrainBPE(ctx, slices.Values([]string{"abab abab"}), t.TempDir(), BPEOptions{VocabSize: 5000})
	if err != nil || tok.VocabSize() >= 300 {
		t.Errorf("few texts: error %v, want a vocabulary below 300", err)
	}
	cancel()
	if _, err := TrainBPE(ctx, slices.Values([]string{"a"}), t.TempDir(), BPEOptions{VocabSize: 300}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: error %v, want context.Canceled", err)
	}
}
