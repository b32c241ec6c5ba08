package lab

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/mocks"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// keep writes what an execution leaves of itself.
func keep(t *testing.T, store *artifacts.Store, id, status string, input, result any) {
	t.Helper()
	kept := workflows.KeptRun{Version: workflows.KeptVersion, ID: id, RunID: "first", Status: status, Started: time.Unix(1, 0).UTC()}
	if status == "failed" {
		kept.Failure = "dpo/sp: no pairs"
	}
	var err error
	if kept.Input, err = json.Marshal(input); err != nil {
		t.Fatal(err)
	}
	if result != nil {
		kept.Ended = time.Unix(2, 0).UTC()
		if kept.Result, err = json.Marshal(result); err != nil {
			t.Fatal(err)
		}
	}
	if err := KeepRun(t.Context(), store, kept); err != nil {
		t.Fatal(err)
	}
}

// What Temporal has forgotten is found, listed and read by what it has left.
func TestForgottenRuns(t *testing.T) {
	store := storetest.OpenStore(t, t.TempDir())
	ctx := t.Context()
	stages := []experiments.Stage{{Name: "corpus", Fingerprint: strings.Repeat("1", 64)}, {Name: "dpo/sp", Fingerprint: strings.Repeat("2", 64)}}
	in := workflows.RunInput{Experiment: "old", Stages: stages, Origin: workflows.Origin{User: "anna", Host: "box"}}
	state := workflows.RunState{Experiment: "old", Stages: []workflows.StageState{
		{Name: "corpus", Status: workflows.StageReused}, {Name: "dpo/sp", Status: workflows.StageFailed, Error: "no pairs"},
	}}
	keep(t, store, "run/old/0da221080876", "failed", in, state)
	keep(t, store, "run/lost/111111111111", "running", workflows.RunInput{Experiment: "lost", Stages: stages}, nil)
	keep(t, store, "sweep/grid/222222222222", "cancelled",
		workflows.SweepInput{Name: "grid", Plan: workflows.PlanRef{File: "plan-1.json"}, Parallel: 3},
		workflows.SweepResult{Plan: workflows.PlanRef{File: "plan-2.json"}, Marks: "dc"})
	if _, err := store.PutRunFile(ctx, "run/other/000000000000", "run.json", []byte("{}")); err != nil { // of another version: not read
		t.Fatal(err)
	}
	c := &Client{Temporal: visibility(1, "run/new/333333333333"), Store: store}

	for _, name := range []string{"old", "ol", "old/0da2", "run/old/0da221080876"} {
		e, err := c.FindRun(ctx, name, false)
		if err != nil || e.ID != "run/old/0da221080876" || e.Status != enums.WORKFLOW_EXECUTION_STATUS_FAILED || !e.Kept || e.RunID != "first" || !e.Started.Equal(time.Unix(1, 0)) {
			t.Errorf("%q is %+v, %v; want the failed run", name, e, err)
		}
	}
	if _, err := c.FindRun(ctx, "old", true); err == nil {
		t.Error("a forgotten run is under way")
	}
	if e, err := c.FindRun(ctx, "", false); err != nil || e.ID != "run/new/333333333333" || e.Kept {
		t.Errorf("the newest run is %+v, %v; want that which Temporal knows", e, err)
	}
	if _, err := c.FindRun(ctx, "other", false); err == nil || !strings.Contains(err.Error(), "format version 0") {
		t.Errorf("a record of another version: %v, want that it is one", err)
	}

	old, err := c.FindRun(ctx, "old", false)
	if err != nil {
		t.Fatal(err)
	}
	if by, err := c.OriginOf(ctx, old); err != nil || by.By() != "anna@box" {
		t.Errorf("started by %+v, %v", by, err)
	}
	v, err := c.StoredRun(ctx, old)
	if err == nil || err.Error() != "dpo/sp: no pairs" || len(v.Stages) != 2 || v.Stages[1].Status != workflows.StageFailed || v.Experiment != "old" || v.Run != old.ID {
		t.Errorf("it stands as %+v, %v; want its stages and what it failed of", v, err)
	}
	l, err := c.LayoutOf(ctx, "old", nil, experiments.OS([]byte("[]")))
	if err != nil || len(l.Stages) != 2 || !l.Run.Kept {
		t.Errorf("its stages are %+v, %v", l, err)
	}

	lost, err := c.FindRun(ctx, "lost", false)
	if err != nil || lost.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Fatalf("a run that was under way: %+v, %v", lost, err)
	}
	if v, err := c.StoredRun(ctx, lost); err != nil || len(v.Stages) != 2 || v.Stages[0].Status != workflows.StageWaiting {
		t.Errorf("a run that was under way stands as %+v, %v; want its stages, of which nothing is in the store", v, err)
	}

	grid, err := c.FindSweep(ctx, "grid", false)
	if err != nil || !grid.Kept || grid.Status != enums.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Fatalf("the sweep is %+v, %v", grid, err)
	}
	if s, err := c.StoredSweep(ctx, grid); err != nil || s.Plan.File != "plan-2.json" || s.Marks != "dc" || s.Parallel != 3 || s.Name != "grid" {
		t.Errorf("it stands as %+v, %v; want its last plan and how its cells ended", s, err)
	}
}

// Runs are listed with those that Temporal has forgotten, each once.
func TestListsForgottenRuns(t *testing.T) {
	store := storetest.OpenStore(t, t.TempDir())
	for _, id := range []string{"run/new/333333333333", "run/old/0da221080876", "sweep/grid/222222222222"} {
		keep(t, store, id, "done", workflows.RunInput{}, workflows.RunState{})
	}
	if _, err := store.PutRunFile(t.Context(), "run/other/444444444444", "run.json", []byte("{}")); err != nil { // of another release
		t.Fatal(err)
	}
	var listed []string
	for e, err := range (&Client{Temporal: visibility(2, "run/new/333333333333"), Store: store}).Runs(t.Context(), false) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, e.ID+" "+workflows.StatusWord(e.Status))
	}
	if got, want := strings.Join(listed, ", "), "run/other/000000000000 running, run/new/333333333333 running, run/old/0da221080876 done"; got != want {
		t.Errorf("listed are %s, want %s", got, want)
	}
}

// A run that Temporal forgets after it was listed is read by what it has left; what
// another execution of its ID has left is not taken for its own.
func TestForgottenSinceListed(t *testing.T) {
	i := &mocks.HistoryEventIterator{}
	i.On("HasNext").Return(true)
	i.On("Next").Return(nil, serviceerror.NewNotFound("workflow not found"))
	m := &mocks.Client{}
	m.On("GetWorkflowHistory", mock.Anything, mock.Anything, mock.Anything, false, mock.Anything).Return(i)
	c := &Client{Temporal: m, Store: storetest.OpenStore(t, t.TempDir())}
	keep(t, c.Store, "run/old/0da221080876", "done", workflows.RunInput{Experiment: "old"}, workflows.RunState{})
	var in workflows.RunInput
	if err := c.Input(t.Context(), Execution{ID: "run/old/0da221080876", RunID: "first"}, &in); err != nil || in.Experiment != "old" {
		t.Errorf("got %+v, %v; want what the run has left", in, err)
	}
	if err := c.Input(t.Context(), Execution{ID: "run/old/0da221080876", RunID: "second"}, &in); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("got %v, want that this execution has left nothing", err)
	}
}
