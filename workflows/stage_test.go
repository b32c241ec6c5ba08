package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/experiments"
)

func activityOptions(name string) activity.RegisterOptions {
	return activity.RegisterOptions{Name: name}
}

// stageStart is when stageEnv's workflows begin.
var stageStart = time.Unix(1_700_000_000, 0)

// stageEnv executes Stage over an activity's behaviour.
func stageEnv(t *testing.T, work func() (StageResult, error)) (*testsuite.TestWorkflowEnvironment, *int) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(stageStart)
	none := func(context.Context, StageInput) (StageResult, error) {
		return StageResult{}, errors.New("not reached")
	}
	env.RegisterActivityWithOptions(none, activityOptions(experiments.KindSFT.Activity()))
	calls := 0
	env.OnActivity(experiments.KindSFT.Activity(), mock.Anything, mock.Anything).Return(
		func(context.Context, StageInput) (StageResult, error) { calls++; return work() })
	env.ExecuteWorkflow(Stage, StageInput{
		Stage:            experiments.Stage{Name: "sft/sp", Kind: experiments.KindSFT, Fingerprint: "fp"},
		HeartbeatSeconds: 10,
	})
	return env, &calls
}

func TestStageRetriesUntilItIsDone(t *testing.T) {
	n := 0
	env, calls := stageEnv(t, func() (StageResult, error) {
		if n++; n < 4 {
			return StageResult{}, errors.New("the worker is stopping")
		}
		return StageResult{Digest: "made", Reason: "not in the store"}, nil
	})
	var r StageResult
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&r)); err != nil {
		t.Fatal(err)
	}
	if *calls != 4 || r.Digest != "made" || r.Reason != "not in the store" {
		t.Errorf("%d calls, result %+v", *calls, r)
	}
}

// A stage whose workers are killed over and over is not made to wait for ever
// longer.
func TestStageIsSoonTriedAgain(t *testing.T) {
	const kills = 9 // the environment tries ten times
	n := 0
	env, calls := stageEnv(t, func() (StageResult, error) {
		if n++; n <= kills {
			return StageResult{}, errors.New("the worker is stopping")
		}
		return StageResult{Digest: "made"}, nil
	})
	if err := env.GetWorkflowError(); err != nil || *calls != kills+1 {
		t.Fatalf("%d calls, error %v", *calls, err)
	}
	if took := env.Now().Sub(stageStart); took > kills*retryPause || took < kills*retryPause/3 {
		t.Errorf("%d kills cost %s of pauses", kills, took)
	}
}

func TestStageDoesNotRetryWhatNothingMends(t *testing.T) {
	for _, kind := range NonRetryable() {
		env, calls := stageEnv(t, func() (StageResult, error) {
			return StageResult{}, temporal.NewApplicationError("hopeless", kind)
		})
		if env.GetWorkflowError() == nil || *calls != 1 {
			t.Errorf("%s: %d calls, error %v", kind, *calls, env.GetWorkflowError())
		}
	}
}
