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
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/cmd/internal/revision"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workflows"
)

type sweepFlags struct {
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
	var f sweepFlags
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
			return misspelt(c, args[0], a.sweep(c.Context(), args[0], f))
		},
	}
	c.Flags().StringArrayVar(&f.set, "set", nil, "set a field of the base: --set dpo.epochs=2 (repeatable)")
	c.Flags().BoolVar(&f.plan, "plan", false, "print cells and stages, how many are shared and cached, and an estimate of the time; run nothing")
	c.Flags().BoolVar(&f.json, "json", false, "with --plan: print JSON")
	c.Flags().BoolVar(&f.detach, "detach", false, "start the sweep and return; a worker has to be up")
	c.Flags().IntVar(&f.parallel, "parallel", 0, "cells at the same time (default: parallel: of the file)")
	c.Flags().IntVar(&f.priority, "priority", 0, "of its stages on the task queues, 1 first to 5 last (default: priority: of the file)")
	c.Flags().IntVar(&f.slots, "slots", 0, "kernel stages at the same time, where this process does the work (default: one a cell, at most one a core; 1 beside a GPU)")
	c.Flags().StringVar(&f.out, "out", "", "write the table into this directory as Markdown, CSV and JSON when the sweep is done")
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

// plannedSweep is a sweep ready to run.
type plannedSweep struct {
	sweep experiments.Sweep
	plan  experiments.SweepPlan
}

func (p plannedSweep) id() string {
	return fmt.Sprintf("sweep/%s/%.12s", p.sweep.Name, p.plan.Identity())
}

// sweepName is the sweep's name in its ID.
func sweepName(id string) string {
	parts := strings.Split(id, "/")
	if len(parts) != 3 || parts[0] != "sweep" {
		return id
	}
	return parts[1]
}

// planSweep loads a sweep and lays out its cells. The second error says which
// sources are missing; a plan without them can be shown but not run.
func (a *app) planSweep(ctx context.Context, nameOrPath string, set []string) (p plannedSweep, missing, err error) {
	host, err := a.host(ctx)
	if err != nil {
		return p, nil, err
	}
	if p.sweep, err = experiments.LoadSweep(nameOrPath, set...); err != nil {
		return p, nil, err
	}
	here, err := os.Getwd()
	if err != nil {
		return p, nil, err
	}
	var bad error
	p.plan, err = experiments.PlanSweep(p.sweep, here, func(exp experiments.Experiment) (experiments.Sources, error) {
		sources, err := experiments.SourceDigests(exp, host)
		if len(sources.JudgePrompts) > 0 {
			if _, err := prompts.New(sources.JudgePrompts); err != nil {
				bad = errors.Join(bad, fmt.Errorf("judge.prompts: %s: %w", exp.Judge.Prompts, err))
			}
		}
		return sources, err
	})
	if bad != nil {
		return p, nil, bad
	}
	if err != nil && len(p.plan.Cells) > 0 {
		return p, err, nil
	}
	return p, nil, err
}

func (a *app) sweep(ctx context.Context, name string, f sweepFlags) error {
	switch {
	case f.json && !f.plan:
		return errors.New("--json goes with --plan; a sweep's table is printed as JSON by esclab sweep table SWEEP --json")
	case f.parallel < 0 || f.parallel > 1000:
		return fmt.Errorf("--parallel %d: it lies between 1 and 1000", f.parallel)
	case f.priority < 0 || f.priority > 5:
		return fmt.Errorf("--priority %d: it lies between 1 (first) and 5 (last)", f.priority)
	}
	p, missing, err := a.planSweep(ctx, name, f.set)
	if err != nil {
		return err
	}
	if f.parallel > 0 {
		p.sweep.Parallel = f.parallel
	}
	if f.priority > 0 {
		p.sweep.Priority = f.priority
	}
	if f.out != "" { // whatever the servers in this process do to the working directory
		if f.out, err = filepath.Abs(f.out); err != nil {
			return err
		}
	}
	if missing != nil && !f.plan {
		return missing
	}
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	if f.plan {
		if missing != nil {
			fmt.Fprintln(os.Stderr, "esclab:", missing)
		}
		return se.printSweepPlan(ctx, p, f.json, os.Stdout)
	}
	return se.runSweep(ctx, p, f)
}

