package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

type sweepOptions struct {
	set      []string
	plan     bool
	json     bool
	detach   bool
	parallel int
	priority int
	slots    int
	out      string
}

func (a *app) sweepCommand() *cobra.Command {
	var o sweepOptions
	c := &cobra.Command{
		Use:   "sweep FILE",
		Short: "Run a grid of experiments: a sweep preset or a YAML file",
		Long: `Run a sweep: a base experiment, varied over a grid of its fields, each cell a run
of its own. FILE is a sweep preset (esclab presets lists them) or a YAML file
with base:, grid:, cells:, exclude: and seeds:; docs/sweeps.md has every key.

Stages that cells have in common are run once, also when two sweeps run at the
same time, and what is in the store is reused. A cell that fails keeps what it
has made; the others go on. In the end the table of all cells is printed and
kept in the store. Ctrl-C stops after saving checkpoints; the same command
continues there, also after a kill or a power failure.

The commands below steer a sweep that is under way. SWEEP is its name, for the
newest of that name, or its ID as esclab sweep list has it.

The exit code is 1 where a cell has failed.`,
		Example: `  esclab sweep demo-sweep --plan              cells, stages, what is shared and cached, about how long
  esclab sweep demo-sweep                     24 cells on the sample corpus
  esclab sweep mine.yaml --parallel 4 --set dpo.epochs=2
  esclab sweep pause demo-sweep --now         let go of the devices; resume continues
  esclab sweep add-cells mine mine.yaml       after adding values to the file's grid
  esclab sweep table demo-sweep --csv > sweep.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return misspelt(c, args[0], a.runSweep(c.Context(), args[0], o, c.OutOrStdout()))
		},
	}
	c.Flags().StringArrayVar(&o.set, "set", nil, "set a field of the base: --set dpo.epochs=2 (repeatable)")
	c.Flags().BoolVar(&o.plan, "plan", false, "print cells and stages, how many are shared and cached, and an estimate of the time; run nothing")
	c.Flags().BoolVar(&o.json, "json", false, "with --plan: print JSON")
	c.Flags().BoolVar(&o.detach, "detach", false, "start the sweep and return; a worker has to be up")
	c.Flags().IntVar(&o.parallel, "parallel", 0, "cells at the same time (default: parallel: of the file)")
	c.Flags().IntVar(&o.priority, "priority", 0, "of its stages on the task queues, 1 first to 5 last (default: priority: of the file)")
	c.Flags().IntVar(&o.slots, "slots", 0, "kernel stages at the same time, where this process does the work (default: one a cell, at most one a core; 1 beside a GPU)")
	c.Flags().StringVar(&o.out, "out", "", "write the table into this directory as Markdown, CSV and JSON when the sweep is done")
	c.AddCommand(a.sweepVerbs()...)
	c.SuggestionsMinimumDistance = 2
	return c
}

// misspelt hints at the command that a word may have been meant as.
func misspelt(c *cobra.Command, word string, err error) error {
	if err == nil || strings.ContainsAny(word, "./\\") || slices.Contains(experiments.SweepPresets(), word) {
		return err
	}
	if near := c.SuggestionsFor(word); len(near) > 0 {
		return fmt.Errorf("%w; or did you mean esclab sweep %s?", err, near[0])
	}
	return err
}

func (a *app) runSweep(ctx context.Context, name string, o sweepOptions, out io.Writer) error {
	switch {
	case o.json && !o.plan:
		return errors.New("--json goes with --plan; a sweep's table is printed as JSON by esclab sweep table SWEEP --json")
	case o.parallel < 0 || o.parallel > 1000:
		return fmt.Errorf("--parallel %d: it lies between 1 and 1000", o.parallel)
	case o.priority < 0 || o.priority > 5:
		return fmt.Errorf("--priority %d: it lies between 1 (first) and 5 (last)", o.priority)
	}
	p, err := a.prepareSweep(ctx, name, o.set)
	if err != nil {
		return err
	}
	if o.parallel > 0 {
		p.Sweep.Parallel = o.parallel
	}
	if o.priority > 0 {
		p.Sweep.Priority = o.priority
	}
	if o.out != "" { // whatever the servers in this process do to the working directory
		if o.out, err = filepath.Abs(o.out); err != nil {
			return err
		}
	}
	if p.Missing != nil && !o.plan {
		return p.Missing
	}
	sayWarnings(p.Warnings())
	if !o.plan {
		if err := a.allowSweep(p.Plan); err != nil {
			return err
		}
	}
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	if o.plan {
		if p.Missing != nil {
			fmt.Fprintln(stderr, "esclab:", p.Missing)
		}
		return se.printSweepPlan(ctx, p, o.json, out)
	}
	se.lookAfter(ctx, a.commandLine("esclab sweep", name, o.set))
	return se.runPreparedSweep(ctx, p, o, out)
}

func (se *session) runPreparedSweep(ctx context.Context, p experiments.PreparedSweep, o sweepOptions, out io.Writer) error {
	if err := se.findWorker(ctx, o.detach, sweepSlots(o.slots, p.Sweep.Parallel)); err != nil {
		return err
	}
	run, err := se.lab.StartSweep(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "sweep %s%s: %d cells\n", run.ID, se.joined(ctx, run), len(p.Plan.Cells))
	se.sayLink(run)
	if o.detach {
		fmt.Fprintf(stderr, "follow it with: %s\n", se.app.commandLine("esclab sweep status", p.Sweep.Name, nil))
		return nil
	}
	began := time.Now()
	result, err := se.followSweep(ctx, run.ID, stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "\nstopping; the same command continues at the last checkpoints")
		return ctx.Err()
	}
	if err != nil && result.Marks == "" {
		return failed(fmt.Errorf("sweep %s: %w", run.ID, err))
	}
	fmt.Fprintf(stderr, "ended in %s: %s\n", time.Since(began).Round(100*time.Millisecond), result.Marks.Summary())
	if err := se.printSweepTable(ctx, run.ID, out); err != nil {
		return failed(err)
	}
	if o.out != "" {
		if err := se.writeSweepTable(ctx, run.ID, o.out); err != nil {
			return failed(err)
		}
	} else {
		fmt.Fprintf(stderr, "table: %s; --md, --csv or --json for other programs\n", se.app.commandLine("esclab sweep table", p.Sweep.Name, nil))
	}
	if err != nil {
		return failed(fmt.Errorf("sweep %s: %w; the same command tries them again; they are listed by: %s", run.ID, err, se.app.commandLine("esclab sweep status", p.Sweep.Name, nil)))
	}
	return se.stayForOthers(ctx)
}

// sweepSlots is how many kernel stages this process runs at the same time.
func sweepSlots(asked, parallel int) int {
	if asked > 0 {
		return asked
	}
	if _, err := os.Stat("/dev/nvidia0"); err == nil {
		return 1 // one device, one stage
	}
	return max(min(parallel, runtime.GOMAXPROCS(0)), 1)
}

// printedRows bounds the table on the terminal.
const printedRows = 200

// sweepTable reads the table that a sweep has left in the store.
func (se *session) sweepTable(ctx context.Context, id string) (report.Sweep, error) {
	raw, err := se.sweepFile(ctx, id, results.FileSweepJSON)
	if err != nil {
		return report.Sweep{}, err
	}
	return report.ReadSweep(bytes.NewReader(raw))
}

func (se *session) sweepFile(ctx context.Context, id, name string) ([]byte, error) {
	raw, err := se.node.Store.GetRunFile(ctx, id, name)
	if err != nil {
		return nil, fmt.Errorf("the table of %s: %w", id, err)
	}
	return raw, nil
}

// printSweepTable shows the table on the terminal.
func (se *session) printSweepTable(ctx context.Context, id string, out io.Writer) error {
	t, err := se.sweepTable(ctx, id)
	if err != nil {
		return err
	}
	printSweepRows(out, t)
	return nil
}

func printSweepRows(out io.Writer, t report.Sweep) {
	w := table.NewWriter()
	w.SetOutputMirror(out)
	w.SetStyle(table.StyleLight)
	head := table.Row{"cell", "system"}
	for _, h := range report.SweepHeads() {
		head = append(head, h)
	}
	w.AppendHeader(append(head, "state"))
	for i, r := range t.Rows {
		if i == printedRows {
			w.AppendRow(table.Row{fmt.Sprintf("… and %d more: esclab sweep table %s --csv", len(t.Rows)-i, t.Name)})
			break
		}
		cell := r.Cell
		if cell == "" {
			cell = "(all cells)"
		}
		row := table.Row{cell, r.System}
		for _, v := range r.Columns.Cells() {
			row = append(row, v)
		}
		state := r.State
		if r.Reason != "" {
			state += ": " + r.Reason
		}
		w.AppendRow(append(row, state))
	}
	w.SetColumnConfigs([]table.ColumnConfig{{Number: len(head) + 1, WidthMax: 60}})
	if t.Judge == "offline" {
		w.SetCaption("Flu. to Hel. are the offline judge's: fixed rules, no language model.")
	}
	w.Render()
}

// writeSweepTable copies the table's files into a directory.
func (se *session) writeSweepTable(ctx context.Context, id, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{results.FileSweepMarkdown, results.FileSweepCSV, results.FileSweepJSON} {
		raw, err := se.sweepFile(ctx, id, name)
		if err != nil {
			return err
		}
		if err := whole.Write(filepath.Join(dir, name), whole.Public, raw); err != nil {
			return err
		}
	}
	fmt.Fprintf(stderr, "table written to %s\n", filepath.Join(dir, results.FileSweepMarkdown))
	return nil
}
