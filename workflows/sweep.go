package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// Limits that keep a sweep's history small however many cells it has.
const (
	sweepEvents = 3000            // of one execution; the server suggests an end at 4096
	sweepBytes  = 3 << 20         // likewise, at 4 MiB
	surveyed    = 200             // cells looked up by one activity
	reasonLimit = 240             // characters of why a cell ended
	endsLimit   = 256 << 10       // characters of all reasons together
	planLimit   = 5 * time.Minute // planning one cell
)

// Sweep runs the cells of a sweep, so many at a time, each as a Run of its own.
// A cell whose artifacts are all in the store is not started. A failed cell
// keeps what it has made, and the others go on.
//
// It continues as new before its history grows long. Runs under way are not
// closed with an execution of the sweep: the next execution waits for them.
func Sweep(ctx workflow.Context, in SweepInput) (SweepResult, error) {
	s := newSweep(ctx, in)
	if err := s.handlers(ctx); err != nil {
		return SweepResult{}, err
	}
	return s.execute(ctx)
}

// sweep is the state of one execution.
type sweep struct {
	in      SweepInput
	marks   []byte
	running map[int]RunningCell // by cell
	// starting counts cells that have no run yet: they cannot be carried over.
	starting int
	ends     map[int]CellEnd
	paused   bool
	// cancelling says of each cell that was asked to stop how it is to be marked:
	// CellCancelled, CellStopped, or CellWaiting where it is to run again.
	cancelling map[int]CellEnd
	// changes counts what execute reacts to: marks, cells that start or are
	// cancelled, commands.
	changes    int
	told       map[string][]*stageEnd // by workflow ID of a run
	await      bool                   // runs are waited for by an activity: the sweep is of an older build
	executions int
	began      time.Time // when the first execution did
	kept       *keeper
	next       int // no cell before it waits
	best       []CellScore
	pace       SweepPace
}

func newSweep(ctx workflow.Context, in SweepInput) *sweep {
	s := &sweep{in: in, running: map[int]RunningCell{}, ends: map[int]CellEnd{}, cancelling: map[int]CellEnd{}, told: map[string][]*stageEnd{}, executions: 1,
		began: workflow.GetInfo(ctx).WorkflowStartTime}
	if c := in.Carry; c != nil {
		s.marks, s.paused, s.executions, s.began = []byte(c.Marks), c.Paused, c.Executions+1, c.Started
		s.best, s.pace = c.Best, c.Pace
		for _, e := range c.Ends {
			s.ends[e.Cell] = e
		}
	}
	s.grow()
	return s
}

// grow gives every cell of the plan a mark.
func (s *sweep) grow() {
	for len(s.marks) < s.in.Plan.Cells {
		s.marks = append(s.marks, byte(CellUnknown))
		s.changes++
	}
}

// mark marks a cell.
func (s *sweep) mark(cell int, mark CellMark) {
	if !s.is(cell, mark) {
		s.marks[cell] = byte(mark)
		s.changes++
	}
}

// is says whether a cell has the mark.
func (s *sweep) is(cell int, mark CellMark) bool { return CellMark(s.marks[cell]) == mark }

