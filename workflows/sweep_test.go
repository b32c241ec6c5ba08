package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// sweepLab runs a Sweep over runs that behave as cells says.
type sweepLab struct {
	env   *testsuite.TestWorkflowEnvironment
	done  []string // cells whose run was started, in order
	now   int      // running at the same time
	most  int
	table TableInput
	// cell is how long a cell's run takes and what it ends with, by its try.
	cell   func(name string, try int) (time.Duration, error)
	marks  func(first, count int) string
	stops  []experiments.HopelessCell
	tries  map[string]int
	survey []CellsInput
	kept   *[]KeptRun
}

func newSweepLab(cell func(name string, try int) (time.Duration, error)) *sweepLab {
	var suite testsuite.WorkflowTestSuite
	l := &sweepLab{env: suite.NewTestWorkflowEnvironment(), cell: cell, tries: map[string]int{}}
	l.marks = func(_, count int) string { return strings.Repeat("w", count) }
	l.kept = emptyStore(l.env)
	register := func(f any, method any) { l.env.RegisterActivityWithOptions(f, activityOptions(nameOf(method))) }
	register(func(_ context.Context, in CellsInput) (SurveyResult, error) {
		l.survey = append(l.survey, in)
		return SurveyResult{Marks: CellMarks(l.marks(in.First, in.Count))}, nil
	}, SweepActivities.SurveyCells)
	register(func(_ context.Context, in CellInput) (CellPlan, error) {
		name := fmt.Sprintf("c%d", in.Cell)
		return CellPlan{Name: name, WorkflowID: "run/" + name, Run: RunInput{Experiment: name}}, nil
	}, SweepActivities.PlanCell)
	register(func(context.Context, RunningCell) error { return nil }, SweepActivities.AwaitCell)
	register(func(_ context.Context, in TableInput) (SweepTable, error) {
		l.table = in
		return SweepTable{Files: []string{"table.md"}}, nil
	}, SweepActivities.TabulateSweep)
	register(func(context.Context, HopelessInput) ([]experiments.HopelessCell, error) { return l.stops, nil }, SweepActivities.FindHopeless)
	l.env.RegisterWorkflowWithOptions(l.run, workflow.RegisterOptions{Name: RunName})
	return l
}

// run stands for a cell's run.
func (l *sweepLab) run(ctx workflow.Context, in RunInput) (RunResult, error) {
	l.done = append(l.done, in.Experiment)
	l.tries[in.Experiment]++
	l.now++
	l.most = max(l.most, l.now)
	defer func() { l.now-- }()
	takes, err := l.cell(in.Experiment, l.tries[in.Experiment])
	if slept := workflow.Sleep(ctx, takes); slept != nil {
		return RunResult{}, slept
	}
	return RunResult{}, err
}

func (l *sweepLab) sweep(in SweepInput) (SweepResult, error) {
	in.Name, in.HeartbeatSeconds = "test", 10
	in.Plan.Sweep = "sweep/test/1"
	// What an earlier execution has started has ended by now.
	l.env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, signalWant, mock.Anything).Return(errors.New("not found"))
	l.env.ExecuteWorkflow(Sweep, in)
	var r SweepResult
	err := l.env.GetWorkflowError()
	if err == nil {
		err = l.env.GetWorkflowResult(&r)
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		err = errors.Join(err, app.Details(&r))
	}
	return r, err
}

// at sends an update after a while; refused says whether it is to be.
func (l *sweepLab) at(t *testing.T, after time.Duration, refused bool, update string, args ...any) {
	l.env.RegisterDelayedCallback(func() {
		l.env.UpdateWorkflow(update, "", &testsuite.TestUpdateCallback{
			OnAccept: func() {
				if refused {
					t.Errorf("%s %v was accepted", update, args)
				}
			},
			OnReject: func(err error) {
				if !refused {
					t.Errorf("%s %v: %v", update, args, err)
				}
			},
			OnComplete: func(_ any, err error) {
				if err != nil {
					t.Errorf("%s %v: %v", update, args, err)
				}
			},
		}, args...)
	}, after)
}

func minutes(n int) func(string, int) (time.Duration, error) {
	return func(string, int) (time.Duration, error) { return time.Duration(n) * time.Minute, nil }
}

func TestSweepRunsItsCells(t *testing.T) {
	l := newSweepLab(minutes(1))
	l.marks = func(_, count int) string { return strings.Repeat("w", count-1) + "d" } // the last one is there
	r, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 7}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Marks != "ddddddu" || l.most != 2 || anyOrder(l.done) != "c0 c1 c2 c3 c4 c5" {
		t.Errorf("marks %s, %d at the same time, started %v", r.Marks, l.most, l.done)
	}
	if l.table.Marks != r.Marks || len(l.survey) != 1 {
		t.Errorf("table of %s, %d surveys", l.table.Marks, len(l.survey))
	}
}

// A failed cell does not keep the others from running; the sweep says so last.
func TestSweepGoesOnBesideAFailedCell(t *testing.T) {
	l := newSweepLab(func(name string, _ int) (time.Duration, error) {
		if name == "c1" {
			return time.Second, temporal.NewNonRetryableApplicationError("dpo/rg: no pair to train on", "StageFailed", nil)
		}
		return time.Minute, nil
	})
	r, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 4}})
	if err == nil || !strings.Contains(err.Error(), "1 of 4 cells failed; c1: dpo/rg: no pair to train on") {
		t.Fatalf("the sweep ends with %v, want an error that counts the failed cells and names the first", err)
	}
	if r.Marks != "dfdd" || len(r.Ends) != 1 || r.Ends[0].Reason != "dpo/rg: no pair to train on" {
		t.Errorf("the result is %+v, want the second cell failed, with its reason", r)
	}
}