func (se *session) runSweep(ctx context.Context, p plannedSweep, f sweepFlags) error {
	if err := se.findWorker(ctx, f.detach, sweepSlots(f.slots, p.sweep.Parallel)); err != nil {
		return err
	}
	run, err := se.startSweep(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "sweep %s: %d cells\n", run.GetID(), len(p.plan.Cells))
	if url := se.link(run.GetID(), run.GetRunID()); url != "" {
		fmt.Fprintf(os.Stderr, "web UI %s\n", url)
	}
	if f.detach {
		fmt.Fprintf(os.Stderr, "follow it with: esclab sweep status %s\n", p.sweep.Name)
		return nil
	}
	began := time.Now()
	result, err := se.followSweep(ctx, run.GetID(), os.Stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "\nstopping; the same command continues at the last checkpoints")
		return ctx.Err()
	}
	if err != nil && result.Marks == "" {
		return failed(fmt.Errorf("sweep %s: %w", run.GetID(), rootCause(err)))
	}
	fmt.Fprintf(os.Stderr, "ended in %s: %s\n", time.Since(began).Round(100*time.Millisecond), result.Marks.Summary())
	if err := se.printSweepTable(ctx, run.GetID(), os.Stdout); err != nil {
		return failed(err)
	}
	if f.out != "" {
		if err := se.writeSweepTable(ctx, run.GetID(), f.out); err != nil {
			return failed(err)
		}
	} else {
		fmt.Fprintf(os.Stderr, "table: esclab sweep table %s --md, --csv or --json\n", p.sweep.Name)
	}
	if err != nil {
		return failed(fmt.Errorf("sweep %s: %w: esclab sweep status %s lists them; the same command tries them again", run.GetID(), rootCause(err), p.sweep.Name))
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

// startSweep starts the sweep's workflow, or joins the one that is under way.
func (se *session) startSweep(ctx context.Context, p plannedSweep) (client.WorkflowRun, error) {
	id := p.id()
	ref, err := activities.WriteSweepPlan(ctx, se.node.Store, id, p.plan)
	if err != nil {
		return nil, unreachable(err)
	}
	in := workflows.SweepInput{
		Name: p.sweep.Name, Plan: ref, Parallel: p.sweep.Parallel, Priority: p.sweep.Priority,
		Queues: se.node.Queues(), HeartbeatSeconds: se.heartbeat(),
		Facts: workflows.Facts{
			Experiment: p.sweep.Base.Name, Backbone: p.sweep.Base.Backbone.Name,
			Revision: revision.Of(), Attributes: workflows.UsableAttributes(se.node.Attributes),
		},
	}
	if p.sweep.EarlyStopping.On() {
		in.StopEverySeconds = stopEvery
	}
	run, err := se.node.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       id,
		TaskQueue:                se.node.Queues().Control,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            fmt.Sprintf("%s: %d cells over %s", p.sweep.Name, len(p.plan.Cells), strings.Join(p.plan.ShortNames(), ", ")),
		TypedSearchAttributes:    in.SearchAttributes(),
	}, workflows.SweepName, in)
	if err != nil {
		return nil, unreachable(fmt.Errorf("start sweep %s: %w", id, err))
	}
	return run, nil
}

// stopEvery is how often hopeless cells are looked for, in seconds.
const stopEvery = 15

// printedRows bounds the table on the terminal.
const printedRows = 200

// sweepTable reads the table that a sweep has left in the store.
func (se *session) sweepTable(ctx context.Context, id string) (report.Sweep, error) {
	raw, err := se.sweepFile(ctx, id, activities.SweepTableJSON)
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
	for _, name := range []string{activities.SweepTableMarkdown, activities.SweepTableCSV, activities.SweepTableJSON} {
		raw, err := se.sweepFile(ctx, id, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "table written to %s\n", filepath.Join(dir, activities.SweepTableMarkdown))
	return nil
}
