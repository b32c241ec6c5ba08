package democorpus

import (
	"bytes"
	"testing"

	"github.com/esclab/esclab/esc"
)

func TestJSONSplits(t *testing.T) {
	dialogues, err := esc.ReadDialogues("demo.json", bytes.NewReader(JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	corpus, err := esc.Split(dialogues, 42)
	if err != nil {
		t.Fatal(err)
	}
	if len(dialogues) != Dialogues || len(corpus.Test) != Dialogues/10 {
		t.Errorf("%d dialogues, %d for test", len(dialogues), len(corpus.Test))
	}
	data := JSON()
	data[0] = 'x'
	if JSON()[0] == 'x' {
		t.Error("a caller can change the corpus")
	}
}
