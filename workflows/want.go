package workflows

import (
	"errors"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

const (
	// A stage that was terminated, or that an older build runs, tells nobody of its
	// end: a run that waits for it looks after it again, ever more seldom.
	lookAgain     = time.Minute
	lookAgainMost = 30 * time.Minute
	// cancelGrace is how long a cancelled run waits for its stage to save a
	// checkpoint and let go of the device.
	cancelGrace = 2 * time.Minute
)

// want has a stage run as a child where it does not run yet, and waits for it where
// it does. However a run ends, a stage goes on while another run wants it.
func (r *run) want(ctx workflow.Context, in StageInput) (StageResult, error) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	child := workflow.WithChildOptions(detached, workflow.ChildWorkflowOptions{
		WorkflowID:        r.stageID(in.Stage.Name),
		TaskQueue:         in.Queues.Control,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		// A closed workflow says nothing about the store's state today, so another
		// may always start.
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         in.Stage.Summary(),
		StaticDetails:         r.stageDetails(self(ctx), in),
		TypedSearchAttributes: in.SearchAttributes(),
		Priority:              workflow.GetInfo(ctx).Priority,
	})
	for try, pause := 0, lookAgain; ; try, pause = try+1, min(2*pause, lookAgainMost) {
		if try > 1 { // a stage that has just ended is there for a moment more
			_ = workflow.Sleep(ctx, time.Second)
		}
		if ctx.Err() != nil {
			return StageResult{}, ctx.Err()
		}
		started := workflow.ExecuteChildWorkflow(child, StageName, in)
		var execution workflow.Execution
		err := started.GetChildWorkflowExecution().Get(detached, &execution)
		var taken *temporal.ChildWorkflowExecutionAlreadyStartedError
		var end *stageEnd
		switch {
		case errors.As(err, &taken):
			end, err = r.join(ctx, in, pause)
		case err == nil:
			end, err = r.follow(ctx, in, execution, started)
		}
		switch {
		case err != nil:
			return StageResult{}, err
		case end == nil || end.Cancelled && ctx.Err() == nil:
			// It is over by now, or somebody has cancelled it, and this run wants it:
			// it goes on from its last checkpoint.
		case end.Failure != "":
			return StageResult{}, temporal.NewNonRetryableApplicationError(end.Failure, ErrTypeStageFailed, nil)
		case end.Result != nil:
			return *end.Result, nil
		}
	}
}

// follow waits for a stage that is the run's child.
func (r *run) follow(ctx workflow.Context, in StageInput, execution workflow.Execution, child workflow.Future) (*stageEnd, error) {
	if err := workflow.Await(ctx, child.IsReady); err != nil {
		if err := r.leave(ctx, in, execution.RunID, child.IsReady); err != nil {
			return nil, err
		}
		return nil, ctx.Err()
	}
	var result StageResult
	err := child.Get(ctx, &result)
	if temporal.IsCanceledError(err) {
		return &stageEnd{Cancelled: true}, nil
	}
	return &stageEnd{Result: &result}, err
}

// join waits for a stage that runs for somebody else, for so long at most; nil: how
// it has ended is not known.
func (r *run) join(ctx workflow.Context, in StageInput, limit time.Duration) (*stageEnd, error) {
	fingerprint := in.Stage.Fingerprint
	heard := len(r.ends[fingerprint])
	told := func() bool { return len(r.ends[fingerprint]) > heard }
	if workflow.SignalExternalWorkflow(ctx, r.stageID(in.Stage.Name), "", signalWant, self(ctx)).Get(ctx, nil) != nil {
		return nil, nil // it has just ended
	}
	r.joins(ctx, in.Stage.Name)
	if _, err := workflow.AwaitWithTimeout(ctx, limit, told); err != nil {
		if err := r.leave(ctx, in, "", told); err != nil {
			return nil, err
		}
		return nil, ctx.Err()
	}
	if !told() {
		return nil, nil
	}
	return r.ends[fingerprint][heard], nil
}

// leave tells a stage that a cancelled run wants it no longer, and waits until it
// has let go: it has saved its checkpoint, or goes on for another run.
func (r *run) leave(ctx workflow.Context, in StageInput, runID string, ended func() bool) error {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	fingerprint := in.Stage.Fingerprint
	heard := len(r.ends[fingerprint])
	if workflow.SignalExternalWorkflow(detached, r.stageID(in.Stage.Name), runID, signalLeave, self(ctx)).Get(detached, nil) != nil {
		return nil // it has just ended
	}
	_, err := workflow.AwaitWithTimeout(detached, cancelGrace, func() bool { return ended() || len(r.ends[fingerprint]) > heard })
	return err
}

// self is the run as its stages know it.
func self(ctx workflow.Context) wanter {
	e := workflow.GetInfo(ctx).WorkflowExecution
	return wanter{WorkflowID: e.ID, RunID: e.RunID}
}

// hear takes in what stages, or runs, tell of their ends.
func hear(ctx workflow.Context, ends map[string][]*stageEnd) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	workflow.Go(detached, func(ctx workflow.Context) {
		for {
			var end stageEnd
			workflow.GetSignalChannel(ctx, signalEnded).Receive(ctx, &end)
			ends[end.Fingerprint] = append(ends[end.Fingerprint], &end)
		}
	})
}
