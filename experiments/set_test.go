package experiments

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

func TestSet(t *testing.T) {
	for _, c := range []struct {
		set  string
		want any
	}{
		{"dpo.roles.sp.beta=0.3", 0.3},
		{"sft.learning_rate=1e-5", 1e-5},
		{"sft.epochs=7", 7},
		{"seed=18446744073709551615", uint64(18446744073709551615)},
		{"generation.greedy=true", true},
		{"corpus.source=/data/my corpus: #1=x.json", "/data/my corpus: #1=x.json"},
		{"corpus.split.index=", ""},
		{"engine=xla:cuda", EngineXLACUDA},
		{"methods=base,sft", []Method{MethodBase, MethodSFT}},
		{"methods=[base]", []Method{MethodBase}},
		{"dpo.pair_sets=all, nsnr", []esc.PairSet{esc.PairsAll, esc.PairsNsNr}},
		{"corpus.split.ratio=[8, 1, 1]", [3]int{8, 1, 1}},
		{"backbone.tiny=null", nil},
		{"sft.roles.sp={epochs: 2, learning_rate: 1e-4}", SFTOverride{Epochs: 2, LearningRate: 1e-4}},
		{" lora.rank =8", 8},
		{"corpus.strategies={Questions: Question, \"\": Others}", StrategyMap{"Questions": "Question", "": "Others"}},
		{"corpus.strategies=Open question: Question, 'A: B': others", StrategyMap{"Open question": "Question", "A: B": "others"}},
	} {
		exp := mustLoad(t, "demo")
		if err := Set(&exp, c.set); err != nil {
			t.Errorf("%s: %v", c.set, err)
			continue
		}
		path, _, _ := strings.Cut(c.set, "=")
		got, err := Get(exp, strings.TrimSpace(path))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v (%v), want %#v", c.set, got, err, c.want)
		}
	}
}

func TestSetProblems(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"beta", `"beta" is not of the form path=value`},
		{"=3", `is not of the form path=value`},
		{"dpo.roles.sp.betta=1", `--set: dpo.roles.sp: unknown key "betta"; did you mean "beta"?`},
		{"beta=1", `unknown key "beta" here; it belongs to dpo.roles.vm.beta`},
		{"seed.x=1", "--set: seed.x: seed holds a whole number, 0 or more, no keys"},
		{"sft.epochs=1.5", `--set: sft.epochs: wants a whole number, has "1.5"`},
		{"sft.epochs=", "sft.epochs: has no value"},
		{"sft.epochs='3'", "sft.epochs: wants a whole number, has text in quotes"},
		{"sft.epochs=[3]", "sft.epochs: wants a whole number, has a list"},
		{"sft=3", "sft: wants keys and values"},
		{"sft.epochs=3\nseed: 4", "sft.epochs: "},
		{"generation.greedy=1", "generation.greedy: wants true or false"},
		{"corpus.split.ratio=8,1", "corpus.split.ratio: wants 3 values, has 2"},
		{"methods=[base", "methods: not valid YAML"},
		{"seed=null", "seed: has no value"},
		{"backbone.tiny={layers: 9, heads: x}", "backbone.tiny.heads: wants a whole number"},
		{"corpus.strategies=Other", "corpus.strategies"},
		{"corpus.strategies=[Other]", "corpus.strategies: wants"},
		{"corpus.strategies={Other: [Others]}", "corpus.strategies.Other: wants text"},
		{"corpus.strategies={Other: }", "corpus.strategies.Other: has no value"},
		{"..=1", "unknown key \"\""},
	} {
		exp := mustLoad(t, "demo")
		before := exp.Clone()
		err := Set(&exp, c.set)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: want %q, have %v", c.set, c.want, err)
		}
		if !reflect.DeepEqual(exp, before) {
			t.Errorf("%q changed the experiment although it failed", c.set)
		}
	}
}

