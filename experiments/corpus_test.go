package experiments

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// TestByteOrderMarks: what editors put in front of a text file is no part of it.
func TestByteOrderMarks(t *testing.T) {
	const bom = "\ufeff"
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("base.yaml", bom+minimal)
	const sweep = "name: s\nbase: base.yaml\ngrid: {seed: [1, 2]}\n"
	for name, read := range map[string]func() error{
		"experiment": func() error { _, err := Read("e.yaml", []byte(bom+minimal)); return err },
		"experiment with CRLF": func() error {
			_, err := Read("e.yaml", []byte(bom+strings.ReplaceAll(minimal, "\n", "\r\n")))
			return err
		},
		"experiment after a comment":    func() error { _, err := Read("e.yaml", []byte(bom+"# mine\n---\n"+minimal)); return err },
		"experiment's file":             func() error { _, err := Load(write("mine.yaml", bom+minimal)); return err },
		"sweep, its base with one, too": func() error { _, err := ReadSweep("s.yaml", []byte(bom+sweep), dir); return err },
		"sweep's file":                  func() error { _, err := LoadSweep(write("s.yaml", bom+sweep)); return err },
	} {
		if err := read(); err != nil {
			t.Errorf("%s: got %v, want the mark to be skipped", name, err)
		}
	}
	for name, text := range map[string]string{"UTF-16": "\xff\xfen\x00a\x00", "Latin-1": "name: caf\xe9\n"} {
		if _, err := Read("e.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "e.yaml: not UTF-8 text") {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if _, err := Read("e.yaml", []byte(bom+"nmae: x\n")); err == nil || !strings.Contains(err.Error(), `e.yaml:1: unknown key "nmae"; did you mean "name"?`) {
		t.Errorf("got %v, want the key without the mark", err)
	}

	prompts := func(mark string) map[string]string {
		return must(judgePrompts(JudgeAt{"judge", Judging{Prompts: "p"}}, fakeHost(map[string]string{"p/scores.txt": mark + "Score it."}, nil)))
	}
	if got := prompts(bom); !maps.Equal(got, prompts("")) {
		t.Errorf("judge's prompts: got %q, want the text without the mark", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestCorpusReading: keys of the corpus on their way from YAML to the reader.
// What comes to the same has the same parameters; ESConv's own way has none.
func TestCorpusReading(t *testing.T) {
	params := func(block string) (CorpusParams, string) {
		t.Helper()
		exp, err := Read("e.yaml", []byte(strings.Replace(minimal, "  source: demo\n", "  source: demo\n"+block, 1)))
		if err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		again, err := Read("again.yaml", must(Marshal(exp)))
		if err != nil || !reflect.DeepEqual(exp, again) {
			t.Errorf("%s: written and read back: %+v, %v", block, again.Corpus, err)
		}
		stage := must(Plan(exp, Sources{Corpus: Source{Files: []FileDigest{{"c.json", "00", 1}}}}))[0]
		return must(ParamsOf[CorpusParams](stage)), string(stage.Params)
	}
	_, plain := params("")
	for _, block := range []string{"  strategies: {}\n", "  consecutive: keep\n"} {
		if _, got := params(block); got != plain || strings.Contains(got, "strategies") {
			t.Errorf("%q: parameters %s, want %s", block, got, plain)
		}
	}
	mapped, one := params("  strategies: {Other: others, \"\": Others, \"No: 7\": 'Question'}\n  consecutive: merge\n")
	_, two := params("  consecutive: merge\n  strategies:\n    'no:  7': question\n    OTHER : Others\n    '': Others\n")
	if one != two {
		t.Errorf("the same map gives %s and %s", one, two)
	}
	got, err := mapped.Reading()
	if err != nil || !got.Merge || !maps.Equal(got.Strategies, map[string]esc.Strategy{"other": esc.Others, "": esc.Others, "no: 7": esc.Question}) {
		t.Errorf("reading %+v, %v", got, err)
	}
	if _, err := Read("e.yaml", []byte(minimal+"corpus: {strategies: {A: Others, A: Question}}\n")); err == nil {
		t.Error("a name that stands twice in the map should be refused")
	}
	if _, err := Read("e.yaml", []byte(strings.Replace(minimal, "demo\n", "demo\n  strategies:\n    Other: Others\n    Chat: chatty\n", 1))); err == nil ||
		!strings.Contains(err.Error(), "e.yaml:6: corpus.strategies.Chat") {
		t.Errorf("got %v, want the line of the wrong entry", err)
	}
}

// TestPresetsShowFailedESConv: the map in the presets' comment is the one that
// reads FailedESConv.
func TestPresetsShowFailedESConv(t *testing.T) {
	want := StrategyMap{"Questions": "Question", "Other": "Others", "Restatement": "Restatement or Paraphrasing",
		"Approval and Reassurance": "Affirmation and Reassurance", "Direct Guidance": "Providing Suggestions"}
	for _, name := range Presets() {
		_, comment, found := strings.Cut(string(must(PresetYAML(name))), "FailedESConv:")
		comment, _, closed := strings.Cut(strings.ReplaceAll(comment, "#", ""), "}")
		exp := mustLoad(t, name)
		err := Set(&exp, "corpus.strategies="+strings.Join(strings.Fields(comment), " ")+"}")
		if !found || !closed || err != nil || !maps.Equal(exp.Corpus.Strategies, want) || exp.Validate() != nil {
			t.Errorf("%s: the comment gives %v (%v), want %v", name, exp.Corpus.Strategies, err, want)
		}
	}
}

// TestPartsInLines: a part may be a JSON list or JSON lines; both are refused.
func TestPartsInLines(t *testing.T) {
	files := map[string]string{"c/train.jsonl": "a", "c/valid.json": "b", "c/test.jsonl": "c"}
	source, err := corpusSource(Corpus{Source: "c"}, fakeHost(files, nil))
	var names []string
	for _, f := range source.Files {
		names = append(names, f.Name)
	}
	if err != nil || !slices.Equal(names, []string{"test.jsonl", "train.jsonl", "valid.json"}) || source.Files[0].SHA256 == "" {
		t.Errorf("got %v, %v", source.Files, err)
	}
	files["c/test.json"] = "d"
	source, err = corpusSource(Corpus{Source: "c"}, fakeHost(files, nil))
	if err == nil || !strings.Contains(err.Error(), "both test.json and test.jsonl") || source.Files[0].SHA256 != "" {
		t.Errorf("two files of one part: got %v, %v", source.Files, err)
	}
	if raw := string(must(json.Marshal(source.Files))); !strings.Contains(raw, "test.json") {
		t.Errorf("the file in question is not named: %s", raw)
	}
}
