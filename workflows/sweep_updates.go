package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"
)

// handlers answers queries and takes commands. What a validator refuses never
// enters the history.
func (s *sweep) handlers(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (SweepState, error) { return s.state(), nil }); err != nil {
		return err
	}
	for _, u := range []struct {
		name             string
		handle, validate any
	}{
		{UpdatePause, s.pause, s.checkPause},
		{UpdateResume, s.resume, s.checkResume},
		{UpdateParallel, s.setParallel, s.checkParallel},
		{UpdateCancelCell, s.cancelOne, s.checkCancelOne},
		{UpdateRetryFailed, s.retryFailed, s.checkRetryFailed},
		{UpdateAddCells, s.addCells, s.checkAddCells},
	} {
		if err := workflow.SetUpdateHandlerWithOptions(ctx, u.name, u.handle, workflow.UpdateHandlerOptions{Validator: u.validate}); err != nil {
			return err
		}
	}
	return nil
}

// checkPause refuses to pause what is paused.
func (s *sweep) checkPause(in PauseInput) error {
	if s.paused && !(in.Now && len(s.running) > 0) {
		return fmt.Errorf("sweep %s is paused already", s.in.Name)
	}
	return nil
}

func (s *sweep) pause(ctx workflow.Context, in PauseInput) (SweepState, error) {
	s.setPaused(true)
	if in.Now {
		s.cancelCells(ctx, CellEnd{Mark: CellWaiting})
	}
	return s.answer(ctx), nil
}

func (s *sweep) setPaused(paused bool) {
	if s.paused != paused {
		s.paused = paused
		s.changes++
	}
}

// checkResume refuses to resume what is not paused.
func (s *sweep) checkResume() error {
	if !s.paused {
		return fmt.Errorf("sweep %s is not paused", s.in.Name)
	}
	return nil
}

func (s *sweep) resume(ctx workflow.Context) (SweepState, error) {
	s.setPaused(false)
	return s.answer(ctx), nil
}

// checkParallel refuses a number of cells that no sweep runs at a time.
func (s *sweep) checkParallel(n int) error {
	if n < 1 || n > 1000 {
		return fmt.Errorf("%d cells at the same time: it lies between 1 and 1000; esclab sweep pause starts none", n)
	}
	return nil
}

func (s *sweep) setParallel(ctx workflow.Context, n int) (SweepState, error) {
	if n != s.in.Parallel {
		s.in.Parallel = n
		s.changes++
	}
	return s.answer(ctx), nil
}

// checkCancelOne refuses to cancel a cell that is not there or has ended.
func (s *sweep) checkCancelOne(in CancelCellInput) error {
	if in.Cell < 0 || in.Cell >= len(s.marks) {
		return fmt.Errorf("sweep %s has no cell %s", s.in.Name, in.Name)
	}
	switch mark := CellMark(s.marks[in.Cell]); mark {
	case CellRunning, CellWaiting, CellUnknown:
		return nil
	default:
		return fmt.Errorf("cell %s is %s", in.Name, mark)
	}
}

func (s *sweep) cancelOne(ctx workflow.Context, in CancelCellInput) (SweepState, error) {
	end := CellEnd{Cell: in.Cell, Name: in.Name, Mark: CellCancelled, Reason: "it was cancelled"}
	if s.is(in.Cell, CellRunning) {
		s.cancelCell(ctx, in.Cell, end)
	} else {
		s.endCell(ctx, end)
	}
	return s.answer(ctx), nil
}

// checkRetryFailed refuses where no cell can be tried again.
func (s *sweep) checkRetryFailed() error {
	for cell := range s.marks {
		if s.retryable(cell) {
			return nil
		}
	}
	return fmt.Errorf("no cell of sweep %s has failed or was cancelled", s.in.Name)
}

func (s *sweep) retryFailed(ctx workflow.Context) (SweepState, error) {
	for cell := range s.marks {
		if s.retryable(cell) {
			delete(s.ends, cell)
			s.mark(cell, CellWaiting)
			s.next = min(s.next, cell)
		}
	}
	return s.answer(ctx), nil
}

// checkAddCells refuses the plan of another sweep, and one with no more cells.
func (s *sweep) checkAddCells(plan PlanRef) error {
	switch {
	case plan.Sweep != s.in.Plan.Sweep:
		return fmt.Errorf("the plan is of sweep %s", plan.Sweep)
	case plan.Cells <= s.in.Plan.Cells:
		return fmt.Errorf("sweep %s has all these cells already", s.in.Name)
	}
	return nil
}

func (s *sweep) addCells(ctx workflow.Context, plan PlanRef) (SweepState, error) {
	s.in.Plan = plan
	s.grow()
	s.next = 0
	return s.answer(ctx), nil
}

// retryable says whether a cell may be tried again: one that failed or was
// cancelled, not one that was given up as hopeless.
func (s *sweep) retryable(cell int) bool {
	return s.is(cell, CellFailed) || s.is(cell, CellCancelled)
}

// answer shows what a command has changed and returns it.
func (s *sweep) answer(ctx workflow.Context) SweepState {
	s.show(ctx)
	return s.state()
}
