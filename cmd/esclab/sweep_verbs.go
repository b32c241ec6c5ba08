package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// sweepVerbs are the commands that look at a sweep or change it.
func (a *app) sweepVerbs() []*cobra.Command {
	var now bool
	pause := a.sweepVerb("pause SWEEP", "Start no more cells; those that run go on", cobra.ExactArgs(1),
		"  esclab sweep pause demo-sweep\n  esclab sweep pause demo-sweep --now    also stop the running cells, at a checkpoint",
		func(ctx context.Context, se *session, id string, _ []string) error {
			return se.updateSweep(ctx, id, workflows.UpdatePause, workflows.PauseInput{Now: now})
		})
	pause.Flags().BoolVar(&now, "now", false, "also stop the cells that run; they save checkpoints and go on there after resume")
	return []*cobra.Command{
		a.sweepStatusCommand(), a.sweepListCommand(), a.sweepTableCommand(), pause,
		a.sweepVerb("resume SWEEP", "Go on with a paused sweep", cobra.ExactArgs(1), "  esclab sweep resume demo-sweep",
			func(ctx context.Context, se *session, id string, _ []string) error {
				return se.updateSweep(ctx, id, workflows.UpdateResume)
			}),
		a.sweepVerb("parallel SWEEP N", "Change how many cells run at the same time", cobra.ExactArgs(2),
			"  esclab sweep parallel demo-sweep 4     fewer than run now: those go on, no new ones begin",
			func(ctx context.Context, se *session, id string, rest []string) error {
				n, err := strconv.Atoi(rest[0])
				if err != nil || n < 1 || n > 1000 {
					return fmt.Errorf("parallel %q: a whole number between 1 and 1000", rest[0])
				}
				return se.updateSweep(ctx, id, workflows.UpdateParallel, n)
			}),
		a.sweepVerb("cancel-cell SWEEP CELL…", "Cancel single cells; the others go on", cobra.MinimumNArgs(2),
			"  esclab sweep cancel-cell demo-sweep loss-kto_beta-0.4_learning-rate-0.0005",
			func(ctx context.Context, se *session, id string, rest []string) error {
				return se.cancelCells(ctx, id, rest)
			}),
		a.sweepVerb("retry-failed SWEEP", "Try failed and cancelled cells of a running sweep again", cobra.ExactArgs(1),
			"  esclab sweep retry-failed demo-sweep   of one that has ended, esclab sweep FILE does it",
			func(ctx context.Context, se *session, id string, _ []string) error {
				return se.updateSweep(ctx, id, workflows.UpdateRetryFailed)
			}),
		a.addCellsCommand(),
		a.sweepVerb("cancel SWEEP", "Cancel a sweep: its running cells save a checkpoint and stop", cobra.ExactArgs(1),
			"  esclab sweep cancel demo-sweep",
			func(ctx context.Context, se *session, id string, _ []string) error {
				if err := se.node.Client.CancelWorkflow(ctx, id, ""); err != nil {
					return failed(endedSweep(id, err))
				}
				fmt.Fprintf(os.Stderr, "sweep %s is being cancelled; what is done stays in the store\n", id)
				return nil
			}),
	}
}

// sweepVerb is a command about the running sweep that its first argument names.
func (a *app) sweepVerb(use, short string, args cobra.PositionalArgs, example string, do func(ctx context.Context, se *session, id string, rest []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args, Example: example,
		RunE: func(c *cobra.Command, args []string) error {
			se, err := a.open(c.Context(), false)
			if err != nil {
				return err
			}
			defer se.close()
			id, err := se.findSweep(c.Context(), args[0], true)
			if err != nil {
				return err
			}
			return do(c.Context(), se, id, args[1:])
		},
	}
}

func (a *app) addCellsCommand() *cobra.Command {
	var set []string
	c := a.sweepVerb("add-cells SWEEP FILE", "Add the cells of a sweep's changed file to the running sweep", cobra.ExactArgs(2),
		"  esclab sweep add-cells demo-sweep demo-sweep.yaml    after adding values to its grid:",
		func(ctx context.Context, se *session, id string, rest []string) error {
			return se.addCells(ctx, id, rest[0], set)
		})
	c.Long = `Add cells to a running sweep: change the sweep's file (more values, more cells:,
more seeds:) and name it here. Cells that the sweep has already stay as they
are, also where the file no longer has them. Name and base: have to be the same.`
	c.Flags().StringArrayVar(&set, "set", nil, "as for esclab sweep FILE")
	return c
}