// TestSetCopies: an override of a clone leaves the original alone, also where
// the experiment holds pointers and lists.
func TestSetCopies(t *testing.T) {
	exp := mustLoad(t, "demo")
	other := exp.Clone()
	for _, s := range []string{"backbone.tiny.layers=9", "lora.targets=q_proj", "methods=base", "paradigms=vanilla", "dpo.pair_sets=nsnr", "corpus.strategies.A.b=Others"} {
		if err := Set(&other, s); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(exp, mustLoad(t, "demo")) {
		t.Error("the original changed with its clone")
	}
	// A tiny block on an experiment without one begins with the defaults.
	qwen := mustLoad(t, "qwen2.5-7b", "backbone.path=", "backbone.tiny.layers=2", "limits.max_tokens=512", "methods=base,sft,dpo")
	want := defaultTiny()
	want.Layers = 2
	if !reflect.DeepEqual(*qwen.Backbone.Tiny, want) {
		t.Errorf("the tiny model is %+v, want %+v", *qwen.Backbone.Tiny, want)
	}
}

// TestKeysRoundTrip: every key can be read, and set to what it holds.
func TestKeysRoundTrip(t *testing.T) {
	exp := mustLoad(t, "demo", "mining.judge={kind: offline}")
	for _, key := range Keys() {
		v, err := Get(exp, key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		text := fmt.Sprint(v)
		if v == nil {
			text = "null"
		}
		if rv := reflect.ValueOf(v); rv.Kind() == reflect.Slice || rv.Kind() == reflect.Array {
			text = strings.ReplaceAll(text, " ", ", ")
		}
		again := exp.Clone()
		if err := Set(&again, key+"="+text); err != nil || !reflect.DeepEqual(exp, again) {
			t.Errorf("%s=%s: %v", key, text, err)
		}
	}
	if len(Keys()) < 80 {
		t.Errorf("only %d keys", len(Keys()))
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if exp := mustLoad(t, path, "seed=7"); exp.Seed != 7 || exp.Name != "t" {
		t.Errorf("the experiment is %+v, want name t and seed 7", exp)
	}
	if err := os.WriteFile(path, []byte(minimal+"sead: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		sets []string
		want []string
	}{
		{path, nil, []string{path + `:10: unknown key "sead"`}},
		{path, []string{"beta=1"}, []string{"--set: unknown key \"beta\"", path + `:10: unknown key "sead"`}},
		{"dema", nil, []string{`no preset "dema"; did you mean "demo"?; the presets are demo, tiny-esconv`}},
		{filepath.Join(dir, "none.yaml"), nil, []string{"none.yaml: no such file (or name a preset"}},
		{dir + "/", nil, []string{"experiment"}},
	} {
		_, err := Load(c.name, c.sets...)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s %v: want %q, have %v", c.name, c.sets, w, err)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"learning-rate", "learning_rate"}, {"LearningRate", "learning_rate"}, {"epoch", "epochs"},
		{"bta", "beta"}, {"zzzz", ""}, {"", ""}, {strings.Repeat("x", 1000), ""}, {"vm", ""},
	} {
		if got := nearest(c.word, []string{"learning_rate", "epochs", "beta", "sp", "rg"}); got != c.want {
			t.Errorf("nearest(%q) = %q, want %q", c.word, got, c.want)
		}
	}
}

// FuzzSet: whatever the override, Set returns, and changes nothing when it fails.
func FuzzSet(f *testing.F) {
	for _, s := range []string{"seed=1", "dpo.roles.sp.beta=0.3", "methods=[a", "backbone.tiny={}", "a.b.c=d", "=", "lora.targets=a,b: c"} {
		f.Add(s)
	}
	base, err := Load("demo")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, assignment string) {
		exp := base.Clone()
		if err := Set(&exp, assignment); err != nil && !reflect.DeepEqual(exp, base) {
			t.Errorf("%q changed the experiment although it failed: %v", assignment, err)
		}
	})
}
