package workflows

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/internal/inert"
)

// start plans a cell, starts its run and follows it to its end.
func (s *sweep) start(ctx workflow.Context, cell int) {
	// A cancelled sweep cancels its cells by name, whoever started them.
	detached, _ := workflow.NewDisconnectedContext(ctx)
	var plan CellPlan
	in := CellInput{Plan: s.in.Plan, Cell: cell, Queues: s.in.Queues, HeartbeatSeconds: s.in.HeartbeatSeconds, Facts: s.in.Facts}
	err := workflow.ExecuteActivity(s.options(detached, fmt.Sprintf("plan cell %d", cell), planLimit), nameOf(SweepActivities.PlanCell), in).Get(detached, &plan)
	if err != nil {
		s.starting--
		s.end(ctx, CellEnd{Cell: cell, Name: fmt.Sprintf("cell %d", cell), Mark: CellFailed, Reason: rootMessage(err)})
		return
	}
	child, running, err := s.child(detached, plan)
	s.starting--
	if err != nil {
		s.end(ctx, CellEnd{Cell: cell, Name: plan.Name, Mark: CellFailed, Reason: rootMessage(err)})
		return
	}
	running.Cell, running.Name = cell, plan.Name
	s.running[cell] = running
	s.show(ctx)
	if end, leaving := s.leaving[cell]; leaving { // cancelled while it was started
		s.cancel(ctx, cell, end)
	}
	s.ended(ctx, running, child.Get(detached, nil))
}

// child starts a cell's run. Where a run of that name is under way, for another
// sweep or by esclab run, the cell has one of its own beside it, and their
// stages meet.
func (s *sweep) child(ctx workflow.Context, plan CellPlan) (workflow.ChildWorkflowFuture, RunningCell, error) {
	info := workflow.GetInfo(ctx)
	options := workflow.ChildWorkflowOptions{
		WorkflowID:            plan.WorkflowID,
		TaskQueue:             s.in.Queues.Control,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON, // continuing as new closes the parent
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WaitForCancellation:   true,
		StaticSummary:         fmt.Sprintf("%s, cell %s", inert.Page(s.in.Name), inert.Page(plan.Name)),
		Priority:              temporal.Priority{PriorityKey: s.in.Priority},
		TypedSearchAttributes: plan.Run.SearchAttributes(),
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

// follow waits for a cell that an earlier execution has started.
func (s *sweep) follow(ctx workflow.Context, r RunningCell) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	options := s.options(detached, r.Name, stageTotal)
	s.ended(ctx, r, workflow.ExecuteActivity(options, nameOf(SweepActivities.AwaitCell), r).Get(detached, nil))
}

// ended notes how a cell's run has ended.
func (s *sweep) ended(ctx workflow.Context, r RunningCell, err error) {
	end := CellEnd{Cell: r.Cell, Name: r.Name, Mark: CellDone}
	leaving, asked := s.leaving[r.Cell]
	switch {
	case err == nil:
	case asked:
		end.Mark, end.Reason = leaving.Mark, leaving.Reason
	case temporal.IsCanceledError(err) || hasType(err, ErrTypeCancelled):
		end.Mark, end.Reason = CellCancelled, "its run was cancelled"
	default:
		end.Mark, end.Reason = CellFailed, rootMessage(err)
	}
	delete(s.running, r.Cell)
	delete(s.leaving, r.Cell)
	s.end(ctx, end)
}

// end marks a cell.
func (s *sweep) end(ctx workflow.Context, e CellEnd) {
	s.marks[e.Cell] = byte(e.Mark)
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

// cancel asks a cell's run to stop; how the cell is marked then is in end.
func (s *sweep) cancel(ctx workflow.Context, cell int, end CellEnd) {
	s.leaving[cell] = end
	r, running := s.running[cell]
	if !running {
		return // start looks at leaving once there is a run
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	err := workflow.RequestCancelExternalWorkflow(detached, r.WorkflowID, r.RunID).Get(detached, nil)
	if err != nil { // it has just ended by itself
		workflow.GetLogger(ctx).Info("a cell could not be cancelled", "cell", r.Name, "error", err)
	}
}

// cancelAll cancels every cell that runs or is about to.
func (s *sweep) cancelAll(ctx workflow.Context, end CellEnd) {
	for cell := range s.marks {
		if CellMark(s.marks[cell]) == CellRunning {
			s.cancel(ctx, cell, end)
		}
	}
}

// cancelled takes the running cells along.
func (s *sweep) cancelled(ctx workflow.Context) (SweepResult, error) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	s.cancelAll(detached, CellEnd{Mark: CellCancelled, Reason: "the sweep was cancelled"})
	_ = workflow.Await(detached, func() bool { return s.active() == 0 }) // a detached context is never cancelled
	s.show(detached)
	return SweepResult{}, ctx.Err()
}

// cells lists the running cells in their order.
func (s *sweep) cells() []int {
	cells := make([]int, 0, len(s.running))
	//workflowcheck:ignore
	for cell := range s.running {
		cells = append(cells, cell)
	}
	slices.Sort(cells)
	return cells
}