// sweeps lists sweeps, the newest first; with running, those that have not ended.
func (se *session) sweeps(ctx context.Context, running bool) ([]*workflow.WorkflowExecutionInfo, error) {
	query := fmt.Sprintf("WorkflowType = '%s'", workflows.SweepName)
	if running {
		query += " AND ExecutionStatus = 'Running'"
	} else {
		query += " AND ExecutionStatus != 'ContinuedAsNew'"
	}
	list, err := se.node.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1000})
	if err != nil {
		return nil, unreachable(fmt.Errorf("list sweeps: %w", err))
	}
	return list.GetExecutions(), nil
}

// findSweep gives the workflow ID of a sweep by its ID or name; "" means the
// newest of all.
func (se *session) findSweep(ctx context.Context, name string, running bool) (string, error) {
	all, err := se.sweeps(ctx, running)
	if err != nil {
		return "", err
	}
	for _, w := range all {
		id := w.GetExecution().GetWorkflowId()
		if name == "" || id == name || sweepName(id) == name {
			return id, nil
		}
	}
	switch {
	case running:
		return "", fmt.Errorf("no sweep %q is under way: esclab sweep list lists the sweeps", name)
	case name == "":
		return "", errors.New("there is no sweep yet: start one with esclab sweep FILE")
	}
	return "", fmt.Errorf("there is no sweep %q: esclab sweep list lists them", name)
}

// updateSweep sends a command and says how the sweep stands afterwards.
func (se *session) updateSweep(ctx context.Context, id, name string, args ...any) error {
	handle, err := se.node.Client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	var state workflows.SweepState
	if err == nil {
		err = handle.Get(ctx, &state)
	}
	if err != nil {
		return failed(endedSweep(id, err))
	}
	paused := ""
	if state.Paused {
		paused = ", paused"
	}
	fmt.Fprintf(os.Stderr, "sweep %s: %s, %d at a time%s\n", id, state.Marks.Summary(), state.Parallel, paused)
	return nil
}

// endedSweep explains a command to a sweep that has ended meanwhile.
func endedSweep(id string, err error) error {
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return fmt.Errorf("sweep %s has ended: esclab sweep FILE runs it again, what is done is reused", id)
	}
	return rootCause(err)
}

// cancelCells cancels cells by their names.
func (se *session) cancelCells(ctx context.Context, id string, names []string) error {
	state, err := se.sweepState(ctx, id)
	if err != nil {
		return unreachable(err)
	}
	plan, err := activities.ReadSweepPlan(ctx, se.node.Store, state.Plan)
	if err != nil {
		return failed(err)
	}
	for _, name := range names {
		cell, err := cellByName(plan, name)
		if err != nil {
			return err
		}
		in := workflows.CancelCellInput{Cell: cell, Name: plan.Cells[cell].Name}
		if err := se.updateSweep(ctx, id, workflows.UpdateCancelCell, in); err != nil {
			return err
		}
	}
	return nil
}

// cellByName finds a cell by its name or its run's.
func cellByName(plan experiments.SweepPlan, name string) (int, error) {
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

// addCells extends a running sweep's plan by the cells that a file has besides.
func (se *session) addCells(ctx context.Context, id, file string, set []string) error {
	more, missing, err := se.app.planSweep(ctx, file, set)
	if err = errors.Join(err, missing); err != nil {
		return err
	}
	state, err := se.sweepState(ctx, id)
	if err != nil {
		return unreachable(err)
	}
	plan, err := activities.ReadSweepPlan(ctx, se.node.Store, state.Plan)
	if err != nil {
		return failed(err)
	}
	added, err := plan.Extend(more.plan)
	if err != nil {
		return err
	}
	if added == 0 {
		return fmt.Errorf("%s has no cell that sweep %s lacks", file, id)
	}
	ref, err := activities.WriteSweepPlan(ctx, se.node.Store, id, plan)
	if err != nil {
		return unreachable(err)
	}
	fmt.Fprintf(os.Stderr, "%d cells added\n", added)
	return se.updateSweep(ctx, id, workflows.UpdateAddCells, ref)
}
