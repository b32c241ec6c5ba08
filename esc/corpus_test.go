package esc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func numbered(n int) []Dialogue {
	dialogues := make([]Dialogue, n)
	for i := range dialogues {
		dialogues[i] = sampleDialogue()
		dialogues[i].Index = i
		dialogues[i].Situation = fmt.Sprint(i)
	}
	return dialogues
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ n, train, tenth int }{{3, 1, 1}, {9, 7, 1}, {10, 8, 1}, {19, 17, 1}, {20, 16, 2}, {196, 158, 19}, {1300, 1040, 130}} {
		corpus, err := Split(numbered(c.n), 1)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, part := range [][]Dialogue{corpus.Train, corpus.Valid, corpus.Test} {
			for i, d := range part {
				if seen[d.Situation] || d.Index != i {
					t.Errorf("dialogue %s is in two parts, or numbered %d at %d", d.Situation, d.Index, i)
				}
				seen[d.Situation] = true
			}
		}
		if len(corpus.Train) != c.train || len(corpus.Valid) != c.tenth || len(corpus.Test) != c.tenth || len(seen) != c.n {
			t.Errorf("%d: %d, %d, %d", c.n, len(corpus.Train), len(corpus.Valid), len(corpus.Test))
		}
	}
	for n := range 3 {
		if _, err := Split(numbered(n), 1); err == nil || !strings.Contains(err.Error(), "at least 3") {
			t.Errorf("%d dialogues: %v", n, err)
		}
	}
	members := func(seed uint64) string {
		corpus, _ := Split(numbered(200), seed)
		text := ""
		for _, d := range corpus.Test {
			text += d.Situation + " "
		}
		return text
	}
	first, again, other := members(1), members(1), members(2)
	if first != again || first == other {
		t.Error("the split should depend on the seed and on nothing else")
	}
	// Fixed: a change here changes every corpus' fingerprint.
	if got, want := members(42), splitOfSeed42; got != want {
		t.Errorf("seed 42 puts %q into test", got)
	}
}

func TestSplitByIndexRefuses(t *testing.T) {
	for text, word := range map[string]string{
		`{"train":[0],"valid":[1],"test":[2]}`:                          "",
		`{"index_in_ESConv_json":{"train":[0],"valid":[1],"test":[2]}}`: "",
		`{"train":[0],"valid":[1],"test":[4]}`:                          "0 to 3",
		`{"train":[0],"valid":[1],"test":[-1]}`:                         "-1",
		`{"train":[0,1],"valid":[1],"test":[2]}`:                        "already",
		`{"train":[0],"valid":[1]}`:                                     `"test" is empty or missing`,
		`{"train":[0],"valid":[1],"test":["x"]}`:                        "not an object",
		`[0]`:                                                           "not an object",
		``:                                                              "not an object",
	} {
		corpus, err := SplitByIndex(numbered(4), []byte(text))
		if word == "" && (err != nil || corpus.Unused != 1 || len(corpus.Test) != 1 || corpus.Test[0].Situation != "2") {
			t.Errorf("%s: %+v, %v", text, corpus, err)
		}
		if word != "" && (err == nil || !strings.Contains(err.Error(), word)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReadCorpusRefuses(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.json")
	writeDialogues(t, whole, numbered(4))
	writeDialogues(t, filepath.Join(dir, "train.json"), numbered(4))
	writeDialogues(t, filepath.Join(dir, "test.json"), numbered(1))
	for _, c := range []struct {
		source Source
		word   string
	}{
		{Source{Path: filepath.Join(dir, "none.json")}, "no such file"},
		{Source{Path: dir}, "valid.json"},
		{Source{Path: dir, SplitIndex: "index.json"}, "single file"},
		{Source{Path: whole, SplitIndex: filepath.Join(dir, "none")}, "split index"},
		{Source{Path: whole, SplitIndex: whole}, "not an object"},
	} {
		if _, err := ReadCorpus(c.source); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%+v: %v", c.source, err)
		}
	}
	writeDialogues(t, filepath.Join(dir, "valid.json"), numbered(2))
	if corpus, err := ReadCorpus(Source{Path: dir}); err != nil || len(corpus.Valid) != 2 {
		t.Errorf("a directory: %+v, %v; want 2 dialogues for validation", corpus, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "valid.json"), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCorpus(Source{Path: dir}); err == nil || !strings.Contains(err.Error(), "valid.json") {
		t.Error(err)
	}
}

const splitOfSeed42 = "0 6 53 65 79 89 92 97 98 99 100 127 146 153 154 160 161 166 175 185 "
