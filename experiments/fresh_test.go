package experiments

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func planDemo(t *testing.T, sets ...string) []Stage {
	t.Helper()
	exp, err := Load("demo", sets...)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := SourceDigests(exp, OS([]byte("[]")))
	if err != nil {
		t.Fatal(err)
	}
	stages, err := Plan(exp, sources)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// What is fresh, and all that follows from it, has other fingerprints and the
// same parameters; the rest is shared with every other run.
func TestFreshen(t *testing.T) {
	plain := planDemo(t)
	salted := func(what, salt string) []Stage {
		stages := planDemo(t)
		kinds, err := FreshKinds(what)
		if err != nil {
			t.Fatal(err)
		}
		if err := Freshen(stages, kinds, salt); err != nil {
			t.Fatal(err)
		}
		return stages
	}
	all, other, dpo := salted("all", "one"), salted("all", "two"), salted("dpo", "one")
	setup, err := Setup(plain)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range plain {
		if string(s.Params) != string(all[i].Params) {
			t.Errorf("%s: its parameters have changed", s.Name)
		}
		if all[i].Fingerprint == s.Fingerprint || all[i].Fingerprint == other[i].Fingerprint {
			t.Errorf("%s is not fresh", s.Name)
		}
		after := s.Kind == KindDPO || s.Kind == KindReport || strings.HasSuffix(s.Name, "/dpo") || strings.Contains(s.Name, "/dpo/")
		if (dpo[i].Fingerprint != s.Fingerprint) != after {
			t.Errorf("%s with fresh dpo: changed %v, want %v", s.Name, dpo[i].Fingerprint != s.Fingerprint, after)
		}
	}
	for name, stages := range map[string][]Stage{"none": salted("none", "one"), "again": planDemo(t)} {
		if !slices.EqualFunc(stages, plain, func(a, b Stage) bool { return a.Fingerprint == b.Fingerprint }) {
			t.Errorf("%s: other fingerprints", name)
		}
	}
	for name, stages := range map[string][]Stage{"all": all, "dpo": dpo} {
		if got, err := Setup(stages); err != nil || got != setup {
			t.Errorf("%s: another set-up, %v", name, err)
		}
	}
	if got, err := Setup(planDemo(t, "dpo.roles.sp.beta=0.31")); err != nil || got == setup {
		t.Errorf("another beta has the same set-up, %v", err)
	}
	if _, err := FreshKinds("dpo,judgement"); err == nil || !strings.Contains(err.Error(), "all, none, or kinds") {
		t.Errorf("an unknown kind: %v", err)
	}
	if kinds, err := FreshKinds("dpo, generate"); err != nil || !slices.Equal(kinds, []Kind{KindDPO, KindGenerate}) {
		t.Errorf("dpo, generate are read as %v (%v)", kinds, err)
	}
}

func TestAbsolutePaths(t *testing.T) {
	exp := Defaults()
	exp.Corpus.Source, exp.Corpus.Split.Index, exp.Backbone.Path = "esconv", "split.json", "Qwen/Qwen2.5-7B-Instruct"
	if err := exp.AbsolutePaths(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if exp.Corpus.Source != "esconv" || exp.Backbone.Path != "Qwen/Qwen2.5-7B-Instruct" || exp.Judge.Prompts != "" || !filepath.IsAbs(exp.Corpus.Split.Index) {
		t.Errorf("%+v %+v", exp.Corpus, exp.Backbone)
	}
	exp.Corpus.Source = "data/ESConv.json"
	if err := exp.AbsolutePaths(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(exp.Corpus.Source) || !filepath.IsAbs(exp.Backbone.Path) {
		t.Errorf("%+v %+v", exp.Corpus, exp.Backbone)
	}
}
