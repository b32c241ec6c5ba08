package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"

	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
	"github.com/esclab/esclab/workflows/sweeptable"
)

func (a *app) sweepListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the sweeps, the newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runSweepList(c.Context(), c.OutOrStdout()) },
	}
}

func (a *app) runSweepList(ctx context.Context, out io.Writer) error {
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	return printExecutions(out, "sweep", se.lab.Sweeps(ctx, false))
}

type sweepStatusOptions struct{ once, json, cells bool }

func (a *app) sweepStatusCommand() *cobra.Command {
	var o sweepStatusOptions
	c := &cobra.Command{
		Use:   "status [SWEEP]",
		Short: "Follow a sweep: its cells, what runs, what has failed and why",
		Long: `Follow the newest sweep, or the newest of a name, until it ends. Ctrl-C stops the
following, not the sweep. esclab status RUN follows a single cell's run, stage
by stage.`,
		Example: "  esclab sweep status\n  esclab sweep status demo-sweep --once --cells\n  esclab sweep status demo-sweep --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runSweepStatus(c.Context(), strings.Join(args, ""), o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.once, "once", false, "print the state and return")
	c.Flags().BoolVar(&o.cells, "cells", false, "print every cell and return")
	c.Flags().BoolVar(&o.json, "json", false, "print the state as JSON and return")
	return c
}

// runSweepStatus follows the newest sweep of a name, or prints how it stands.
func (a *app) runSweepStatus(ctx context.Context, name string, o sweepStatusOptions, out io.Writer) error {
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	sweep, err := se.lab.FindSweep(ctx, name, false)
	if err != nil {
		return err
	}
	// A stack of this command's own has no worker that could answer or go on.
	live := sweep.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && !sweep.Kept && se.stack == nil
	if live && !o.once && !o.json && !o.cells {
		_, err := se.followSweep(ctx, sweep.ID, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed(err)
	}
	state, err := se.lab.StoredSweep(ctx, sweep)
	if err != nil {
		return err
	}
	return se.printSweepState(ctx, sweep.ID, state, o.json, out)
}

// cellState is one cell of `esclab sweep status`.
type cellState struct {
	Cell   string   `json:"cell"`
	Values []string `json:"values"`
	State  string   `json:"state"`
	Reason string   `json:"reason,omitempty"`
	Run    string   `json:"run,omitempty"`
}

func (se *session) printSweepState(ctx context.Context, id string, state workflows.SweepState, asJSON bool, out io.Writer) error {
	plan, err := lab.ReadSweepPlan(ctx, se.node.Store, state.Plan)
	if err != nil {
		return failed(err)
	}
	for len(state.Marks) < len(plan.Cells) { // nobody was there to be asked
		state.Marks += workflows.CellMarks(workflows.CellUnknown)
	}
	cells := make([]cellState, len(state.Marks))
	for i := range cells {
		cells[i] = cellState{Cell: plan.Cells[i].Name, Values: plan.Values(i), State: state.Marks.At(i).String()}
	}
	for _, e := range state.Ends {
		cells[e.Cell].Reason = e.Reason
	}
	for _, r := range state.Running {
		cells[r.Cell].Run = r.WorkflowID
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Sweep      string      `json:"sweep"`
			Parallel   int         `json:"parallel"`
			Priority   int         `json:"priority"`
			Paused     bool        `json:"paused"`
			Executions int         `json:"executions"`
			Varied     []string    `json:"varied"`
			Cells      []cellState `json:"cells"`
		}{id, state.Parallel, state.Priority, state.Paused, state.Executions, plan.Varied, cells})
	}
	t := newTable(out, table.Row{"cell", "state", "run, or why"})
	for _, c := range cells {
		t.AppendRow(table.Row{c.Cell, c.State, c.Run + c.Reason})
	}
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 100}})
	t.Render()
	paused := ""
	if state.Paused {
		paused = ", paused"
	}
	fmt.Fprintf(out, "sweep %s: %s; %d at a time, priority %d%s\n", id, state.Marks.Summary(), state.Parallel, state.Priority, paused)
	return nil
}

type sweepTableOptions struct {
	md, csv, json bool
	dir           string
}

func (a *app) sweepTableCommand() *cobra.Command {
	var o sweepTableOptions
	c := &cobra.Command{
		Use:   "table SWEEP",
		Short: "Print the table of a sweep that has ended, or of what is done so far",
		Long: `Print cells, varied fields and metrics. Of a sweep that has ended the table is in
the store; of one that runs it is made of what is done so far.`,
		Example: "  esclab sweep table demo-sweep\n  esclab sweep table demo-sweep --csv > sweep.csv\n  esclab sweep table demo-sweep --out tables/",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runSweepTable(c.Context(), args[0], o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.md, "md", false, "print Markdown")
	c.Flags().BoolVar(&o.csv, "csv", false, "print CSV")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.Flags().StringVar(&o.dir, "out", "", "write all three into this directory instead")
	c.MarkFlagsMutuallyExclusive("md", "csv", "json", "out")
	return c
}

func (a *app) runSweepTable(ctx context.Context, name string, o sweepTableOptions, out io.Writer) error {
	if o.dir != "" { // whatever the servers in this process do to the working directory
		var err error
		if o.dir, err = filepath.Abs(o.dir); err != nil {
			return err
		}
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	sweep, err := se.lab.FindSweep(ctx, name, false)
	if err != nil {
		return err
	}
	return failed(se.showSweepTable(ctx, sweep.ID, o, out))
}

// showSweepTable prints a sweep's table in one of its forms.
func (se *session) showSweepTable(ctx context.Context, id string, o sweepTableOptions, out io.Writer) error {
	for running, err := range se.lab.Sweeps(ctx, true) {
		if err != nil {
			return err
		}
		if running.ID != id {
			continue
		}
		// Of what is done so far; the end writes it again.
		state, err := se.lab.SweepState(ctx, id)
		if err != nil {
			return unreachable(err)
		}
		plan, err := lab.ReadSweepPlan(ctx, se.node.Store, state.Plan)
		if err != nil {
			return err
		}
		if _, err := sweeptable.Write(ctx, se.node.Store, plan, workflows.TableInput{Plan: state.Plan, Marks: state.Marks, Ends: state.Ends}); err != nil {
			return err
		}
	}
	if o.dir != "" {
		return se.writeSweepTable(ctx, id, o.dir)
	}
	name := ""
	switch {
	case o.md:
		name = results.FileSweepMarkdown
	case o.csv:
		name = results.FileSweepCSV
	case o.json:
		name = results.FileSweepJSON
	default:
		return se.printSweepTable(ctx, id, out)
	}
	raw, err := se.sweepFile(ctx, id, name)
	if err != nil {
		return err
	}
	_, err = out.Write(raw)
	return err
}
