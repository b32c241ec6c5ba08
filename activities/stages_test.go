package activities

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// Every kind of the table has an activity that takes the parameters of that
// kind.
func TestEveryKindHasAnActivity(t *testing.T) {
	l := newLab(t, chattest.New(t))
	stages := l.a.Stages()
	if got, want := len(stages), len(experiments.Kinds()); got != want {
		t.Errorf("%d kinds have activities, the table has %d kinds", got, want)
	}
	for _, kind := range experiments.Kinds() {
		if stages[kind] == nil {
			t.Errorf("kind %s has no activity", kind)
			continue
		}
		stage := planned(t, experiments.Stage{Name: string(kind), Kind: kind, Params: []byte(`{"unheard_of":1}`)})
		l.stages[stage.Name] = stage
		if _, err := l.run(stage.Name); errorType(err) != "BadInput" || !strings.Contains(err.Error(), "unheard_of") {
			t.Errorf("the activity of kind %s given an unknown parameter: got %v, want an error that names the parameter", kind, err)
		}
	}
}

// planned gives a stage without inputs the fingerprint that it has.
func planned(t *testing.T, s experiments.Stage) experiments.Stage {
	t.Helper()
	var err error
	if s.Fingerprint, err = s.FingerprintOf(nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// A request that claims a fingerprint is not believed: nothing is computed under
// it, and no lease is taken.
func TestFingerprintsAreComputed(t *testing.T) {
	l := newLab(t, chattest.New(t))
	honest := l.stages["corpus"]
	changed := func(change func(*experiments.Stage)) experiments.Stage {
		s := honest
		change(&s)
		return s
	}
	free := strings.Repeat("ab", 32)
	for name, s := range map[string]experiments.Stage{
		"other parameters": changed(func(s *experiments.Stage) {
			s.Params = bytes.Replace(s.Params, []byte(`"max_dialogues":`), []byte(`"max_dialogues":1`), 1)
		}),
		"another kind":    changed(func(s *experiments.Stage) { s.Kind = experiments.KindScore }),
		"another version": changed(func(s *experiments.Stage) { s.Version-- }),
		"no relation":     changed(func(s *experiments.Stage) { s.Fingerprint = free }),
		"none":            changed(func(s *experiments.Stage) { s.Fingerprint = "" }),
		"a later version": planned(t, changed(func(s *experiments.Stage) { s.Version++ })),
	} {
		l.stages[name] = s
		if _, err := l.run(name); errorType(err) != workflows.ErrTypeBadInput || !strings.Contains(err.Error(), "planned by another version") && !strings.Contains(err.Error(), "is not that of") {
			t.Errorf("%s: %v, want an error of type BadInput", name, err)
		}
		in := workflows.StageInput{Stage: s}
		if _, err := l.a.Lookup(t.Context(), in); errorType(err) != workflows.ErrTypeBadInput {
			t.Errorf("%s: lookup gives %v, want an error of type BadInput", name, err)
		}
	}
	stages, err := l.a.Store.ListStages(t.Context())
	if err != nil || slices.Contains(stages, free) || len(stages) != 4 {
		t.Errorf("the store has stages %v (%v), want the four of before", stages, err)
	}
}

// An artifact that somebody has put under a known fingerprint is none: lookups,
// plans and verify find it, and the stage is made in its place.
func TestArtifactsAreCompared(t *testing.T) {
	l := newLab(t, chattest.New(t))
	ctx, store := t.Context(), l.a.Store
	score, from := l.stages["score/vanilla/base"], "generate/vanilla/base"
	inputs := map[string]string{}
	for input, stage := range score.Inputs {
		inputs[input] = l.stages[stage].Fingerprint
	}
	generated, err := store.Lookup(ctx, l.stages[from].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	input := ""
	for name, stage := range score.Inputs {
		if stage == from {
			input = name
		}
	}
	honest := artifacts.Manifest{Kind: string(score.Kind), Stage: score.Name, Params: score.Params, Inputs: map[string]string{input: generated.Digest}}
	content, err := score.Content()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(*artifacts.Manifest)
	}{
		{"other parameters", func(m *artifacts.Manifest) { m.Params = []byte(`{"a":1}`) }},
		{"other parameters", func(m *artifacts.Manifest) { m.Kind = "bias" }},
		{"another " + input, func(m *artifacts.Manifest) { m.Inputs = map[string]string{input: strings.Repeat("cd", 32)} }},
		{"no input of the stage", func(m *artifacts.Manifest) { m.Inputs = map[string]string{"stranger": generated.Digest} }},
	} {
		foreign := honest
		foreign.Files = map[string]artifacts.Ref{"scores.json": generated.Files[results.FilePredictions]}
		c.change(&foreign)
		lease, err := store.Acquire(ctx, score.Fingerprint, artifacts.Claim{Owner: "attacker", Steal: true})
		if err != nil {
			t.Fatal(err)
		}
		planned := struct {
			Planned lab.Planned `json:"planned"`
		}{lab.Planned{Version: score.Version, Inputs: inputs}}
		if _, err := lease.Commit(ctx, foreign, planned); err != nil {
			t.Fatal(err)
		}
		if err := lease.Release(ctx); err != nil { // else its time would be waited for
			t.Fatal(err)
		}
		found, err := l.a.Lookup(ctx, workflows.StageInput{Stage: score, Inputs: inputs})
		if err != nil || found.Found || !strings.Contains(found.Reason, c.what) {
			t.Errorf("lookup gives %+v, %v; want nothing found because of %s", found, err, c.what)
		}
		decided, err := (&lab.Client{Store: store}).Decide(ctx, slices.Collect(maps.Values(l.stages)))
		if d := decided[score.Name]; err != nil || d.Action != experiments.ActionRun || !strings.Contains(d.Reason, c.what) {
			t.Errorf("the plan says %+v, %v; want run because of %s", d, err, c.what)
		}
		m, err := store.Lookup(ctx, score.Fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		for how, err := range map[string]error{"verify RUN": lab.CheckOrigin(ctx, store, m, content, inputs), "verify --all": lab.CheckPlanned(ctx, store, m)} {
			if !errors.Is(err, artifacts.ErrDamaged) {
				t.Errorf("%s gives %v for %s, want that it is damaged", how, err, c.what)
			}
		}
		if _, err := l.run(score.Name); err != nil {
			t.Fatal(err)
		}
		found, err = l.a.Lookup(ctx, workflows.StageInput{Stage: score, Inputs: inputs})
		m, err2 := store.Lookup(ctx, score.Fingerprint)
		if err := errors.Join(err, err2, lab.CheckPlanned(ctx, store, m)); err != nil || !found.Found {
			t.Errorf("after the stage has run over %s: %+v, %v; want its artifact", c.what, found, err)
		}
	}
}
