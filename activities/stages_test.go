package activities

import (
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
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
		stage := experiments.Stage{Name: string(kind), Kind: kind, Fingerprint: strings.Repeat("ab", 32), Params: []byte(`{"unheard_of":1}`)}
		l.stages[stage.Name] = stage
		if _, err := l.run(stage.Name); errorType(err) != "BadInput" || !strings.Contains(err.Error(), "unheard_of") {
			t.Errorf("the activity of kind %s given an unknown parameter: got %v, want an error that names the parameter", kind, err)
		}
	}
}
