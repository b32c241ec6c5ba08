package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// sweepVerbs are the commands that look at a sweep or change it.
func (a *app) sweepVerbs() []*cobra.Command {
	var now bool
	pause := a.sweepVerb("pause SWEEP", "Start no more cells; those that run go on", cobra.ExactArgs(1),
		"  esclab sweep pause demo-sweep\n  esclab sweep pause demo-sweep --now    also stop the running cells, at a checkpoint",
		func(ctx context.Context, se *session, id string, _ []string) error {
			return said(id)(se.lab.UpdateSweep(ctx, id, workflows.UpdatePause, workflows.PauseInput{Now: now}))
		})
	pause.Flags().BoolVar(&now, "now", false, "also stop the cells that run; they save checkpoints and go on there after resume")
	return []*cobra.Command{
		a.sweepStatusCommand(), a.sweepListCommand(), a.sweepTableCommand(), pause,
		a.sweepVerb("resume SWEEP", "Go on with a paused sweep", cobra.ExactArgs(1), "  esclab sweep resume demo-sweep",
			func(ctx context.Context, se *session, id string, _ []string) error {
				return said(id)(se.lab.UpdateSweep(ctx, id, workflows.UpdateResume))
			}),
		a.sweepVerb("parallel SWEEP N", "Change how many cells run at the same time", cobra.ExactArgs(2),
			"  esclab sweep parallel demo-sweep 4     fewer than run now: those go on, no new ones begin",
			func(ctx context.Context, se *session, id string, rest []string) error {
				n, err := strconv.Atoi(rest[0])
				if err != nil || n < 1 || n > 1000 {
					return fmt.Errorf("parallel %q: a whole number between 1 and 1000", rest[0])
				}
				return said(id)(se.lab.UpdateSweep(ctx, id, workflows.UpdateParallel, n))
			}),
		a.sweepVerb("cancel-cell SWEEP CELL…", "Cancel single cells; the others go on", cobra.MinimumNArgs(2),
			"  esclab sweep cancel-cell demo-sweep loss-kto_learning-rate-0.0005_batch-size-16",
			func(ctx context.Context, se *session, id string, rest []string) error {
				for _, cell := range rest {
					if err := said(id)(se.lab.CancelCell(ctx, id, cell)); err != nil {
						return err
					}
				}
				return nil
			}),
		a.sweepVerb("retry-failed SWEEP", "Try failed and cancelled cells of a running sweep again", cobra.ExactArgs(1),
			"  esclab sweep retry-failed demo-sweep   of one that has ended, esclab sweep FILE does it",
			func(ctx context.Context, se *session, id string, _ []string) error {
				return said(id)(se.lab.UpdateSweep(ctx, id, workflows.UpdateRetryFailed))
			}),
		a.addCellsCommand(),
		a.sweepCancelCommand(),
	}
}

func (a *app) sweepCancelCommand() *cobra.Command {
	var yes bool
	c := a.sweepVerb("cancel SWEEP", "Cancel a sweep: its running cells save a checkpoint and stop", cobra.ExactArgs(1),
		"  esclab sweep cancel demo-sweep",
		func(ctx context.Context, se *session, id string, _ []string) error {
			if err := se.mayCancel(ctx, "sweep", lab.Execution{ID: id}, yes); err != nil {
				return err
			}
			if err := se.lab.CancelSweep(ctx, id); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "sweep %s is being cancelled; what is done stays in the store\n", id)
			return nil
		})
	c.Flags().BoolVar(&yes, "yes", false, "also a sweep that another has started, without a question")
	return c
}

// said prints how a sweep stands after a command to it.
func said(id string) func(workflows.SweepState, error) error {
	return func(state workflows.SweepState, err error) error {
		if err != nil {
			return err
		}
		paused := ""
		if state.Paused {
			paused = ", paused"
		}
		fmt.Fprintf(os.Stderr, "sweep %s: %s, %d at a time%s\n", id, state.Marks.Summary(), state.Parallel, paused)
		return nil
	}
}

// sweepVerb is a command about the running sweep that its first argument names.
func (a *app) sweepVerb(use, short string, args cobra.PositionalArgs, example string, do func(ctx context.Context, se *session, id string, rest []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args, Example: example,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withSession(c.Context(), func(se *session) error {
				sweep, err := se.lab.FindSweep(c.Context(), args[0], true)
				if err != nil {
					return err
				}
				return do(c.Context(), se, sweep.ID, args[1:])
			})
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

// addCells extends a running sweep's plan by the cells that a file has besides.
func (se *session) addCells(ctx context.Context, id, file string, set []string) error {
	more, err := se.app.prepareSweep(ctx, file, set)
	if err = errors.Join(err, more.Missing); err != nil {
		return err
	}
	if err := se.app.allowSweep(more.Plan); err != nil {
		return err
	}
	added, state, err := se.lab.AddCells(ctx, id, more.Plan)
	if err != nil {
		return err
	}
	if added == 0 {
		return fmt.Errorf("%s has no cell that sweep %s lacks", file, id)
	}
	fmt.Fprintf(os.Stderr, "%d cells added\n", added)
	return said(id)(state, nil)
}
