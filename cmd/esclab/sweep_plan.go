package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/esclab/esclab/experiments"
	"github.com/jedib0t/go-pretty/v6/table"
)

// printedCells bounds the cells that a plan lists on the terminal.
const printedCells = 100

// printSweepPlan shows what a sweep would do.
func (se *session) printSweepPlan(ctx context.Context, p experiments.PreparedSweep, asJSON bool, out io.Writer) error {
	plan, err := se.lab.Forecast(ctx, p)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(plan)
	}
	cells := newTable(out, table.Row{"cell", "stages", "its own", "cached", "to run first here"})
	for i, c := range plan.Cells {
		if i == printedCells {
			cells.AppendRow(table.Row{fmt.Sprintf("… and %d more: --json lists them", len(plan.Cells)-i)})
			break
		}
		cells.AppendRow(table.Row{c.Name, c.Stages, c.Own, c.Cached, c.New})
	}
	cells.Render()
	kinds := newTable(out, table.Row{"kind", "in cells", "different", "cached", "to run", "about", "from"})
	for _, k := range plan.Kinds {
		about, from := "", ""
		switch {
		case k.ToRun == 0:
		case k.Unknown == k.ToRun:
			about, from = "?", "none of this kind has finished yet"
		default:
			about, from = roughly(k.Seconds), fmt.Sprintf("%d finished, the nearest differ in up to %d values", k.Past, k.Differ)
			if k.Unknown > 0 {
				from += fmt.Sprintf("; %d unknown", k.Unknown)
			}
		}
		kinds.AppendRow(table.Row{k.Kind, k.InCells, k.Distinct, k.Cached, k.ToRun, about, from})
	}
	kinds.Render()
	s := plan.Stages
	fmt.Fprintf(out, "sweep %s: %d cells with %d stages, %d of them different (%d shared); %d in the store, %d to run\n",
		plan.Sweep, len(plan.Cells), s.InCells, s.Distinct, s.InCells-s.Distinct-s.Blocked, s.Cached, s.Distinct-s.Cached)
	if s.Blocked > 0 {
		fmt.Fprintf(out, "%d stages wait for source files that are missing\n", s.Blocked)
	}
	e := plan.Estimate
	switch {
	case s.Distinct == s.Cached && s.Blocked == 0:
		fmt.Fprintln(out, "nothing to do: every stage is in the store")
	case e.Work == 0:
		fmt.Fprintln(out, "time: unknown; no stage of these kinds has finished in this store yet")
	default:
		fmt.Fprintf(out, "time: about %s of work, about %s with %d stages at a time (the longest chain of one cell has %s)",
			roughly(e.Work), roughly(plan.Wall), plan.Parallel, roughly(e.Longest))
		if e.Unknown > 0 {
			fmt.Fprintf(out, "; %d stages are not counted: none like them has finished", e.Unknown)
		}
		fmt.Fprintln(out)
	}
	return nil
}

func newTable(out io.Writer, head table.Row) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(head)
	return t
}
