package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// PlanError says that a sweep's plan in the store is not the one that is asked
// for, or that this program cannot read it: reading it again mends nothing.
type PlanError struct{ Err error }

func (e *PlanError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong with the plan.
func (e *PlanError) Unwrap() error { return e.Err }

// ReadSweepPlan reads a sweep's plan from the store and checks that it is the
// one that is asked for.
func ReadSweepPlan(ctx context.Context, store *artifacts.Store, ref workflows.PlanRef) (experiments.SweepPlan, error) {
	data, err := store.GetRunFile(ctx, ref.Sweep, ref.File)
	if err != nil {
		return experiments.SweepPlan{}, fmt.Errorf("plan of %s: %w", ref.Sweep, err)
	}
	if err := artifacts.CheckBytes(ref.File, data, ref.SHA256); err != nil {
		return experiments.SweepPlan{}, &PlanError{fmt.Errorf("plan of %s: %w", ref.Sweep, err)}
	}
	plan, err := experiments.ReadSweepPlan(data)
	if err != nil {
		return plan, &PlanError{err}
	}
	return plan, nil
}

// WriteSweepPlan keeps a sweep's plan in the store and names it. A plan that is
// there already is the same plan.
func WriteSweepPlan(ctx context.Context, store *artifacts.Store, sweepID string, plan experiments.SweepPlan) (workflows.PlanRef, error) {
	data, err := plan.Marshal()
	if err != nil {
		return workflows.PlanRef{}, err
	}
	file := fmt.Sprintf("plan-%.12s.json", artifacts.DigestBytes(data))
	ref, err := store.PutRunFile(ctx, sweepID, file, data)
	if err != nil {
		return workflows.PlanRef{}, fmt.Errorf("store the plan of %s: %w", sweepID, err)
	}
	return workflows.PlanRef{Sweep: sweepID, File: file, SHA256: ref.SHA256, Bytes: ref.Bytes, Cells: len(plan.Cells)}, nil
}

// SweepState asks a sweep how it stands. A worker has to be up to answer.
func (c *Client) SweepState(ctx context.Context, id string) (workflows.SweepState, error) {
	var state workflows.SweepState
	ctx, stop := context.WithTimeout(ctx, answerLimit)
	defer stop()
	return state, c.ask(ctx, "sweep", id, &state)
}

// StoredSweep says how a sweep stands: by its record or its result where it has
// ended, by asking it where it runs, and, where no worker is up to answer, as it was
// started and with no marks.
func (c *Client) StoredSweep(ctx context.Context, e Execution) (workflows.SweepState, error) {
	var result workflows.SweepResult
	_, ended, err := c.keptEnd(ctx, e, &result)
	if err != nil {
		return workflows.SweepState{}, err
	}
	if !ended && !e.Kept {
		if e.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			// A sweep with failed cells has a result, too; a cancelled one has none.
			result, _ = c.sweepResult(ctx, e)
		}
		if result.Marks == "" {
			if state, err := c.SweepState(ctx, e.ID); err == nil {
				return state, nil
			}
		}
	}
	var in workflows.SweepInput
	if err := c.Input(ctx, e, &in); err != nil {
		return workflows.SweepState{}, err
	}
	state := workflows.SweepState{Name: in.Name, Plan: in.Plan, Parallel: in.Parallel, Priority: in.Priority, Executions: 1, Marks: result.Marks, Running: []workflows.RunningCell{}, Ends: result.Ends}
	if result.Marks != "" {
		state.Plan = result.Plan
	}
	return state, nil
}

// UpdateSweep sends a running sweep one of its updates (workflows.UpdatePause,
// …) and says how it stands afterwards.
func (c *Client) UpdateSweep(ctx context.Context, id, update string, args ...any) (workflows.SweepState, error) {
	var state workflows.SweepState
	handle, err := c.Temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: update, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &state)
	}
	return state, ended(id, err)
}

// CancelSweep cancels a sweep: its running cells save a checkpoint and stop.
func (c *Client) CancelSweep(ctx context.Context, id string) error {
	return ended(id, c.Temporal.CancelWorkflow(ctx, id, ""))
}

// ended explains a command to a sweep that has ended meanwhile.
func ended(id string, err error) error {
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return failed(fmt.Errorf("sweep %s has ended: esclab sweep FILE runs it again, what is done is reused", id))
	}
	return failed(RootCause(err))
}

// runningPlan reads the plan of a running sweep, with the cells that were added
// to it.
func (c *Client) runningPlan(ctx context.Context, id string) (experiments.SweepPlan, error) {
	state, err := c.SweepState(ctx, id)
	if err != nil {
		return experiments.SweepPlan{}, err
	}
	plan, err := ReadSweepPlan(ctx, c.Store, state.Plan)
	return plan, failed(err)
}

// CancelCell cancels a cell of a running sweep by its name or its run's.
func (c *Client) CancelCell(ctx context.Context, id, name string) (workflows.SweepState, error) {
	plan, err := c.runningPlan(ctx, id)
	if err != nil {
		return workflows.SweepState{}, err
	}
	cell, err := cellNamed(plan, name)
	if err != nil {
		return workflows.SweepState{}, err
	}
	return c.UpdateSweep(ctx, id, workflows.UpdateCancelCell, workflows.CancelCellInput{Cell: cell, Name: plan.Cells[cell].Name})
}

func cellNamed(plan experiments.SweepPlan, name string) (int, error) {
	var like []string
	for i, c := range plan.Cells {
		if name == c.Name || name == experiments.CellExperiment(plan.Name, c.Name) {
			return i, nil
		}
		if strings.Contains(c.Name, name) && len(like) < 5 {
			like = append(like, c.Name)
		}
	}
	if len(like) > 0 {
		return 0, fmt.Errorf("sweep %s has no cell %q; it has %s", plan.Name, name, strings.Join(like, ", "))
	}
	return 0, fmt.Errorf("sweep %s has no cell %q: esclab sweep status %s --cells lists them", plan.Name, name, plan.Name)
}

// AddCells extends a running sweep by the cells that another plan of it has
// besides, and says how many they are; where there are none it changes nothing.
func (c *Client) AddCells(ctx context.Context, id string, more experiments.SweepPlan) (int, workflows.SweepState, error) {
	var state workflows.SweepState
	plan, err := c.runningPlan(ctx, id)
	if err != nil {
		return 0, state, err
	}
	added, err := plan.Extend(more)
	if err != nil || added == 0 {
		return 0, state, err
	}
	ref, err := WriteSweepPlan(ctx, c.Store, id, plan)
	if err != nil {
		return 0, state, unreachable("%w", err)
	}
	state, err = c.UpdateSweep(ctx, id, workflows.UpdateAddCells, ref)
	return added, state, err
}
