package workflows

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// endOfRun gives what a run has left of itself: first that it runs, last how it ended.
func endOfRun(t *testing.T, kept []KeptRun) (KeptRun, map[string]StageState) {
	t.Helper()
	if len(kept) != 2 || kept[0].Status != "running" || !kept[0].Ended.IsZero() || kept[0].Result != nil {
		t.Fatalf("a run has left %+v, want that it runs, and then how it has ended", kept)
	}
	end := kept[1]
	var in RunInput
	if err := json.Unmarshal(end.Input, &in); err != nil || in.Experiment != "test" || len(in.Stages) != 4 || in.Origin.By() != "anna@box" {
		t.Errorf("its input is %s (%v), want the experiment, its stages and who has started it", end.Input, err)
	}
	if end.Type != RunName || end.ID == "" || end.RunID == "" || end.Version != KeptVersion || end.Started.IsZero() || end.Ended.Before(end.Started) {
		t.Errorf("the end is %+v, want the execution and its times", end)
	}
	var state RunState
	if err := json.Unmarshal(end.Result, &state); err != nil {
		t.Fatal(err)
	}
	stages := map[string]StageState{}
	for _, s := range state.Stages {
		stages[s.Name] = s
	}
	return end, stages
}

// A run leaves of itself what it was started with and how its stages stood.
func TestRunIsKept(t *testing.T) {
	in := RunInput{Experiment: "test", Stages: chain(), HeartbeatSeconds: 10, Origin: Origin{User: "anna", Host: "box", Command: "esclab run test"}}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	kept := emptyStore(env)
	env.RegisterWorkflowWithOptions(func(_ workflow.Context, in StageInput) (StageResult, error) {
		if in.Stage.Name == "b" {
			return StageResult{}, temporal.NewNonRetryableApplicationError("no pair to train on", ErrTypeNoPairs, nil)
		}
		return StageResult{Stage: in.Stage.Name, Digest: "digest-" + in.Stage.Name}, nil
	}, workflow.RegisterOptions{Name: StageName})
	env.ExecuteWorkflow(Run, in)
	end, stages := endOfRun(t, *kept)
	if end.Status != "failed" || end.Failure != "b: no pair to train on" {
		t.Errorf("it is %s of %q, want what it failed of", end.Status, end.Failure)
	}
	if a, b, d := stages["a"], stages["b"], stages["d"]; a.Status != StageDone || a.Result.Digest != "digest-a" || b.Status != StageFailed || b.Error == "" || d.Status != StageSkipped {
		t.Errorf("its stages are %+v, want a done, b failed and d skipped", stages)
	}
}

// The words for how runs stand are different ones, and lead back.
func TestStatusWords(t *testing.T) {
	var words []string
	for _, s := range enums.WorkflowExecutionStatus_value {
		status := enums.WorkflowExecutionStatus(s)
		if status == enums.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED {
			continue
		}
		word := StatusWord(status)
		if StatusOf(word) != status {
			t.Errorf("%s is %q, which is %s", status, word, StatusOf(word))
		}
		words = append(words, word)
	}
	if slices.Sort(words); len(slices.Compact(words)) != len(enums.WorkflowExecutionStatus_value)-1 || StatusOf("gone") != enums.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED {
		t.Errorf("the words are %q, want a different one for each status", words)
	}
}

// What a cancelled run has not finished is cancelled, neither failed nor skipped.
func TestCancelledRunIsKept(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	kept := emptyStore(env)
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context, in StageInput) (StageResult, error) {
		if in.Stage.Name == "a" {
			return StageResult{Stage: "a"}, nil
		}
		workflow.GetSignalChannel(ctx, signalLeave).Receive(ctx, nil)
		return StageResult{}, temporal.NewCanceledError()
	}, workflow.RegisterOptions{Name: StageName})
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	env.ExecuteWorkflow(Run, RunInput{Experiment: "test", Stages: chain(), HeartbeatSeconds: 10, Origin: Origin{User: "anna", Host: "box"}})
	end, stages := endOfRun(t, *kept)
	if end.Status != "cancelled" || end.Failure != "" {
		t.Errorf("it is %s of %q, want that it was cancelled", end.Status, end.Failure)
	}
	for name, want := range map[string]StageStatus{"a": StageDone, "b": StageCancelled, "c": StageCancelled, "d": StageCancelled} {
		if s := stages[name]; s.Status != want || s.Error != "" {
			t.Errorf("stage %s is %s of %q, want %s", name, s.Status, s.Error, want)
		}
	}
}

// A sweep leaves of itself how its cells have ended, however it has.
func TestSweepIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		cancel bool
		status string
		marks  CellMarks
	}{"done": {false, "done", "ddd"}, "cancelled": {true, "cancelled", "ccw"}} {
		t.Run(name, func(t *testing.T) {
			l := newSweepLab(minutes(10))
			if c.cancel {
				l.env.RegisterDelayedCallback(l.env.CancelWorkflow, time.Minute)
			}
			_, _ = l.sweep(SweepInput{Plan: PlanRef{Cells: 3}, Parallel: 2, Origin: Origin{User: "anna", Host: "box"}})
			kept := slices.DeleteFunc(*l.kept, func(k KeptRun) bool { return k.Type != SweepName })
			if len(kept) != 2 || kept[0].Status != "running" || kept[1].Status != c.status {
				t.Fatalf("the sweep has left %+v, want that it runs, and then that it is %s", kept, c.status)
			}
			var result SweepResult
			if err := json.Unmarshal(kept[1].Result, &result); err != nil || result.Marks != c.marks {
				t.Errorf("its cells are %+v (%v), want the marks %s", result, err, c.marks)
			}
		})
	}
}