func (s *sweep) execute(ctx workflow.Context) (SweepResult, error) {
	first := s.in
	first.Carry = nil
	if s.kept = newKeeper(ctx, SweepName, s.began, first); s.in.Carry == nil {
		s.kept.begun(ctx)
	} else {
		if s.await = workflow.GetVersion(ctx, versionWanted, workflow.DefaultVersion, 1) == workflow.DefaultVersion; !s.await {
			hear(ctx, s.told)
		}
		for _, r := range s.in.Carry.Running {
			s.running[r.Cell] = r
			workflow.Go(ctx, func(ctx workflow.Context) { s.followCell(ctx, r) })
		}
	}
	if s.in.StopEverySeconds > 0 {
		workflow.Go(ctx, s.stopHopeless)
	}
	s.show(ctx)
	for {
		if err := s.fill(ctx); err != nil && ctx.Err() == nil {
			return SweepResult{}, err
		}
		if ctx.Err() != nil {
			return s.cancelSweep(ctx)
		}
		if s.idle(ctx) {
			result, err := s.finish(ctx)
			if s.idle(ctx) { // no command has come meanwhile
				return result, err
			}
			continue
		}
		if s.longHistory(ctx) && s.starting == 0 && workflow.AllHandlersFinished(ctx) {
			// The one place where a sweep may move to a newer build: it lives for
			// days, while each of its runs stays where it began.
			return SweepResult{}, workflow.NewContinueAsNewErrorWithOptions(ctx, workflow.ContinueAsNewErrorOptions{
				InitialVersioningBehavior: workflow.ContinueAsNewVersioningBehaviorAutoUpgrade,
			}, SweepName, s.carryOn())
		}
		// Nothing to do until a cell ends, a command comes, or the sweep is
		// cancelled. A history that has grown long waits for cells that start.
		changes, handlers, long := s.changes, workflow.AllHandlersFinished(ctx), s.longHistory(ctx)
		_ = workflow.Await(ctx, func() bool { // its error is the cancellation, seen above
			return s.changes != changes || workflow.AllHandlersFinished(ctx) != handlers ||
				!long && s.room() && s.waits() || s.idle(ctx)
		})
	}
}

// idle says that there is nothing left to wait for.
func (s *sweep) idle(ctx workflow.Context) bool {
	return s.active() == 0 && !s.waits() && workflow.AllHandlersFinished(ctx)
}

// active counts the cells that take a place.
func (s *sweep) active() int { return len(s.running) + s.starting }

// room says whether another cell may begin.
func (s *sweep) room() bool { return !s.paused && s.active() < s.in.Parallel }

// waits says whether a cell has still to run.
func (s *sweep) waits() bool {
	return slices.ContainsFunc(s.marks, func(m byte) bool { return CellMark(m) == CellWaiting || CellMark(m) == CellUnknown })
}

func (s *sweep) longHistory(ctx workflow.Context) bool {
	info, events := workflow.GetInfo(ctx), sweepEvents
	if s.in.HistoryEvents > 0 {
		events = s.in.HistoryEvents
	}
	return info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > events || info.GetCurrentHistorySize() > sweepBytes
}

// fill starts cells while there is room.
func (s *sweep) fill(ctx workflow.Context) error {
	for s.room() && !s.longHistory(ctx) && ctx.Err() == nil {
		cell, err := s.nextCell(ctx)
		if err != nil || cell < 0 {
			return err
		}
		if !s.room() { // a command came while cells were looked up
			return nil
		}
		s.mark(cell, CellRunning)
		s.starting++
		workflow.Go(ctx, func(ctx workflow.Context) { s.startCell(ctx, cell) })
	}
	return nil
}

// nextCell finds the first cell that has to run, looking cells up on the way;
// -1 where there is none.
func (s *sweep) nextCell(ctx workflow.Context) (int, error) {
	for ; s.next < len(s.marks); s.next++ {
		switch CellMark(s.marks[s.next]) {
		case CellWaiting:
			return s.next, nil
		case CellUnknown:
			if err := s.survey(ctx, s.next); err != nil {
				return -1, err
			}
			s.next--
		}
	}
	return -1, nil
}

// survey asks the store about the cells from first on.
func (s *sweep) survey(ctx workflow.Context, first int) error {
	in := CellsInput{Plan: s.in.Plan, First: first, Count: min(surveyed, len(s.marks)-first)}
	var found SurveyResult
	err := workflow.ExecuteActivity(s.options(ctx, "which cells are done?", lookupLimit), nameOf(SweepActivities.SurveyCells), in).Get(ctx, &found)
	if err != nil {
		return err
	}
	if len(found.Marks) != in.Count {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("%d cells were asked about, the answer is of %d", in.Count, len(found.Marks)), ErrTypeBadInput, nil)
	}
	for i := range in.Count {
		switch {
		case !s.is(first+i, CellUnknown): // a command has marked it meanwhile
		case found.Marks.At(i) == CellDone:
			s.mark(first+i, CellReused)
		default:
			s.mark(first+i, CellWaiting)
		}
	}
	s.show(ctx)
	return nil
}

