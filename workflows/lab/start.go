package lab

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// started is what a workflow of the lab is started with.
type started interface {
	SearchAttributes() temporal.SearchAttributes
	Details() string // Markdown that its page shows also where no worker is up
}

// start starts a workflow, or joins the one of the same ID that is under way.
func (c *Client) start(ctx context.Context, workflow, id, summary string, in started) (Execution, error) {
	run, err := c.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                                       id,
		TaskQueue:                                c.Queues.Control,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            summary,
		StaticDetails:                            in.Details(),
		TypedSearchAttributes:                    in.SearchAttributes(),
		Memo:                                     c.Origin.Memo(),
	}, workflow, in)
	var there *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &there) {
		return Execution{ID: id, RunID: there.RunId, Joined: true}, nil
	}
	if err != nil {
		return Execution{}, err
	}
	return Execution{ID: run.GetID(), RunID: run.GetRunID()}, nil
}

// StartRun starts a run, or joins the one that is under way.
func (c *Client) StartRun(ctx context.Context, p experiments.Prepared) (Execution, error) {
	in := workflows.NewRunInput(p, c.Queues, c.HeartbeatSeconds, c.facts(), c.Origin)
	run, err := c.start(ctx, workflows.RunName, in.WorkflowID(), in.Summary(), in)
	if err != nil {
		return run, unreachable("start run %s: %w", in.WorkflowID(), err)
	}
	return run, nil
}

// stopEverySeconds is how often hopeless cells are looked for.
const stopEverySeconds = 15

// StartSweep keeps the plan in the store and starts the sweep's workflow, or
// joins the one that is under way.
func (c *Client) StartSweep(ctx context.Context, p experiments.PreparedSweep) (Execution, error) {
	id := workflows.SweepWorkflowID(p.Plan)
	ref, err := WriteSweepPlan(ctx, c.Store, id, p.Plan)
	if err != nil {
		return Execution{}, unreachable("%w", err)
	}
	facts := c.facts()
	facts.Experiment, facts.Backbone = p.Sweep.Base.Name, p.Sweep.Base.Backbone.Name
	in := workflows.SweepInput{
		Name: p.Sweep.Name, Plan: ref, Parallel: p.Sweep.Parallel, Priority: p.Sweep.Priority,
		Queues: c.Queues, HeartbeatSeconds: c.HeartbeatSeconds, Facts: facts, Origin: c.Origin,
	}
	if p.Sweep.EarlyStopping.On() {
		in.StopEverySeconds = stopEverySeconds
	}
	summary := fmt.Sprintf("%s: %d cells over %s", p.Sweep.Name, len(p.Plan.Cells), strings.Join(p.Plan.ShortNames(), ", "))
	run, err := c.start(ctx, workflows.SweepName, id, summary, in)
	if err != nil {
		return run, unreachable("start sweep %s: %w", id, err)
	}
	return run, nil
}

// ShowComparison gives a comparison a page in the web UI: a small workflow whose
// details are the table. The same comparison has one page, however often it is
// made. A worker has to be up.
func (c *Client) ShowComparison(ctx context.Context, in workflows.CompareInput) (Execution, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return Execution{}, err
	}
	run, err := c.start(ctx, workflows.CompareName, fmt.Sprintf("compare/%.12x", sha256.Sum256(raw)), in.Summary(), in)
	if err != nil {
		return Execution{}, fmt.Errorf("start the workflow of the comparison: %w", err)
	}
	if err := c.Temporal.GetWorkflow(ctx, run.ID, run.RunID).Get(ctx, nil); err != nil {
		return Execution{}, fmt.Errorf("the workflow of the comparison: %w", err)
	}
	return run, nil
}
