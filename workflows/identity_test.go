package workflows

import (
	"reflect"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
)

// Whoever plans a run starts it with the same input: the first of several seeds
// is the one that it is found by.
func TestNewRunInput(t *testing.T) {
	host := experiments.OS([]byte("[]"))
	for seeds, want := range map[string]uint64{"seed=7": 7, "seeds=[2,3]": 2} {
		p, err := experiments.Prepare("demo", []string{seeds}, host)
		if err != nil {
			t.Fatal(err)
		}
		in := NewRunInput(p, Queues{Control: "c"}, 30, Facts{Sweep: "s", Cell: "1", Revision: "r", Attributes: all()}, Origin{User: "u"})
		facts := Facts{Experiment: "demo", Backbone: p.Experiment.Backbone.Name, Sweep: "s", Cell: "1", Seed: want, Revision: "r", Attributes: all()}
		if !reflect.DeepEqual(in.Facts, facts) {
			t.Errorf("%s: facts are %+v, want %+v", seeds, in.Facts, facts)
		}
		if got, ok := in.SearchAttributes().GetInt64(AttrSeed); !ok || got != int64(want) {
			t.Errorf("%s: the attribute Seed is %d, want %d", seeds, got, want)
		}
		if id := in.WorkflowID(); id != "run/demo/"+p.Result()[:12] || NamedIn(id) != "demo" {
			t.Errorf("%s: the run is %q of %q", seeds, id, NamedIn(id))
		}
	}
}

func TestNamedIn(t *testing.T) {
	for id, want := range map[string]string{
		RunWorkflowID("demo", strings.Repeat("0", 64)):       "demo",
		NightRunWorkflowID("demo", "20260102T030405Z"):       "demo",
		SweepWorkflowID(experiments.SweepPlan{Name: "grid"}): "grid",
		"stage/dpo/0123": "stage/dpo/0123", "run/demo": "run/demo", "run/a/b/c": "run/a/b/c", "compare/0123": "compare/0123", "": "",
	} {
		if got := NamedIn(id); got != want {
			t.Errorf("%q names %q, want %q", id, got, want)
		}
	}
}
