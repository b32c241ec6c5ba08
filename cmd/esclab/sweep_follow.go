package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// followSweep shows a sweep until it ends, and returns what it ended with, also
// where cells have failed. A cancelled context stops the following alone.
func (se *session) followSweep(ctx context.Context, id string, out io.Writer) (workflows.SweepResult, error) {
	v := &sweepView{se: se, out: out, marks: map[int]workflows.CellMark{}}
	if onTerminal(out) {
		v.bars = newSweepBars(out)
	}
	defer v.close()
	return se.lab.FollowSweep(ctx, id, func(state workflows.SweepState) { v.update(ctx, state) })
}

// sweepView shows a sweep's progress: a bar for the sweep and for each running
// cell on a terminal, lines elsewhere.
type sweepView struct {
	se    *session
	out   io.Writer
	plan  experiments.SweepPlan
	ref   workflows.PlanRef
	marks map[int]workflows.CellMark
	last  string // summary line
	said  time.Time
	bars  *sweepBars
}

func (v *sweepView) update(ctx context.Context, state workflows.SweepState) {
	if state.Plan != v.ref {
		plan, err := lab.ReadSweepPlan(ctx, v.se.node.Store, state.Plan)
		if err != nil {
			return // the next look may have it
		}
		v.plan, v.ref = plan, state.Plan
	}
	if v.bars != nil {
		v.bars.update(ctx, v.se, v.plan, state)
	}
	reasons := map[int]string{}
	for _, e := range state.Ends {
		reasons[e.Cell] = e.Reason
	}
	fresh := 0 // reused cells are counted, not listed: they come by the hundred
	for cell := range len(state.Marks) {
		mark := state.Marks.At(cell)
		if v.marks[cell] == mark || cell >= len(v.plan.Cells) {
			continue
		}
		v.marks[cell] = mark
		switch mark {
		case workflows.CellUnknown, workflows.CellWaiting:
		case workflows.CellReused:
			fresh++
		case workflows.CellRunning:
			if v.bars == nil {
				v.say("%-40s running\n", v.plan.Cells[cell].Name)
			}
		default:
			line := fmt.Sprintf("%-40s %s", v.plan.Cells[cell].Name, mark)
			if reasons[cell] != "" {
				line += ": " + reasons[cell]
			}
			v.say("%s\n", line)
		}
	}
	if fresh > 0 {
		v.say("%d cells are in the store whole\n", fresh)
	}
	line := state.Marks.Summary()
	if state.Paused {
		line += ", paused"
	}
	if v.bars == nil && line != v.last && time.Since(v.said) > lineEvery {
		v.said = time.Now()
		v.last = line
		v.say("%s\n", line)
	}
}

func (v *sweepView) say(format string, args ...any) {
	if v.bars != nil {
		v.bars.writer.Log("%s", fmt.Sprintf(format[:len(format)-1], args...))
		return
	}
	fmt.Fprintf(v.out, format, args...)
}

func (v *sweepView) close() {
	if v.bars != nil {
		v.bars.close()
	}
}

// sweepBars draws a bar for the sweep and one for each cell that runs.
type sweepBars struct {
	writer progress.Writer
	all    *progress.Tracker
	cells  map[string]*progress.Tracker // by workflow ID
}

func newSweepBars(out io.Writer) *sweepBars {
	b := newBars(out)
	s := &sweepBars{writer: b.writer, all: &progress.Tracker{Message: "cells"}, cells: map[string]*progress.Tracker{}}
	s.writer.AppendTracker(s.all)
	return s
}

func (b *sweepBars) update(ctx context.Context, se *session, plan experiments.SweepPlan, state workflows.SweepState) {
	over := 0
	for _, mark := range []workflows.CellMark{workflows.CellDone, workflows.CellReused, workflows.CellFailed, workflows.CellCancelled, workflows.CellStopped} {
		over += state.Marks.Count(mark)
	}
	b.all.UpdateTotal(int64(len(state.Marks)))
	b.all.UpdateMessage("cells  " + state.Marks.Summary())
	b.all.SetValue(int64(min(over, len(state.Marks)-1)))
	if over == len(state.Marks) {
		b.all.MarkAsDone()
	}
	runs := map[string]bool{}
	for _, r := range state.Running {
		runs[r.WorkflowID] = true
		t := b.cells[r.WorkflowID]
		if t == nil {
			t = &progress.Tracker{Message: r.Name}
			b.cells[r.WorkflowID] = t
			b.writer.AppendTracker(t)
		}
		if len(b.cells) > 16 {
			continue // a screen has no room for more
		}
		run, err := se.lab.ViewRun(ctx, r.WorkflowID)
		if err != nil {
			continue
		}
		done, now := 0, ""
		for _, s := range run.Stages {
			switch s.Status {
			case workflows.StageDone, workflows.StageReused:
				done++
			case workflows.StageRunning:
				if p := run.Running[s.Name]; now == "" || p.Steps > 0 {
					now = s.Name + " " + detail(p)
				}
			}
		}
		t.UpdateTotal(int64(len(run.Stages)))
		t.SetValue(int64(min(done, len(run.Stages)-1)))
		t.UpdateMessage(r.Name + "  " + now)
	}
	for id, t := range b.cells {
		if !runs[id] {
			t.MarkAsDone()
			delete(b.cells, id)
		}
	}
}

func (b *sweepBars) close() {
	(&bars{writer: b.writer}).close()
}
