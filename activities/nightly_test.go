package activities

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// A night is planned as a run of the same experiment is; what it measures anew
// has an identity of its own.
func TestPlanNight(t *testing.T) {
	host := experiments.OS([]byte("[]"))
	a := &Activities{Log: zerolog.Nop(), Nightly: Nightly{Revision: "r"}, Host: func(context.Context) experiments.Host { return host }}
	set := []string{"seeds=[2,3]"}
	p, err := experiments.Prepare("demo", set, host)
	if err != nil {
		t.Fatal(err)
	}
	run := workflows.NewRunInput(p, workflows.Queues{}, 30, workflows.Facts{Revision: "r"}, workflows.Origin{})

	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	env.RegisterActivity(a.PlanNight)
	night := workflows.Night{Workflow: "nightly/n-1", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	night.HeartbeatSeconds = 30
	night.Experiment = workflows.NightExperiment{Name: "demo", Preset: "demo", Set: set}
	plan := func(fresh string) workflows.NightPlan {
		t.Helper()
		night.Fresh = fresh
		value, err := env.ExecuteActivity(a.PlanNight, night)
		if err != nil {
			t.Fatal(err)
		}
		var plan workflows.NightPlan
		if err := value.Get(&plan); err != nil {
			t.Fatal(err)
		}
		return plan
	}

	none := plan(experiments.FreshNone)
	if none.Run.Facts.Seed != 2 || none.Run.Facts.Seed != run.Facts.Seed || none.Run.WorkflowID() != run.WorkflowID() {
		t.Errorf("the night's run has facts %+v and computes %s, a run of the experiment %+v and %s", none.Run.Facts, none.Run.WorkflowID(), run.Facts, run.WorkflowID())
	}
	if want := "run/demo/night-20260102T030405Z"; none.RunID != want {
		t.Errorf("the night's run is %s, want %s", none.RunID, want)
	}
	all := plan(experiments.FreshAll)
	if all.RunID != all.Run.WorkflowID() || all.RunID == run.WorkflowID() || all.Setup != none.Setup {
		t.Errorf("a night that measures everything anew is %s, a run of the experiment %s; set-ups %s and %s", all.RunID, run.WorkflowID(), all.Setup, none.Setup)
	}

	night.Experiment.Set = []string{"corpus.source=none.json"}
	if _, err := env.ExecuteActivity(a.PlanNight, night); err == nil {
		t.Error("a night is planned whose corpus is not there")
	}
}
