package workflows

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// night executes Nightly over a run with the given outcome and returns what
// the record and the notice were made of.
func night(t *testing.T, in NightInput, run func() (RunResult, error), told error) (*testsuite.TestWorkflowEnvironment, *RecordInput, *NotifyInput) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	register := func(name string, f any) { env.RegisterActivityWithOptions(f, activityOptions(name)) }
	register(nameOf(Activities.PlanNight), func(context.Context, Night) (NightPlan, error) { return NightPlan{}, nil })
	register(nameOf(Activities.RecordNight), func(context.Context, RecordInput) (NightResult, error) { return NightResult{}, nil })
	register(nameOf(Activities.NotifyNight), func(context.Context, NotifyInput) (string, error) { return "", nil })
	env.RegisterWorkflowWithOptions(func(workflow.Context, RunInput) (RunResult, error) { return run() }, workflow.RegisterOptions{Name: RunName})

	recorded, notified := &RecordInput{}, &NotifyInput{}
	env.OnActivity(nameOf(Activities.PlanNight), mock.Anything, mock.Anything).Return(NightPlan{
		Run: RunInput{Experiment: "demo", Stages: []experiments.Stage{{Name: "report", Fingerprint: "fp-report"}}}, RunID: "run/demo/fp-report", Revision: "v1",
	}, nil)
	env.OnActivity(nameOf(Activities.RecordNight), mock.Anything, mock.Anything).Return(func(_ context.Context, r RecordInput) (NightResult, error) {
		*recorded = r
		if r.Error != "" {
			return NightResult{Verdict: "failed", Headline: r.Error}, nil
		}
		return NightResult{Verdict: "regression", Headline: "rouge_l is lower"}, nil
	})
	env.OnActivity(nameOf(Activities.NotifyNight), mock.Anything, mock.Anything).Return(func(_ context.Context, n NotifyInput) (string, error) {
		*notified = n
		return "https://hooks.example.org", told
	})
	env.ExecuteWorkflow(Nightly, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow has not completed")
	}
	return env, recorded, notified
}

var nightly = NightInput{Schedule: "nightly", HeartbeatSeconds: 10, Notify: NightNotify{Webhook: "https://hooks.example.org/x"}}

// A regression is a verdict, and no failure: the schedule goes on.
func TestNightlyRecordsAndTells(t *testing.T) {
	env, recorded, notified := night(t, nightly, func() (RunResult, error) {
		return RunResult{Stages: []StageResult{{Stage: "report", Seconds: 2}}}, nil
	}, nil)
	var result NightResult
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&result)); err != nil {
		t.Fatal(err)
	}
	if result.Verdict != "regression" || result.Notified != "https://hooks.example.org" {
		t.Errorf("the night ends with %+v, want a regression that the webhook was told", result)
	}
	if len(recorded.Result.Stages) != 1 || recorded.Report != "fp-report" || recorded.Plan.Revision != "v1" || recorded.Plan.Run.Stages != nil {
		t.Errorf("recorded %+v", recorded)
	}
	if notified.Result.Verdict != "regression" {
		t.Errorf("told %+v", notified)
	}
}

// A night whose run fails is recorded and told, and then fails, so that the
// schedule can be paused by it.
func TestNightlyFailsWithItsRun(t *testing.T) {
	env, recorded, notified := night(t, nightly, func() (RunResult, error) {
		return RunResult{}, temporal.NewNonRetryableApplicationError("sft/sp: loss NaN", "StageFailed", nil)
	}, nil)
	if err := env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "loss NaN") {
		t.Errorf("the night ended with %v", err)
	}
	if recorded.Error != "sft/sp: loss NaN" || notified.Result.Verdict != "failed" {
		t.Errorf("recorded %q, told %q", recorded.Error, notified.Result.Verdict)
	}
}

// That nobody could be told takes nothing from the night.
func TestNightlyThatCannotTell(t *testing.T) {
	env, _, _ := night(t, nightly, func() (RunResult, error) { return RunResult{}, nil },
		temporal.NewNonRetryableApplicationError("webhook: https://hooks.example.org answers 404 Not Found", ErrTypeBadInput, nil))
	var result NightResult
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&result)); err != nil {
		t.Fatal(err)
	}
	if result.Verdict != "regression" || !strings.HasPrefix(result.Notified, "nobody could be told: webhook: https://hooks.example.org answers 404") {
		t.Errorf("the night ends with %+v, want a regression, and that nobody could be told", result)
	}
}
