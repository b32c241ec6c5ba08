package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// followSweep shows a sweep until it ends, and returns what it ended with, also
// where cells have failed. A cancelled context stops the following alone.
func (se *session) followSweep(ctx context.Context, id string, out io.Writer) (workflows.SweepResult, error) {
	v := &sweepView{se: se, out: out, marks: map[int]workflows.CellMark{}}
	if onTerminal(out) {
		v.board = se.app.board
		v.board.use(out)
		v.out = v.board
		defer v.board.close()
	}
	return se.lab.FollowSweep(ctx, id, func(state workflows.SweepState) { v.update(ctx, state) })
}

// sweepView shows a sweep's progress: a board on a terminal, lines
// elsewhere.
type sweepView struct {
	se    *session
	out   io.Writer
	plan  experiments.SweepPlan
	ref   workflows.PlanRef
	marks map[int]workflows.CellMark
	last  string // summary line
	said  time.Time
	board *board // nil where lines are printed
}

func (v *sweepView) update(ctx context.Context, state workflows.SweepState) {
	if state.Plan != v.ref {
		plan, err := lab.ReadSweepPlan(ctx, v.se.node.Store, state.Plan)
		if err != nil {
			return // the next look may have it
		}
		v.plan, v.ref = plan, state.Plan
	}
	if v.board != nil {
		lines := v.lines(ctx, state)
		v.board.paint(func(int) []string { return lines })
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
			if v.board == nil {
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
	if v.board == nil && line != v.last && time.Since(v.said) > lineEvery {
		v.said = time.Now()
		v.last = line
		v.say("%s\n", line)
	}
}

func (v *sweepView) say(format string, args ...any) { fmt.Fprintf(v.out, format, args...) }

// lines are a board's lines of a sweep: how far it is, and the cells that run.
func (v *sweepView) lines(ctx context.Context, state workflows.SweepState) []string {
	ended := 0
	for _, mark := range []workflows.CellMark{workflows.CellDone, workflows.CellReused, workflows.CellFailed, workflows.CellCancelled, workflows.CellStopped} {
		ended += state.Marks.Count(mark)
	}
	paused := ""
	if state.Paused {
		paused = ", paused"
	}
	lines := []string{fmt.Sprintf("%d/%d cells: %s%s", ended, len(state.Marks), state.Marks.Summary(), paused)}
	for i, r := range state.Running {
		if i == 16 {
			lines = append(lines, fmt.Sprintf("and %d more cells", len(state.Running)-i))
			break // each asks for its run's state
		}
		line := r.Name
		if run, err := v.se.lab.ViewRun(ctx, r.WorkflowID); err == nil {
			done, now := 0, ""
			for _, s := range run.Stages {
				if over(s.Status) {
					done++
				} else if p := run.Running[s.Name]; s.Status == workflows.StageRunning && (now == "" || p.Steps > 0) {
					now = s.Name + " " + detail(p)
				}
			}
			line += fmt.Sprintf("  %d/%d stages  %s", done, len(run.Stages), now)
		}
		lines = append(lines, line)
	}
	return lines
}
