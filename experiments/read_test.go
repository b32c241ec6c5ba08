package experiments

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadMinimal(t *testing.T) {
	exp, err := Read("x.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	tiny := defaultTiny()
	tiny.VocabSize = 1024
	want.Name, want.Corpus.Source, want.Backbone.Name, want.Backbone.Tiny, want.Limits.MaxTokens = "t", "demo", "tiny-llama", &tiny, 512
	if !reflect.DeepEqual(exp, want) {
		t.Errorf("got  %+v\nwant %+v", exp, want)
	}
}

// TestReadProblems: each broken file is reported with file, line, path and the
// way out, and none reads as an experiment.
func TestReadProblems(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		want       []string // each is part of one line of the error, in this order
	}{
		{"empty", "", []string{"x.yaml: the file is empty"}},
		{"comment only", "# nothing\n", []string{"x.yaml: the file is empty"}},
		{"not a mapping", "- a\n", []string{"x.yaml:1: wants keys and values"}},
		{"text", "hello", []string{"wants keys and values"}},
		{"misspelt top key", minimal + "genration: {}\n", []string{`x.yaml:10: unknown key "genration"; did you mean "generation"?`}},
		{"misspelt inner key", minimal + "dpo:\n  roles:\n    sp:\n      betta: 0.3\n", []string{`x.yaml:13: dpo.roles.sp: unknown key "betta"; did you mean "beta"?`}},
		{"swapped letters", minimal + "sft:\n  batch_szie: 3\n", []string{`x.yaml:11: sft: unknown key "batch_szie"; did you mean "batch_size"?`}},
		{"key at the wrong level", minimal + "dpo:\n  beta: 0.3\n", []string{`x.yaml:11: dpo: unknown key "beta" here; it belongs to dpo.roles.vm.beta, dpo.roles.sp.beta, dpo.roles.rg.beta`}},
		{"far from any key", minimal + "limits2_of_everything: 1\n", []string{`unknown key "limits2_of_everything"; an experiment has name, seed,`}},
		{"several at once", minimal + "sead: 1\nsft:\n  epochs: three\n  learning_rate: \"1e-5\"\nlora: 16\n", []string{
			`x.yaml:10: unknown key "sead"; did you mean "seed"?`,
			`x.yaml:12: sft.epochs: wants a whole number, has "three"`,
			`x.yaml:13: sft.learning_rate: wants a number, has text in quotes: "1e-5"`,
			`x.yaml:14: lora: wants keys and values (rank, alpha, dropout, targets, rslora), has "16"`,
		}},
		{"several kinds at once", minimal + "sft: {epochs: three, batch_szie: 4}\nlora: {rank: 0}\nmethods: [ddpo]\n", []string{
			`x.yaml:10: sft.epochs: wants a whole number, has "three"`, `x.yaml:10: sft: unknown key "batch_szie"; did you mean "batch_size"?`,
			"x.yaml:11: lora.rank: is 0", `x.yaml:12: methods[0]: is "ddpo"`,
		}},
		{"float for an integer", minimal + "sft: {epochs: 1.5}\n", []string{`sft.epochs: wants a whole number, has "1.5"`}},
		{"negative seed", minimal + "seed: -1\n", []string{`seed: wants a whole number, 0 or more, has "-1"`}},
		{"overflow", minimal + "seed: 99999999999999999999\n", []string{"seed: wants a whole number, 0 or more", "out of range"}},
		{"nan", minimal + "sft: {learning_rate: .nan}\n", []string{`sft.learning_rate: wants a number`}},
		{"go nan", minimal + "sft: {learning_rate: NaN}\n", []string{`sft.learning_rate: wants a number, has "NaN"`}},
		{"yes is no boolean", minimal + "generation: {greedy: yes}\n", []string{`generation.greedy: wants true or false, has "yes"`}},
		{"list for text", minimal + "engine: [go]\n", []string{`engine: wants text, has a list`}},
		{"text for a list", minimal + "methods: sft\n", []string{`methods: wants a list, has "sft"`}},
		{"short ratio", strings.Replace(minimal, "source: demo", "source: demo\n  split: {ratio: [8, 1]}", 1), []string{"corpus.split.ratio: wants 3 values, has 2"}},
		{"no value", minimal + "seed:\n", []string{"x.yaml:10: seed: has no value; it wants a whole number"}},
		{"duplicate key", minimal + "name: other\n", []string{"not valid YAML", `"name"`}},
		{"anchor", minimal + "engine: &e go\n", []string{"engine: anchors, aliases, merges and tags are not used"}},
		{"alias", minimal + "engine: *e\n", []string{"anchors, aliases, merges and tags are not used"}},
		{"tag", minimal + "seed: !!int 3\n", []string{"anchors, aliases, merges and tags are not used"}},
		{"merge", minimal + "lora:\n  <<: {rank: 3}\n", []string{"anchors, aliases, merges and tags are not used"}},
		{"two documents", minimal + "---\nname: b\n", []string{"a second YAML document"}},
		{"broken YAML", "name: [a\n", []string{"x.yaml:1: not valid YAML"}},
		{"tab", "name: a\n\tseed: 1\n", []string{"not valid YAML"}},
		{"not UTF-8", "name: \xff\n", []string{"not UTF-8"}},
		{"zero byte", "name: a\nseed: \x00\n", []string{"x.yaml:2: a zero byte"}},
		{"too long", minimal + "# " + strings.Repeat("x", maxFileBytes), []string{"are more than an experiment's 65536"}},
		{"too deep", minimal + "lora: " + strings.Repeat("[", 1000), []string{"levels of nesting"}},
		{"too deep in dashes", minimal + "lora:\n  " + strings.Repeat("- ", 1000), []string{"levels of nesting"}},
		{"validation knows the line", minimal + "lora:\n  rank: 0\n", []string{"x.yaml:11: lora.rank: is 0"}},
		{"validation knows the block", minimal + "checkpoint:\n  every_steps: 0\n  every_seconds: 0\n", []string{"x.yaml:10: checkpoint: has neither"}},
		{"validation of an item", minimal + "methods:\n  - sft\n  - ddpo\n", []string{`x.yaml:12: methods[1]: is "ddpo"; it is one of base, direct-refine, self-refine, emotion-cot, sft, dpo; did you mean "dpo"?`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exp, err := Read("x.yaml", []byte(c.yaml))
			if err == nil {
				t.Fatalf("it was read: %+v", exp)
			}
			if !reflect.DeepEqual(exp, Experiment{}) {
				t.Error("half an experiment came back beside the error")
			}
			rest := err.Error()
			for _, w := range c.want {
				i := strings.Index(rest, w)
				if i < 0 {
					t.Fatalf("the error lacks %q:\n%v", w, err)
				}
				rest = rest[i+len(w):]
			}
			if len(err.Error()) > 4000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestNoConsequences: what validation would say of a field that could not be read, or
// because of it, is not said beside that.
func TestNoConsequences(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(minimal, "source: demo", "sorce: demo", 1):               "corpus.source",
		strings.Replace(minimal, "name: t", "nmae: t", 1):                        "name: is",
		minimal + "generation: {max_new_tokens: many}\nmethods: [self-refine]\n": "writes",
		minimal + "dpo: {roles: 3}\n":                                            "dpo.roles.",
	} {
		_, err := Read("x.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("of %q it says, want one line without %q:\n%v", text, want, err)
		}
	}
	_, err := Load("demo", "sft.epochs=three", "lora.rank=0", "dpo.batch_size=0", "mining.samples.sp=x")
	for _, want := range []string{"--set: sft.epochs: wants", "--set: mining.samples.sp: wants", "--set: lora.rank: is 0", "--set: dpo.batch_size: is 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of four broken --set it lacks %q:\n%v", want, err)
		}
	}
}

// TestMarshalRoundTrip: the effective experiment reads back as itself.
func TestMarshalRoundTrip(t *testing.T) {
	for _, name := range Presets() {
		exp := mustLoad(t, name)
		text, err := Marshal(exp)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read("effective.yaml", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if !reflect.DeepEqual(exp, again) {
			t.Errorf("%s changed on the way through YAML:\n%s", name, text)
		}
	}
}

// FuzzRead: whatever the bytes, Read returns; what it accepts is valid, can be
// planned, and survives the way through YAML.
func FuzzRead(f *testing.F) {
	for _, name := range Presets() {
		content, err := PresetYAML(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, s := range []string{minimal, "", "a: &x [*x]", "? a\n: b", "{a: {b: c}}", "name: |\n  x\n", "<<: {}", "- - - -", "%YAML 1.2\n---\na: b\n...\n", "\"\\x\": 1", "[:", "{,}", ": :", "!!a b", "a:\r\n b: c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		exp, err := Read("fuzz.yaml", content)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if err := exp.Validate(); err != nil {
			t.Fatalf("Read accepted what Validate rejects: %v", err)
		}
		if _, err := Plan(exp, Sources{}); err != nil {
			t.Fatalf("a valid experiment cannot be planned: %v", err)
		}
		text, err := Marshal(exp)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read("again.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(exp, again) {
			t.Fatalf("changed on the way through YAML:\n%+v\n%+v", exp, again)
		}
	})
}

// What nests too deep is refused before a parser recurses into it, however it is
// written.
func TestTooDeep(t *testing.T) {
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"balanced in a line":   {"a:\n  " + deep("[", "]", 32000), 2},
		"over lines":           {"a: " + strings.Repeat("[\n", 40) + strings.Repeat("]\n", 40), 33},
		"closed in comments":   {"a: " + strings.Repeat("[ # ]\n", 40), 33},
		"closed in quotes":     {"a: " + strings.Repeat("[\"]\", ']',\n", 40), 33},
		"mappings":             {"a: " + deep("{a: ", "}", 40), 1},
		"hidden by a quote":    {"a: |\n '\nb: " + strings.Repeat("[]", 9000), 3},
		"dashes":               {strings.Repeat("- ", 100) + "x", 1},
		"indentation":          {"a:\n" + strings.Repeat(" ", 300) + "x: 1", 2},
		"many beside others":   {"a: [" + strings.Repeat("[1, 2], ", 4000) + "]", 0},
		"brackets in a string": {"a: \"" + strings.Repeat("[", 100) + "\"\nb: '" + strings.Repeat("{", 100) + "' # " + strings.Repeat("[", 100), 0},
	} {
		if got := TooDeep([]byte(c.text)); got != c.line {
			t.Errorf("%s: line %d, want %d", name, got, c.line)
		}
	}
}
