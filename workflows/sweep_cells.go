package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/internal/inert"
)

// startCell plans a cell, starts its run and waits for its end.
func (s *sweep) startCell(ctx workflow.Context, cell int) {
	// A cancelled sweep cancels its cells by name, whoever started them.
	detached, _ := workflow.NewDisconnectedContext(ctx)
	var plan CellPlan
	in := CellInput{Plan: s.in.Plan, Cell: cell, Queues: s.in.Queues, HeartbeatSeconds: s.in.HeartbeatSeconds, Facts: s.in.Facts, Origin: s.in.Origin}
	err := workflow.ExecuteActivity(s.options(detached, fmt.Sprintf("plan cell %d", cell), planLimit), nameOf(SweepActivities.PlanCell), in).Get(detached, &plan)
	if err != nil {
		s.started()
		s.endCell(ctx, CellEnd{Cell: cell, Name: fmt.Sprintf("cell %d", cell), Mark: CellFailed, Reason: rootMessage(err)})
		return
	}
	child, running, err := s.startRun(detached, plan)
	s.started()
	if err != nil {
		s.endCell(ctx, CellEnd{Cell: cell, Name: plan.Name, Mark: CellFailed, Reason: rootMessage(err)})
		return
	}
	running.Cell, running.Name = cell, plan.Name
	s.running[cell] = running
	s.show(ctx)
	if end, asked := s.cancelling[cell]; asked { // cancelled while it was started
		s.cancelCell(ctx, cell, end)
	}
	var result RunResult
	err = child.Get(detached, &result)
	s.endRun(ctx, running, plan.Run.score(result), err)
}

// started notes that a cell starts no longer: it has a run, or none begins.
func (s *sweep) started() {
	s.starting--
	s.changes++
}

// startRun starts a cell's run. Where a run of that name is under way, for another
// sweep or by esclab run, the cell has one of its own beside it, and their
// stages meet.
func (s *sweep) startRun(ctx workflow.Context, plan CellPlan) (workflow.ChildWorkflowFuture, RunningCell, error) {
	info := workflow.GetInfo(ctx)
	options := workflow.ChildWorkflowOptions{
		WorkflowID:            plan.WorkflowID,
		TaskQueue:             s.in.Queues.Control,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON, // continuing as new closes the parent
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WaitForCancellation:   true,
		StaticSummary:         fmt.Sprintf("%s, cell %s", inert.Page(s.in.Name), inert.Page(plan.Name)),
		Priority:              temporal.Priority{PriorityKey: s.in.Priority, FairnessKey: fairnessKey(s.in.Name)},
		StaticDetails:         plan.Run.Details(),
		TypedSearchAttributes: plan.Run.SearchAttributes(),
		Memo:                  plan.Run.Origin.Memo(),
	}
	for try := 1; ; try++ {
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), RunName, plan.Run)
		var execution workflow.Execution
		err := child.GetChildWorkflowExecution().Get(ctx, &execution)
		var taken *temporal.ChildWorkflowExecutionAlreadyStartedError
		if errors.As(err, &taken) && try < 10 {
			options.WorkflowID = fmt.Sprintf("%s-%.6s-%d", plan.WorkflowID, info.FirstRunID, try)
			continue
		}
		return child, RunningCell{WorkflowID: execution.ID, RunID: execution.RunID}, err
	}
}

// fairnessKey is what the cells of a sweep have in common where a service shares its
// workers out among sweeps of the same priority; it holds 64 bytes.
func fairnessKey(sweep string) string {
	return strings.ToValidUTF8(sweep[:min(len(sweep), 64)], "")
}

// followCell waits for a cell that an earlier execution has started: its run tells
// of its end, and one that has ended already is looked up.
func (s *sweep) followCell(ctx workflow.Context, r RunningCell) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	if !s.await {
		told := func() bool { return len(s.told[r.WorkflowID]) > 0 }
		for pause := lookAgain; !told(); pause = min(2*pause, lookAgainMost) {
			if workflow.SignalExternalWorkflow(detached, r.WorkflowID, r.RunID, signalWant, self(ctx)).Get(detached, nil) != nil {
				break
			}
			_, _ = workflow.AwaitWithTimeout(detached, pause, told) // a detached context is never cancelled
		}
		if told() {
			var err error
			switch end := s.told[r.WorkflowID][0]; {
			case end.Cancelled:
				err = temporal.NewNonRetryableApplicationError("its run was cancelled", ErrTypeCancelled, nil)
			case end.Failure != "":
				err = temporal.NewNonRetryableApplicationError(end.Failure, ErrTypeStageFailed, nil)
			}
			s.endRun(ctx, r, s.told[r.WorkflowID][0].Score, err)
			return
		}
	}
	options := s.options(detached, r.Name, stageTotal)
	s.endRun(ctx, r, nil, workflow.ExecuteActivity(options, nameOf(SweepActivities.AwaitCell), r).Get(detached, nil))
}

