// Package modelstest makes small models for tests.
package modelstest

import (
	"bytes"
	"iter"
	"os"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/lm"
)

// Dialogues are the sample corpus.
func Dialogues(t *testing.T) []esc.Dialogue {
	t.Helper()
	dialogues, err := esc.ReadDialogues("demo.json", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return dialogues
}

// Texts yields what a tokenizer learns from: every message of the dialogues.
func Texts(dialogues []esc.Dialogue) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range dialogues {
			for _, m := range esc.Chat(d) {
				if !yield(m.Content) {
					return
				}
			}
		}
	}
}

// Random makes a small model with random weights and its tokenizer, and writes
// both into a directory.
func Random(t *testing.T, dir string, positions int) (*lm.Model, *lm.Tokenizer) {
	t.Helper()
	tok, err := lm.TrainBPE(t.Context(), Texts(Dialogues(t)[:10]), dir, lm.BPEOptions{VocabSize: 400})
	if err != nil {
		t.Fatal(err)
	}
	eos, ok := tok.EOS()
	if !ok {
		t.Fatal("the tokenizer has no end-of-turn token")
	}
	config := lm.Config{
		ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: 32, IntermediateSize: 48,
		NumHiddenLayers: 2, NumAttentionHeads: 2, NumKeyValueHeads: 1, HeadDim: 16,
		MaxPositionEmbeddings: positions, RMSNormEps: 1e-5, RopeTheta: 10000,
		TieWordEmbeddings: true, EOSTokenIDs: lm.TokenIDs{int(eos)}, HiddenAct: "silu",
	}
	model, err := lm.NewModel(config, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Save(dir); err != nil {
		t.Fatal(err)
	}
	return model, tok
}

// RandomBase commits a Random model as a base artifact under a fingerprint.
func RandomBase(t *testing.T, store *artifacts.Store, fingerprint string, positions int) (*lm.Model, *lm.Tokenizer) {
	t.Helper()
	dir := t.TempDir()
	model, tok := Random(t, dir, positions)
	lease, err := store.Acquire(t.Context(), fingerprint, artifacts.Claim{Owner: "test", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	m := artifacts.Manifest{Kind: "base", Stage: "base", Files: map[string]artifacts.Ref{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if m.Files[e.Name()], err = store.PutFile(t.Context(), dir+"/"+e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lease.Commit(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
	return model, tok
}
