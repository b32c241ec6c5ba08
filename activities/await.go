package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/workflows"
)

const (
	// awaitBeat is the most time between two heartbeats of an activity that waits.
	awaitBeat = 20 * time.Second
	// cancelGrace is how long a cancelled run waits for its stage to save a
	// checkpoint and let go of the device.
	cancelGrace = 2 * time.Minute
)

// beats gives the times at which an activity that waits sends heartbeats.
func beats(ctx context.Context) *time.Ticker {
	return time.NewTicker(max(time.Second, min(awaitBeat, activity.GetInfo(ctx).HeartbeatTimeout/3)))
}

// AwaitStage has one stage run by its own workflow and returns its result, for runs
// that an older build has started: those of this one have stages as children.
// Whoever comes second joins the workflow that is running. An artifact that
// is whole in the store needs no workflow at all.
func (a *Activities) AwaitStage(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	found, err := a.Lookup(ctx, in)
	if err != nil {
		return workflows.StageResult{}, err
	}
	if found.Found {
		return found.Result, nil
	}
	for {
		result, err := a.awaitOnce(ctx, in)
		var cancelled *temporal.CanceledError
		if errors.As(err, &cancelled) && ctx.Err() == nil {
			// The run that started the stage was cancelled; this one still
			// wants it, and it goes on from its last checkpoint.
			continue
		}
		return result, err
	}
}

// awaitOnce starts or joins the stage's workflow and follows it to its end.
func (a *Activities) awaitOnce(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	run, err := a.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		VersioningOverride: a.override(),

		ID:        workflows.UnnamedStageID(in.Stage.Kind, in.Stage.Fingerprint),
		TaskQueue: in.Queues.Control,
		// A closed workflow says nothing about the store's state today, so
		// another may always start: its first act is a look into the store.
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            in.Stage.Summary(),
		TypedSearchAttributes:    in.SearchAttributes(),
		Priority:                 activity.GetInfo(ctx).Priority,
	}, workflows.StageName, in)
	if err != nil {
		return workflows.StageResult{}, fmt.Errorf("start the workflow of stage %s: %w", in.Stage.Name, err)
	}

	type outcome struct {
		result workflows.StageResult
		err    error
	}
	ended := make(chan outcome, 1)
	getCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		var o outcome
		o.err = run.Get(getCtx, &o.result)
		ended <- o
	}()

	poll := beats(ctx)
	defer poll.Stop()
	for {
		select {
		case o := <-ended:
			return o.result, unwrapWorkflow(o.err)
		case <-activity.GetWorkerStopChannel(ctx):
			return workflows.StageResult{}, errWorkerStopping
		case <-ctx.Done():
			return workflows.StageResult{}, a.abandon(ctx, run, func() {
				grace := time.After(cancelGrace)
				for {
					select {
					case <-ended: // whatever it ended with, this run is cancelled
						return
					case <-grace:
						return
					case <-poll.C:
						activity.RecordHeartbeat(ctx, workflows.Progress{Phase: "cancel"})
					}
				}
			})
		case <-poll.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// override starts a stage on the build of the run that needs it, also where new
// runs start on another one by now; nil without versioning.
func (a *Activities) override() client.VersioningOverride {
	if a.Version.BuildID == "" {
		return nil
	}
	return &client.PinnedVersioningOverride{Version: a.Version}
}

// abandon handles the end of the awaiting activity's context: a cancelled run
// takes its stage along, a stopping worker or a lost attempt does not.
func (a *Activities) abandon(ctx context.Context, run client.WorkflowRun, wait func()) error {
	if !errors.Is(context.Cause(ctx), context.Canceled) && !temporal.IsCanceledError(context.Cause(ctx)) {
		return context.Cause(ctx)
	}
	cancelCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	if err := a.Client.CancelWorkflow(cancelCtx, run.GetID(), run.GetRunID()); err != nil {
		a.Log.Warn().Err(err).Str("workflow", run.GetID()).Msg("cannot cancel the stage's workflow")
	} else {
		wait()
	}
	return ctx.Err()
}

// unwrapWorkflow turns the error of a stage's workflow into one of this
// activity, keeping its type, message and whether it may be tried again.
func unwrapWorkflow(err error) error {
	if err == nil {
		return nil
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		// The stage's own workflow has already retried what can be retried.
		return temporal.NewNonRetryableApplicationError(app.Message(), app.Type(), nil)
	}
	return err
}