// endRun marks a cell by how its run has ended, and notes its score where it has one.
func (s *sweep) endRun(ctx workflow.Context, r RunningCell, score *CellScore, err error) {
	end := CellEnd{Cell: r.Cell, Name: r.Name, Mark: CellDone}
	wanted, asked := s.cancelling[r.Cell]
	switch {
	case err == nil:
		s.pace.Cells++
		s.pace.Seconds = workflow.Now(ctx).Sub(s.began).Seconds()
		if score != nil {
			score.Cell, score.Name, score.WorkflowID = r.Cell, r.Name, r.WorkflowID
			s.best = better(s.best, *score)
		}
	case asked:
		end.Mark, end.Reason = wanted.Mark, wanted.Reason
	case temporal.IsCanceledError(err) || hasType(err, ErrTypeCancelled):
		end.Mark, end.Reason = CellCancelled, "its run was cancelled"
	default:
		end.Mark, end.Reason = CellFailed, rootMessage(err)
	}
	delete(s.running, r.Cell)
	delete(s.cancelling, r.Cell)
	s.endCell(ctx, end)
}

// endCell marks a cell that runs no longer.
func (s *sweep) endCell(ctx workflow.Context, e CellEnd) {
	s.mark(e.Cell, e.Mark)
	switch e.Mark {
	case CellWaiting:
		s.next = min(s.next, e.Cell)
	case CellFailed, CellCancelled, CellStopped:
		s.ends[e.Cell] = s.shortened(e)
	}
	s.show(ctx)
}

// shortened keeps what is carried over within a payload, whatever fails.
func (s *sweep) shortened(e CellEnd) CellEnd {
	total := 0
	//workflowcheck:ignore
	for _, other := range s.ends {
		total += len(other.Reason) // a sum: its order does not matter
	}
	limit := reasonLimit
	if total > endsLimit {
		limit = 40
	}
	if runes := []rune(e.Reason); len(runes) > limit {
		e.Reason = string(runes[:limit]) + "…"
	}
	return e
}

// cancelCell asks a cell's run to stop; how the cell is marked then is in end.
func (s *sweep) cancelCell(ctx workflow.Context, cell int, end CellEnd) {
	if _, asked := s.cancelling[cell]; !asked {
		s.changes++
	}
	s.cancelling[cell] = end
	r, running := s.running[cell]
	if !running {
		return // startCell looks at cancelling once there is a run
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	err := workflow.RequestCancelExternalWorkflow(detached, r.WorkflowID, r.RunID).Get(detached, nil)
	if err != nil { // it has just ended by itself
		workflow.GetLogger(ctx).Info("a cell could not be cancelled", "cell", r.Name, "error", err)
	}
}

// cancelCells cancels every cell that runs or is about to.
func (s *sweep) cancelCells(ctx workflow.Context, end CellEnd) {
	for cell := range s.marks {
		if s.is(cell, CellRunning) {
			s.cancelCell(ctx, cell, end)
		}
	}
}

// cancelSweep cancels the running cells with their sweep.
func (s *sweep) cancelSweep(ctx workflow.Context) (SweepResult, error) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	s.cancelCells(detached, CellEnd{Mark: CellCancelled, Reason: "the sweep was cancelled"})
	_ = workflow.Await(detached, func() bool { return s.active() == 0 }) // a detached context is never cancelled
	s.show(detached)
	state := s.state()
	s.kept.ended(detached, SweepResult{Plan: state.Plan, Marks: state.Marks, Ends: state.Ends}, ctx.Err())
	return SweepResult{}, ctx.Err()
}

// runningCells lists the running cells in their order.
func (s *sweep) runningCells() []int {
	cells := make([]int, 0, len(s.running))
	//workflowcheck:ignore
	for cell := range s.running {
		cells = append(cells, cell)
	}
	slices.Sort(cells)
	return cells
}
