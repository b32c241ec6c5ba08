package activities

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/results"
)

// TestCorpusStage: a corpus of the family, with other names of speakers, keys and
// strategies and a turn in two utterances, becomes an artifact in ESConv's layout.
func TestCorpusStage(t *testing.T) {
	dialogues, err := esc.ReadDialogues("demo.json", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	type turn struct {
		Speaker  string `json:"speaker"`
		Text     string `json:"text"`
		Strategy string `json:"strategy,omitempty"`
	}
	lines := bytes.NewBufferString("\ufeff")
	supporters, others := 0, 0
	for _, d := range dialogues[:12] {
		var turns []turn
		for _, u := range d.Utterances {
			switch {
			case u.Speaker == esc.Seeker:
				turns = append(turns, turn{"usr", u.Text, ""})
				continue
			case u.Strategy == esc.Others:
				turns = append(turns, turn{"sys", u.Text, "Chit-Chat"})
				others++
			default:
				turns = append(turns, turn{"sys", u.Text, u.Strategy.String()})
			}
			turns = append(turns, turn{"sys", "Take your time.", "Question"})
			supporters++
		}
		line, err := json.Marshal(map[string]any{"dialog": turns})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, "\r\n\r\n"...))
	}
	if others == 0 {
		t.Fatal("the sample corpus has no greeting to rename")
	}
	dir := t.TempDir()
	for _, name := range []string{"train.jsonl", "valid.jsonl", "test.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), lines.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := newLab(t, chattest.New(t), "corpus.source="+dir, "corpus.consecutive=merge", "corpus.strategies.chit-chat=Others")
	corpus, err := results.Open(t.Context(), l.a.Store, l.stages["corpus"].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	got, err := results.ReadDialogues(corpus, results.FileTrain)
	if err != nil {
		t.Fatal(err)
	}
	stats := esc.ComputeStatistics(got)
	if stats.Dialogues != 12 || stats.Assistant != supporters || stats.Strategies[esc.Others] != others {
		t.Errorf("%d dialogues, %d supporter turns, %d of strategy Others; want 12, %d, %d", stats.Dialogues, stats.Assistant, stats.Strategies[esc.Others], supporters, others)
	}
}