// finish writes the table. Cells that have failed fail the sweep, last of all.
func (s *sweep) finish(ctx workflow.Context) (SweepResult, error) {
	state := s.state()
	result := SweepResult{Plan: s.in.Plan, Marks: state.Marks, Ends: state.Ends}
	in := TableInput{Plan: s.in.Plan, Marks: result.Marks, Ends: result.Ends}
	err := workflow.ExecuteActivity(s.options(ctx, "the sweep's table", lookupLimit), nameOf(SweepActivities.TabulateSweep), in).Get(ctx, &result.Table)
	if err != nil {
		return result, err
	}
	workflow.SetCurrentDetails(ctx, sweepDetails(state)+"\n"+result.Table.Markdown)
	if failed := result.Marks.Count(CellFailed); failed > 0 {
		message := fmt.Sprintf("%d of %d cells failed", failed, len(result.Marks))
		for _, e := range result.Ends {
			if e.Mark == CellFailed {
				message += fmt.Sprintf("; %s: %s", e.Name, e.Reason)
				break
			}
		}
		err = temporal.NewNonRetryableApplicationError(message, ErrTypeCells, nil, result)
	}
	s.kept.ended(ctx, result, err)
	return result, err
}

// stopHopeless gives cells up now and then.
func (s *sweep) stopHopeless(ctx workflow.Context) {
	for {
		if err := workflow.Sleep(ctx, time.Duration(s.in.StopEverySeconds)*time.Second); err != nil {
			return
		}
		if len(s.running) == 0 || s.longHistory(ctx) {
			continue
		}
		var hopeless []experiments.HopelessCell
		in := HopelessInput{Plan: s.in.Plan, Marks: CellMarks(s.marks), Running: s.runningCells()}
		err := workflow.ExecuteActivity(s.options(ctx, "hopeless cells?", lookupLimit), nameOf(SweepActivities.FindHopeless), in).Get(ctx, &hopeless)
		if err != nil {
			if ctx.Err() == nil {
				workflow.GetLogger(ctx).Warn("hopeless cells could not be looked for", "error", err)
			}
			continue
		}
		for _, h := range hopeless {
			if _, asked := s.cancelling[h.Cell]; !asked && s.is(h.Cell, CellRunning) {
				s.cancelCell(ctx, h.Cell, CellEnd{Mark: CellStopped, Reason: h.Reason})
			}
		}
	}
}

// options are those of the sweep's own activities.
func (s *sweep) options(ctx workflow.Context, summary string, limit time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           s.in.Queues.Control,
		StartToCloseTimeout: limit,
		HeartbeatTimeout:    time.Duration(s.in.HeartbeatSeconds) * time.Second,
		Summary:             summary,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, MaximumInterval: time.Minute,
			NonRetryableErrorTypes: append(NonRetryable(), ErrTypeStageFailed, ErrTypeCancelled),
		},
	})
}

// state is what the query answers.
func (s *sweep) state() SweepState {
	state := SweepState{
		Name: s.in.Name, Plan: s.in.Plan, Parallel: s.in.Parallel, Priority: s.in.Priority, Paused: s.paused,
		Executions: s.executions, Marks: CellMarks(s.marks), Running: []RunningCell{}, Ends: []CellEnd{}, Best: s.best,
	}
	if left := s.active() + state.Marks.Count(CellWaiting) + state.Marks.Count(CellUnknown); s.pace.Cells > 0 && !s.paused {
		state.ETASeconds = s.pace.Seconds / float64(s.pace.Cells) * float64(left)
	}
	for _, cell := range s.runningCells() {
		state.Running = append(state.Running, s.running[cell])
	}
	for cell := range s.marks {
		if e, ended := s.ends[cell]; ended {
			state.Ends = append(state.Ends, e)
		}
	}
	return state
}

// carryOn is the input of the next execution.
func (s *sweep) carryOn() SweepInput {
	state, in := s.state(), s.in
	in.Carry = &SweepCarry{Marks: state.Marks, Running: state.Running, Ends: state.Ends, Paused: s.paused, Executions: s.executions, Started: s.began,
		Best: s.best, Pace: s.pace}
	return in
}

// show puts the sweep's state into the web UI.
func (s *sweep) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, sweepDetails(s.state()))
}