func TestSweepUpdates(t *testing.T) {
	l := newSweepLab(func(name string, try int) (time.Duration, error) {
		if name == "c0" && try == 1 {
			return time.Minute, temporal.NewNonRetryableApplicationError("bad luck", "StageFailed", nil)
		}
		return 10 * time.Minute, nil
	})
	l.at(t, 1*time.Second, true, UpdateResume)
	l.at(t, 2*time.Second, true, UpdateParallel, 0)
	l.at(t, 3*time.Second, true, UpdateRetryFailed)
	l.at(t, 4*time.Second, true, UpdateCancelCell, CancelCellInput{Cell: 99})
	l.at(t, 5*time.Second, true, UpdateAddCells, PlanRef{Sweep: "sweep/test/1", Cells: 5})
	l.at(t, 6*time.Second, true, UpdateAddCells, PlanRef{Sweep: "sweep/other/1", Cells: 50})
	// At 1:00 c0 fails and c2 begins; c3 is cancelled before it does.
	l.at(t, 2*time.Minute, false, UpdateCancelCell, CancelCellInput{Cell: 3, Name: "c3"})
	l.at(t, 3*time.Minute, false, UpdateCancelCell, CancelCellInput{Cell: 2, Name: "c2"}) // c4 takes its place
	l.at(t, 4*time.Minute, false, UpdatePause, PauseInput{})
	l.at(t, 5*time.Minute, true, UpdatePause, PauseInput{})
	l.at(t, 6*time.Minute, false, UpdateRetryFailed)
	l.at(t, 30*time.Minute, false, UpdateAddCells, PlanRef{Sweep: "sweep/test/1", File: "more", Cells: 6})
	l.at(t, 40*time.Minute, false, UpdateParallel, 3)
	l.env.RegisterDelayedCallback(func() {
		answer, err := l.env.QueryWorkflow(QueryState)
		var s SweepState
		if err != nil || answer.Get(&s) != nil {
			t.Error(err)
		}
		if !s.Paused || len(s.Running) != 0 || s.Marks != "wdwwd?" {
			t.Errorf("while paused: %+v", s)
		}
	}, 50*time.Minute)
	l.at(t, 60*time.Minute, false, UpdateResume)
	r, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Marks != "dddddd" || len(r.Ends) != 0 || l.most != 3 || r.Plan.File != "more" {
		t.Errorf("%+v, %d at the same time", r, l.most)
	}
	if want := "c0 c0 c1 c2 c2 c3 c4 c5"; anyOrder(l.done) != want {
		t.Errorf("started %v, want %s", l.done, want)
	}
}

// anyOrder sorts names: cells that run at the same time begin in any order.
func anyOrder(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), " ") }

// Paused at once: the running cells stop, and run again.
func TestSweepPausedNow(t *testing.T) {
	l := newSweepLab(minutes(10))
	l.at(t, time.Minute, false, UpdatePause, PauseInput{Now: true})
	l.at(t, 2*time.Minute, false, UpdateResume)
	r, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 3}})
	if err != nil || r.Marks != "ddd" || len(l.done) != 5 {
		t.Errorf("%+v, %v, started %v", r, err, l.done)
	}
}

func TestSweepStopsHopelessCells(t *testing.T) {
	l := newSweepLab(minutes(10))
	l.stops = []experiments.HopelessCell{{Cell: 1, Reason: "worse than the median"}}
	r, err := l.sweep(SweepInput{Parallel: 3, Plan: PlanRef{Cells: 3}, StopEverySeconds: 30})
	if err != nil || r.Marks != "dsd" || len(r.Ends) != 1 || r.Ends[0].Reason != "worse than the median" {
		t.Errorf("the result is %+v (%v), want the second cell stopped early, with its reason", r, err)
	}
}

func TestSweepCancelled(t *testing.T) {
	l := newSweepLab(minutes(10))
	l.env.RegisterDelayedCallback(l.env.CancelWorkflow, time.Minute)
	_, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 3}})
	if !temporal.IsCanceledError(err) || l.now != 0 || len(l.done) != 2 {
		t.Errorf("%v, %d runs go on, started %v", err, l.now, l.done)
	}
}

// What was carried over is followed, not started again.
func TestSweepCarriesOn(t *testing.T) {
	l := newSweepLab(minutes(1))
	r, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 4}, Carry: &SweepCarry{
		Marks: "drfw", Running: []RunningCell{{Cell: 1, Name: "c1", WorkflowID: "run/c1"}},
		Ends: []CellEnd{{Cell: 2, Name: "c2", Mark: CellFailed, Reason: "bad luck"}}, Executions: 1,
	}})
	if err == nil || r.Marks != "ddfd" || !slices.Equal(l.done, []string{"c3"}) {
		t.Errorf("%+v, %v, started %v", r, err, l.done)
	}
}

// A long history continues as new, with what is under way.
func TestSweepContinuesAsNew(t *testing.T) {
	l := newSweepLab(minutes(10))
	l.env.RegisterDelayedCallback(func() { l.env.SetContinueAsNewSuggested(true) }, time.Minute)
	_, err := l.sweep(SweepInput{Parallel: 2, Plan: PlanRef{Cells: 400}})
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) {
		t.Fatalf("the sweep ends with %v, want that it continues as new", err)
	}
}
