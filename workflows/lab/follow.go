package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/workflows"
)

const (
	// followEvery is how often the progress of a run is looked up.
	followEvery = time.Second
	// answerLimit bounds the wait for a workflow's state.
	answerLimit = 10 * time.Second
)

// follow waits for a result and looks at the progress meanwhile. A cancelled
// context stops the following, never the workflow.
func follow[R any](ctx context.Context, get func(context.Context) (R, error), look func()) (R, error) {
	type outcome struct {
		result R
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		result, err := get(ctx)
		ended <- outcome{result, err}
	}()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-ended:
			if err := ctx.Err(); err != nil {
				return o.result, err
			}
			return o.result, o.err
		case <-ctx.Done():
			var none R
			return none, ctx.Err()
		case <-tick.C:
			look()
		}
	}
}

// RunView is a run's DAG with the progress of the stages that run.
type RunView struct {
	Run string `json:"run"` // workflow ID
	workflows.RunState
	Running map[string]workflows.Progress `json:"running"` // by stage
}

// ViewRun asks a run for its DAG, and the running stages for their progress. A
// worker has to be up to answer.
func (c *Client) ViewRun(ctx context.Context, id string) (RunView, error) {
	v := RunView{Run: id, Running: map[string]workflows.Progress{}}
	ctx, stop := context.WithTimeout(ctx, answerLimit)
	defer stop()
	if err := c.ask(ctx, "run", id, &v.RunState); err != nil {
		return v, err
	}
	for i, s := range v.Stages {
		if s.Status != workflows.StageRunning {
			continue
		}
		p, err := ReadProgress(ctx, c.Temporal, cmp.Or(s.WorkflowID, workflows.UnnamedStageID(s.Kind, s.Fingerprint)))
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			return v, unreachable("%w", err)
		}
		if p.Queued {
			v.Stages[i].Status = workflows.StageQueued
		}
		v.Running[s.Name] = p
	}
	return v, nil
}

// StoredRun says how a run stands by its record, its history and the store alone,
// which also answer where no worker is up. The error is what a run that has ended
// failed of.
func (c *Client) StoredRun(ctx context.Context, e Execution) (RunView, error) {
	v := RunView{Run: e.ID, Running: map[string]workflows.Progress{}}
	if kept, ended, err := c.keptEnd(ctx, e, &v.RunState); err != nil {
		return v, err
	} else if ended {
		return v, ending(kept)
	}
	var in workflows.RunInput
	if err := c.Input(ctx, e, &in); err != nil {
		return v, err
	}
	v.Experiment = in.Experiment
	var result workflows.RunResult
	var ending error
	if e.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING && !e.Kept {
		ending = RootCause(c.Temporal.GetWorkflow(ctx, e.ID, e.RunID).Get(ctx, &result))
	}
	for _, s := range in.Stages {
		state := workflows.StageState{Name: s.Name, Kind: s.Kind, Fingerprint: s.Fingerprint, Status: workflows.StageWaiting}
		if made, ok := result.Result(s.Name); ok {
			state.Status, state.Result = workflows.StageDone, made
			if made.Reused {
				state.Status = workflows.StageReused
			}
		} else if m, err := c.Store.Lookup(ctx, s.Fingerprint); err == nil {
			state.Status = workflows.StageReused
			state.Result = workflows.StageResult{Stage: s.Name, Fingerprint: s.Fingerprint, Digest: m.Digest, Reused: true}
		} else if ignoreAbsent(err) != nil {
			return v, unreachable("%w", err)
		}
		v.Stages = append(v.Stages, state)
	}
	return v, ending
}

// ask queries a run or a sweep for its state.
func (c *Client) ask(ctx context.Context, what, id string, state any) error {
	answer, err := c.Temporal.QueryWorkflow(ctx, id, "", workflows.QueryState)
	if err != nil {
		return unreachable("ask %s %s for its state (a worker has to be up to answer): %w", what, id, err)
	}
	if err := answer.Get(state); err != nil {
		return unreachable("state of %s %s: %w", what, id, err)
	}
	return nil
}

// FollowRun shows a run until it ends and returns its result, or what it failed
// of. A lost connection shows as no progress.
func (c *Client) FollowRun(ctx context.Context, e Execution, show func(RunView)) (workflows.RunResult, error) {
	look := func() {
		if v, err := c.ViewRun(ctx, e.ID); err == nil {
			show(v)
		}
	}
	result, err := follow(ctx, func(ctx context.Context) (result workflows.RunResult, err error) {
		err = c.Temporal.GetWorkflow(ctx, e.ID, e.RunID).Get(ctx, &result)
		return result, err
	}, look)
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	look()
	return result, RootCause(err)
}

// ReadProgress gives the progress that the running activity of a stage's
// workflow last reported; it is zero before the first report.
func ReadProgress(ctx context.Context, c client.Client, workflowID string) (workflows.Progress, error) {
	var p workflows.Progress
	d, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return p, fmt.Errorf("describe workflow %s: %w", workflowID, err)
	}
	// Before its first workflow task there is no activity yet that could be queued.
	p.Queued = len(d.GetPendingActivities()) == 0 && d.GetWorkflowExecutionInfo().GetHistoryLength() <= 3
	for _, pending := range d.GetPendingActivities() {
		if details := pending.GetHeartbeatDetails(); details != nil {
			if err := decode(details, &p); err != nil {
				return p, fmt.Errorf("heartbeat details of workflow %s: %w", workflowID, err)
			}
		}
		p.Attempt = int(pending.GetAttempt())
		p.Failure = pending.GetLastFailure().GetMessage()
		p.Queued = pending.GetState() == enums.PENDING_ACTIVITY_STATE_SCHEDULED
	}
	return p, nil
}

// FollowSweep shows a sweep until it ends and returns what it ended with, also
// where cells have failed and the error says so.
func (c *Client) FollowSweep(ctx context.Context, id string, show func(workflows.SweepState)) (workflows.SweepResult, error) {
	result, err := follow(ctx, func(ctx context.Context) (workflows.SweepResult, error) {
		return c.sweepResult(ctx, Execution{ID: id}) // the newest execution: a sweep that continues as new is followed on
	}, func() {
		if state, err := c.SweepState(ctx, id); err == nil {
			show(state)
		}
	})
	if result.Marks != "" {
		show(workflows.SweepState{Plan: result.Plan, Marks: result.Marks, Ends: result.Ends})
	}
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	return result, RootCause(err)
}

// sweepResult waits for a sweep's end and returns what it ended with, also where
// cells have failed and the error says so.
func (c *Client) sweepResult(ctx context.Context, e Execution) (result workflows.SweepResult, err error) {
	err = c.Temporal.GetWorkflow(ctx, e.ID, e.RunID).Get(ctx, &result)
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.Type() == workflows.ErrTypeCells && app.HasDetails() {
		err = errors.Join(err, app.Details(&result))
	}
	return result, err
}
