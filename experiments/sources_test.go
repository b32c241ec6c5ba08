package experiments

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCorpusSources(t *testing.T) {
	host := fakeHost(map[string]string{
		"one/ESConv.json": "whole", "two/moved.json": "whole", "index.json": "{}",
		"split/train.json": "a", "split/valid.json": "b", "split/test.json": "c", "split/notes.txt": "x",
	}, nil)
	plan := func(sets ...string) CorpusParams {
		t.Helper()
		exp := mustLoad(t, "demo", sets...)
		sources, err := SourceDigests(exp, host)
		if err != nil {
			t.Fatal(err)
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParamsOf[CorpusParams](find(t, stages, "corpus"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	demo := plan()
	if demo.Layout != LayoutFile || demo.Files[0] != (FileDigest{"demo.json", sha(`[{"dialog":[]}]`), 15}) || demo.SplitSeed != 42 {
		t.Errorf("demo: %+v", demo)
	}
	file := plan("corpus.source=one/ESConv.json")
	if file.Layout != LayoutFile || file.Files[0].SHA256 != sha("whole") || file.SplitRatio != [3]int{8, 1, 1} {
		t.Errorf("file: %+v", file)
	}
	sets := []string{"corpus.source=one/ESConv.json", "corpus.split.index=index.json"}
	indexed := plan(sets...)
	exp := mustLoad(t, "demo", sets...)
	sources, err := SourceDigests(exp, host)
	if err != nil {
		t.Fatal(err)
	}
	if stages, err := Plan(exp, sources); err != nil || stages[0].SplitIndexSource != "index.json" {
		t.Errorf("the stage does not say where the index lies: %+v, %v", stages[0], err)
	}
	if indexed.SplitIndex.SHA256 != sha("{}") || indexed.SplitSeed != 0 || indexed.SplitRatio != [3]int{} {
		t.Errorf("index: %+v", indexed)
	}
	split := plan("corpus.source=split")
	if split.Layout != LayoutSplit || len(split.Files) != 3 || split.Files[0].Name != "test.json" || split.SplitSeed != 0 {
		t.Errorf("directory: %+v", split)
	}
}

// TestMovedDataAreTheSame: the place of the files is no part of a fingerprint,
// their content is.
func TestMovedDataAreTheSame(t *testing.T) {
	fingerprint := func(path, content string) (string, string) {
		exp := mustLoad(t, "demo", "corpus.source="+path)
		sources, err := SourceDigests(exp, fakeHost(map[string]string{path: content}, nil))
		if err != nil {
			t.Fatal(err)
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatal(err)
		}
		return stages[0].Fingerprint, stages[0].Source
	}
	a, where := fingerprint("here/c.json", "x")
	b, there := fingerprint("there/c.json", "x")
	c, _ := fingerprint("here/c.json", "y")
	if a != b || a == c {
		t.Errorf("moved %s %s, changed %s", a, b, c)
	}
	if where != "here/c.json" || there != "there/c.json" {
		t.Errorf("the stage does not say where its files lie: %q, %q", where, there)
	}
}

// TestMissingSources: each is named with its remedy, the plan can still be
// made, and what rests on it has no fingerprint.
func TestMissingSources(t *testing.T) {
	for _, c := range []struct {
		preset string
		host   Host
		sets   []string
		want   []string
		known  bool // base does not rest on the missing file
	}{
		{"tiny-esconv", fakeHost(nil, nil), nil, []string{"corpus.source: esconv: $ESCLAB_ESCONV is not set; get ESConv.json from https://github.com/thu-coai"}, false},
		{"tiny-esconv", fakeHost(nil, map[string]string{"ESCLAB_ESCONV": "gone"}), nil, []string{"corpus.source: gone: file does not exist; get ESConv.json"}, false},
		{"tiny-esconv", fakeHost(map[string]string{"d/train.json": ""}, map[string]string{"ESCLAB_ESCONV": "d"}), nil, []string{"corpus.source: d/test.json: file does not exist"}, false},
		{"demo", fakeHost(nil, nil), []string{"corpus.source=gone.json"}, []string{"corpus.source: gone.json: file does not exist; corpus.source is"}, false},
		{"demo", fakeHost(map[string]string{}, nil), []string{"corpus.split.index=gone.json"}, []string{"corpus.split.index: gone.json: file does not exist"}, false},
		{"qwen2.5-7b", fakeHost(nil, nil), nil, []string{"corpus.source: esconv", "backbone.path: Qwen/Qwen2.5-7B-Instruct: file does not exist: looked for Qwen/Qwen2.5-7B-Instruct; download the model"}, false},
		{"qwen2.5-7b", fakeHost(map[string]string{"Qwen/Qwen2.5-7B-Instruct/config.json": "{}", "Qwen/Qwen2.5-7B-Instruct/tokenizer.json": "{}"}, nil), nil,
			[]string{"backbone.path: Qwen/Qwen2.5-7B-Instruct/model.safetensors: file does not exist"}, false},
	} {
		exp := mustLoad(t, c.preset, c.sets...)
		sources, err := SourceDigests(exp, c.host)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "not set") {
			t.Errorf("%s: %v", c.preset, err)
			continue
		}
		var missing *MissingSourceError
		if !errors.As(err, &missing) || missing.Remedy == "" {
			t.Errorf("%s: no remedy in %v", c.preset, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: want %q in\n%v", c.preset, w, err)
			}
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Errorf("%s: it cannot even be planned: %v", c.preset, err)
		}
		for _, s := range stages {
			if s.Fingerprint != "" {
				t.Errorf("%s: %s has a fingerprint without its sources", c.preset, s.Name)
			}
		}
		for _, p := range Planned(stages, map[string]Decision{"corpus": {ActionReuse, "x"}}) {
			if p.Action != ActionBlocked {
				t.Errorf("%s: %s is to %s without its sources", c.preset, p.Name, p.Action)
			}
		}
	}
	exp := mustLoad(t, "demo", "corpus.source=d", "corpus.split.index=i.json")
	host := fakeHost(map[string]string{"d/train.json": "", "d/valid.json": "", "d/test.json": "", "i.json": ""}, nil)
	if _, err := SourceDigests(exp, host); err == nil || !strings.Contains(err.Error(), "already split") {
		t.Errorf("an index beside a split directory: %v", err)
	}
}

// TestCheckpointSources: weights, tokenizer and configuration count, the README does not.
func TestCheckpointSources(t *testing.T) {
	exp := mustLoad(t, "qwen2.5-7b")
	fingerprint := func(changed string) string {
		host := paperHost()
		open := host.Open
		host.Open = func(p string) (file readCloser, err error) {
			if filepath.Base(p) == changed {
				return readCloser(nopCloser{strings.NewReader("changed")}), nil
			}
			return open(p)
		}
		sources, err := SourceDigests(exp, host)
		if err != nil {
			t.Fatal(err)
		}
		if sources.Checkpoint.Path != "models/Qwen/Qwen2.5-7B-Instruct" {
			t.Errorf("found in %s", sources.Checkpoint.Path)
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatal(err)
		}
		return find(t, stages, "base").Fingerprint
	}
	before := fingerprint("")
	for name, want := range map[string]bool{"config.json": true, "tokenizer.json": true, "model-00001-of-00001.safetensors": true, "README.md": false} {
		if got := fingerprint(name) != before; got != want {
			t.Errorf("a changed %s changes the base: %v, want %v", name, got, want)
		}
	}
	if a, b := find(t, mustPlan(t, "qwen2.5-7b"), "base"), find(t, mustPlan(t, "qwen2.5-7b", "engine=go", "seed=1"), "base"); a.Fingerprint != b.Fingerprint {
		t.Error("importing a checkpoint depends on engine or seed")
	}
}

// TestOptionalCheckpointFiles: a file that decides results and need not be there
// counts by its presence and by its content; the others beside it do not.
func TestOptionalCheckpointFiles(t *testing.T) {
	const dir = "models/Qwen/Qwen2.5-7B-Instruct/"
	exp := mustLoad(t, "qwen2.5-7b")
	fingerprint := func(name, content string) string {
		files := map[string]string{"data/esconv/train.json": "train", "data/esconv/valid.json": "valid", "data/esconv/test.json": "test"}
		for _, needed := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
			files[dir+needed] = needed
		}
		if name != "" {
			files[dir+name] = content
		}
		sources, err := SourceDigests(exp, fakeHost(files, map[string]string{"ESCLAB_ESCONV": "data/esconv", "ESCLAB_MODELS": "models"}))
		if err != nil {
			t.Fatalf("SourceDigests with %q: %v", name, err)
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatalf("Plan with %q: %v", name, err)
		}
		return find(t, stages, "base").Fingerprint
	}
	without := fingerprint("", "")
	for name, counts := range map[string]bool{"chat_template.jinja": true, "tokenizer_config.json": true,
		"generation_config.json": true, "special_tokens_map.json": true, "added_tokens.json": true, "vocab.json": false, "merges.txt": false,
		"README.md": false, "chat_template.json": false, "preprocessor_config.json": false, "tokenizer.model": false} {
		one, other := fingerprint(name, "one"), fingerprint(name, "other")
		if (one != without) != counts {
			t.Errorf("the base changes with %s beside the checkpoint: %v, want %v", name, one != without, counts)
		}
		if (one != other) != counts {
			t.Errorf("the base changes with what %s says: %v, want %v", name, one != other, counts)
		}
	}
}

// TestRealESConv plans the real corpus where it is there.
func TestRealESConv(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "esconv")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no ESConv in ../shared/esconv")
	}
	exp := mustLoad(t, "tiny-esconv", "corpus.source="+dir)
	sources, err := SourceDigests(exp, OS(nil))
	if err != nil {
		t.Fatal(err)
	}
	stages, err := Plan(exp, sources)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParamsOf[CorpusParams](stages[0])
	if err != nil || len(p.Files) != 3 || p.Files[1].Bytes < 6_000_000 || stages[0].Source != dir {
		t.Errorf("the corpus has %+v (%v), want three files, by their place", p, err)
	}
	// A plan travels as JSON and comes back as it was.
	text, err := json.Marshal(stages)
	if err != nil {
		t.Fatal(err)
	}
	var again []Stage
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	want := find(t, stages, "report").Fingerprint
	if err := Fingerprints(again); err != nil || find(t, again, "report").Fingerprint != want {
		t.Errorf("fingerprints changed on the way through JSON (%v)", err)
	}
}

