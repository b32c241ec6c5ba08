package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/workflows"
)

func (a *app) sweepListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the sweeps, the newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			se, err := a.open(c.Context(), false)
			if err != nil {
				return err
			}
			defer se.close()
			all, err := se.sweeps(c.Context(), false)
			if err != nil {
				return err
			}
			t := newTable(os.Stdout, table.Row{"sweep", "status", "started"})
			for _, w := range all {
				t.AppendRow(table.Row{w.GetExecution().GetWorkflowId(), w.GetStatus(), w.GetStartTime().AsTime().Format("2006-01-02 15:04:05")})
			}
			t.Render()
			return nil
		},
	}
}

func (a *app) sweepStatusCommand() *cobra.Command {
	var once, asJSON, cells bool
	c := &cobra.Command{
		Use:   "status [SWEEP]",
		Short: "Follow a sweep: its cells, what runs, what has failed and why",
		Long: `Follow the newest sweep, or the newest of a name, until it ends. Ctrl-C stops the
following, not the sweep. esclab status RUN follows a single cell's run, stage
by stage.`,
		Example: "  esclab sweep status\n  esclab sweep status demo-sweep --once --cells\n  esclab sweep status demo-sweep --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			se, err := a.open(c.Context(), false)
			if err != nil {
				return err
			}
			defer se.close()
			id, err := se.findSweep(c.Context(), strings.Join(args, ""), false)
			if err != nil {
				return err
			}
			if !once && !asJSON && !cells {
				_, err := se.followSweep(c.Context(), id, os.Stdout)
				if c.Context().Err() != nil {
					return c.Context().Err()
				}
				if err != nil {
					return failed(rootCause(err))
				}
				return nil
			}
			state, err := se.sweepState(c.Context(), id)
			if err != nil {
				return unreachable(err)
			}
			return se.printSweepState(c.Context(), id, state, asJSON, os.Stdout)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print the state and return")
	c.Flags().BoolVar(&cells, "cells", false, "print every cell and return")
	c.Flags().BoolVar(&asJSON, "json", false, "print the state as JSON and return")
	return c
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
	plan, err := activities.ReadSweepPlan(ctx, se.node.Store, state.Plan)
	if err != nil {
		return failed(err)
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

func (a *app) sweepTableCommand() *cobra.Command {
	var md, csv, asJSON bool
	var dir string
	c := &cobra.Command{
		Use:   "table SWEEP",
		Short: "Print the table of a sweep that has ended, or of what is done so far",
		Long: `Print cells, varied fields and metrics. Of a sweep that has ended the table is in
the store; of one that runs it is made of what is done so far.`,
		Example: "  esclab sweep table demo-sweep\n  esclab sweep table demo-sweep --csv > sweep.csv\n  esclab sweep table demo-sweep --out tables/",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dir != "" {
				var err error
				if dir, err = filepath.Abs(dir); err != nil {
					return err
				}
			}
			se, err := a.open(c.Context(), true)
			if err != nil {
				return err
			}
			defer se.close()
			id, err := se.findSweep(c.Context(), args[0], false)
			if err != nil {
				return err
			}
			return failed(se.showSweepTable(c.Context(), id, md, csv, asJSON, dir, os.Stdout))
		},
	}
	c.Flags().BoolVar(&md, "md", false, "print Markdown")
	c.Flags().BoolVar(&csv, "csv", false, "print CSV")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&dir, "out", "", "write all three into this directory instead")
	c.MarkFlagsMutuallyExclusive("md", "csv", "json", "out")
	return c
}

// showSweepTable prints a sweep's table in one of its forms.
func (se *session) showSweepTable(ctx context.Context, id string, md, csv, asJSON bool, dir string, out io.Writer) error {
	running, err := se.sweeps(ctx, true)
	if err != nil {
		return err
	}
	for _, w := range running {
		if w.GetExecution().GetWorkflowId() != id {
			continue
		}
		// Of what is done so far; the end writes it again.
		state, err := se.sweepState(ctx, id)
		if err != nil {
			return unreachable(err)
		}
		a := &activities.Activities{Store: se.node.Store}
		if err := a.WriteSweepTable(ctx, workflows.TableInput{Plan: state.Plan, Marks: state.Marks, Ends: state.Ends}, nil); err != nil {
			return err
		}
	}
	if dir != "" {
		return se.writeSweepTable(ctx, id, dir)
	}
	name := ""
	switch {
	case md:
		name = activities.SweepTableMarkdown
	case csv:
		name = activities.SweepTableCSV
	case asJSON:
		name = activities.SweepTableJSON
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
