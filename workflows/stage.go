package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// Limits of a stage. Preemption uses up attempts, so their number is not
// bounded; the total time is.
const (
	stageAttempt = 48 * time.Hour     // one attempt of a stage
	stageTotal   = 7 * 24 * time.Hour // all attempts together
	lookupLimit  = time.Hour          // reading and verifying an artifact
	// retryPause is the longest pause between two attempts. A kill counts as an
	// attempt, too: on machines that are often preempted a longer one would
	// soon follow every kill.
	retryPause = 15 * time.Second
)

// Stage runs one stage of the DAG: what is in the store is reused, anything
// else is computed by the kind's activity. Its workflow ID is the stage's
// fingerprint, so there is one at a time however many runs wait for it.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	found, err := lookup(ctx, in)
	if err != nil {
		return StageResult{}, err
	}
	if found.Found {
		workflow.SetCurrentDetails(ctx, resultDetails(in.Stage.Name, found.Result))
		return found.Result, record(ctx, in.Facts, in.Stage.Kind, found.Result)
	}

	activity, err := activityFor(in.Stage.Kind)
	if err != nil {
		return StageResult{}, temporal.NewNonRetryableApplicationError(err.Error(), ErrTypeBadInput, err)
	}
	workflow.SetCurrentDetails(ctx, runningDetails(in, found.Reason))
	var result StageResult
	err = workflow.ExecuteActivity(computeOptions(ctx, in), activity, in).Get(ctx, &result)
	if err != nil && ctx.Err() != nil {
		// Cancelled, whatever the activity said on its way out: another run
		// that waits for this stage starts it again.
		return StageResult{}, ctx.Err()
	}
	if err != nil {
		workflow.SetCurrentDetails(ctx, failedDetails(in, err))
		return StageResult{}, err
	}
	result.Reason = found.Reason
	workflow.SetCurrentDetails(ctx, resultDetails(in.Stage.Name, result))
	return result, record(ctx, in.Facts, in.Stage.Kind, result)
}

// lookup asks the store for the stage's artifact.
func lookup(ctx workflow.Context, in StageInput) (LookupResult, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           in.Queues.Control,
		StartToCloseTimeout: lookupLimit,
		HeartbeatTimeout:    time.Duration(in.HeartbeatSeconds) * time.Second,
		Summary:             in.Stage.Name + ": in the store?",
	})
	var found LookupResult
	err := workflow.ExecuteActivity(ctx, nameOf(Activities.Lookup), in).Get(ctx, &found)
	return found, err
}

// computeOptions are the options of the activity that computes a stage. It
// waits for its cancellation, so that the device is free and the checkpoint
// is saved before anything else starts.
func computeOptions(ctx workflow.Context, in StageInput) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              in.Queues.Queue(in.Stage.Queue),
		StartToCloseTimeout:    stageAttempt,
		ScheduleToCloseTimeout: stageTotal,
		HeartbeatTimeout:       time.Duration(in.HeartbeatSeconds) * time.Second,
		WaitForCancellation:    true,
		Summary:                in.Stage.Summary(),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:        time.Second,
			BackoffCoefficient:     2,
			MaximumInterval:        retryPause,
			NonRetryableErrorTypes: NonRetryable(),
		},
	})
}

// stageInput builds the input of one stage of a run.
func stageInput(run RunInput, s experiments.Stage, fingerprints map[string]string) StageInput {
	inputs := make(map[string]string, len(s.Inputs))
	//workflowcheck:ignore
	for name, stage := range s.Inputs {
		inputs[name] = fingerprints[stage]
	}
	return StageInput{
		Stage:            s,
		Inputs:           inputs,
		Queues:           run.Queues,
		Checkpoint:       run.Checkpoint,
		Memory:           run.Memory,
		Judge:            run.Judge,
		HeartbeatSeconds: run.HeartbeatSeconds,
		Facts:            run.Facts,
	}
}