// TestJudgePrompts: prompts of one's own count by their content; without the
// directory the stages that ask with them have no fingerprint, and the others
// keep theirs.
func TestJudgePrompts(t *testing.T) {
	host := fakeHost(map[string]string{"a/errors.txt": "one", "b/errors.txt": "one", "c/errors.txt": "two", "c/notes.md": "x", "empty/notes.md": "x"}, nil)
	plan := func(dir string) ([]Stage, error) {
		t.Helper()
		exp := mustLoad(t, "demo", "judge.kind=openai", "judge.model=m", "judge.base_url=https://a.example/v1", "judge.prompts="+dir)
		sources, missing := SourceDigests(exp, host)
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatal(err)
		}
		return stages, missing
	}
	of := func(dir, stage string) string {
		t.Helper()
		stages, missing := plan(dir)
		if missing != nil {
			t.Fatal(missing)
		}
		return find(t, stages, stage).Fingerprint
	}
	for _, stage := range []string{"mine/vm", "mine/rg", "judge/vanilla/sft"} {
		if of("a", stage) != of("b", stage) || of("a", stage) == of("c", stage) || of("a", stage) == of("", stage) {
			t.Errorf("%s: the prompts do not count by their content", stage)
		}
	}
	if of("a", "mine/sp") != of("c", "mine/sp") {
		t.Error("mine/sp asks nobody, but its fingerprint changed")
	}
	for _, dir := range []string{"absent", "empty"} {
		stages, err := plan(dir)
		var gone *MissingSourceError
		if !errors.As(err, &gone) || gone.Key != "judge.prompts" {
			t.Errorf("%s: %v", dir, err)
		}
		if f := find(t, stages, "judge/vanilla/base").Fingerprint; f != "" {
			t.Errorf("%s: judge/vanilla/base has fingerprint %s", dir, f)
		}
		if find(t, stages, "mine/vm").Fingerprint != "" || find(t, stages, "sft/vm").Fingerprint == "" {
			t.Errorf("%s: other stages' fingerprints are wrong", dir)
		}
	}
}
