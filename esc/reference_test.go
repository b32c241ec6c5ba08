package esc

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reference returns the path of a reference file, and skips where it is absent.
func reference(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the reference data ../shared/%s is not here", name)
	}
	return path
}

func readReference(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(reference(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func esconv(t testing.TB) Corpus {
	t.Helper()
	corpus, err := ReadCorpus(Source{Path: reference(t, "esconv")})
	if err != nil {
		t.Fatal(err)
	}
	return corpus
}

func TestESConvSizes(t *testing.T) {
	corpus := esconv(t)
	for _, part := range []struct {
		name             string
		dialogues        []Dialogue
		want, supporters int
	}{
		{"train", corpus.Train, 1040, 14763},
		{"valid", corpus.Valid, 130, 1821},
		{"test", corpus.Test, 130, 1792},
	} {
		if got := len(part.dialogues); got != part.want {
			t.Errorf("%s: %d dialogues, want %d", part.name, got, part.want)
		}
		if got := len(AllTurns(part.dialogues)); got != part.supporters {
			t.Errorf("%s: %d turns, want %d", part.name, got, part.supporters)
		}
	}
}

// The authors' own chat form of the test split is the golden reference.
func TestChatEqualsAuthors(t *testing.T) {
	corpus := esconv(t)
	var authors []struct{ Messages []Message }
	readReference(t, "esconv/authors-sft-test.json", &authors)
	if len(authors) != len(corpus.Test) {
		t.Fatalf("%d dialogues, authors have %d", len(corpus.Test), len(authors))
	}
	folded := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for i, d := range corpus.Test {
		ours, theirs := Chat(d), authors[i].Messages[1:] // [0] is the system message
		if len(ours) != len(theirs) {
			t.Fatalf("dialogue %d: %d messages, authors have %d", i, len(ours), len(theirs))
		}
		for j := range ours {
			if ours[j].Role != theirs[j].Role || folded(ours[j].Content) != folded(theirs[j].Content) {
				t.Errorf("dialogue %d, message %d: %v, authors have %v", i, j, ours[j], theirs[j])
			}
		}
	}
}

func TestStatisticsAgainstPaper(t *testing.T) {
	corpus := esconv(t)
	var tables struct {
		Table1 struct {
			ESConv struct {
				Dialogues          int
				Utterances         int
				AssistantUtterance int                                      `json:"assistant_utterances"`
				UserUtterance      int                                      `json:"user_utterances"`
				AvgTurns           float64                                  `json:"avg_turns"`
				AvgChars           struct{ Total, Assistant, User float64 } `json:"avg_chars"`
			}
		} `json:"table1_datasets"`
		Table6 map[string]int `json:"table6_esconv_strategies"`
	}
	readReference(t, "paper/tables.json", &tables)
	paper, got := tables.Table1.ESConv, ComputeStatistics(corpus.Train)
	if got.Dialogues != paper.Dialogues || got.Utterances != paper.Utterances ||
		got.Assistant != paper.AssistantUtterance || got.User != paper.UserUtterance {
		t.Errorf("counts %+v differ from the paper's %+v", got, paper)
	}
	for _, s := range Strategies() {
		if got.Strategies[s] != tables.Table6[s.String()] {
			t.Errorf("%s: %d, Table 6 has %d", s, got.Strategies[s], tables.Table6[s.String()])
		}
	}
	// White space is normalised in the reference copy of ESConv, which moves
	// the averages a little; the paper rounds 14.195 turns up before doubling.
	for _, c := range []struct {
		name               string
		got, paper, within float64
	}{
		{"average turns", got.AvgTurns, paper.AvgTurns, 0.015},
		{"characters", got.AvgChars, paper.AvgChars.Total, 0.1},
		{"characters of the assistant", got.AvgCharsAssistant, paper.AvgChars.Assistant, 0.2},
		{"characters of the user", got.AvgCharsUser, paper.AvgChars.User, 0.1},
	} {
		t.Logf("%s: %.3f, paper %.2f", c.name, c.got, c.paper)
		if math.Abs(c.got-c.paper) > c.within {
			t.Errorf("%s: %.3f, Table 1 has %.2f", c.name, c.got, c.paper)
		}
	}
}

// The parts, put back into one file by the index, are the parts again.
func TestSplitByIndexRestoresParts(t *testing.T) {
	corpus := esconv(t)
	var file struct {
		Index map[string][]int `json:"index_in_ESConv_json"`
	}
	readReference(t, "esconv/split_index.json", &file)
	whole := make([]Dialogue, 1300)
	parts := map[string][]Dialogue{"train": corpus.Train, "valid": corpus.Valid, "test": corpus.Test}
	for name, positions := range file.Index {
		for i, p := range positions {
			whole[p] = parts[name][i]
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "ESConv.json")
	writeDialogues(t, path, whole)
	again, err := ReadCorpus(Source{Path: path, SplitIndex: reference(t, "esconv/split_index.json")})
	if err != nil {
		t.Fatal(err)
	}
	if again.Unused != 0 || !sameDialogues(again.Train, corpus.Train) || !sameDialogues(again.Valid, corpus.Valid) || !sameDialogues(again.Test, corpus.Test) {
		t.Error("the index file does not restore the parts")
	}
	seeded, err := ReadCorpus(Source{Path: path, Seed: 42})
	if err != nil {
		t.Fatal(err)
	}
	if len(seeded.Train) != 1040 || len(seeded.Valid) != 130 || len(seeded.Test) != 130 {
		t.Errorf("8:1:1 of 1300 gave %d, %d, %d", len(seeded.Train), len(seeded.Valid), len(seeded.Test))
	}
}

func writeDialogues(t testing.TB, path string, dialogues []Dialogue) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := WriteDialogues(file, dialogues); err != nil {
		t.Fatal(err)
	}
}

func sameDialogues(a, b []Dialogue) bool {
	return slices.EqualFunc(a, b, func(x, y Dialogue) bool {
		return x.Index == y.Index && x.ExperienceType == y.ExperienceType && x.EmotionType == y.EmotionType &&
			x.ProblemType == y.ProblemType && x.Situation == y.Situation && slices.Equal(x.Utterances, y.Utterances)
	})
}
