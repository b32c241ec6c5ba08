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
//
// The run that started it has looked into the store, and an attempt looks again
// where somebody else held the stage before; the stage itself asks nobody.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	if workflow.GetVersion(ctx, versionWanted, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return stageLookedUp(ctx, in)
	}
	working, wanted := listen(ctx, in)
	result, err := compute(working, in, "", wanted.until)
	wanted.ended(ctx, result, err)
	return result, err
}

// versionWanted is the change by which stages became children of runs. Since its
// version versionNamed, their workflow IDs have their names.
const (
	versionWanted = "wanted"
	versionNamed  = 2
)

// stageLookedUp is a stage as older builds started it.
func stageLookedUp(ctx workflow.Context, in StageInput) (StageResult, error) {
	found, err := lookup(ctx, in)
	if err != nil {
		return StageResult{}, err
	}
	if found.Found {
		workflow.SetCurrentDetails(ctx, resultDetails(in.Stage.Name, found.Result))
		return found.Result, record(ctx, in.Facts, in.Stage.Kind, found.Result)
	}
	return compute(ctx, in, found.Reason, func(workflow.Context, workflow.Future) {})
}

// compute has the kind's activity make the artifact; reason says why, where that
// is known, and until waits for it.
func compute(ctx workflow.Context, in StageInput, reason string, until func(workflow.Context, workflow.Future)) (StageResult, error) {
	activity, err := activityFor(in.Stage.Kind)
	if err != nil {
		return StageResult{}, temporal.NewNonRetryableApplicationError(err.Error(), ErrTypeBadInput, err)
	}
	workflow.SetCurrentDetails(ctx, runningDetails(in, reason))
	var result StageResult
	computed := workflow.ExecuteActivity(computeOptions(ctx, in), activity, in)
	until(ctx, computed)
	err = computed.Get(ctx, &result)
	if err != nil && ctx.Err() != nil {
		// Cancelled, whatever the activity said on its way out: another run
		// that waits for this stage starts it again.
		workflow.SetCurrentDetails(ctx, cancelledDetails(in))
		return StageResult{}, ctx.Err()
	}
	if err != nil {
		workflow.SetCurrentDetails(ctx, failedDetails(in, err))
		return StageResult{}, err
	}
	if reason != "" {
		result.Reason = reason
	}
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
