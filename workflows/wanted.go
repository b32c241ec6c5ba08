package workflows

import (
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// A stage is wanted by the runs that need its artifact: by the run that it is a
// child of, and by others that found it running and said so. It tells those how it
// has ended; and it stops before its end only when nobody wants it any more. All of
// this is signals: nobody holds a worker's slot to wait.
const (
	signalWant  = "want"  // to a stage: the sender, a wanter, wants it; to a run: it wants to hear of its end
	signalLeave = "leave" // to a stage: the sender wants it no longer
	signalEnded = "ended" // to a run, or a sweep: a stageEnd
)

// wanter is a run that wants a stage.
type wanter struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

// stageEnd tells a run of a stage that it wants, and a sweep of a run.
type stageEnd struct {
	Fingerprint string       `json:"fingerprint"` // of a run: its workflow ID
	Result      *StageResult `json:"result,omitempty"`
	Failure     string       `json:"failure,omitempty"` // of which the stage has failed
	Cancelled   bool         `json:"cancelled,omitempty"`
	// Score is what a run's headline system has come to.
	Score *CellScore `json:"score,omitempty"`
	// Left answers signalLeave: the stage goes on for others.
	Left bool `json:"left,omitempty"`
}

// wanted is a stage's knowledge of who wants it.
type wanted struct {
	fingerprint string
	wants       []string // run IDs; "" is whoever started a stage that no run did
	owed        []wanter // to be told of the end
	stop        func()
	// Both are received from by the stage's one coroutine: what comes while it ends is
	// still in them then.
	want, leave workflow.ReceiveChannel
}

// listen hears of those who want the stage. The context that it returns is
// cancelled when nobody does.
func listen(ctx workflow.Context, in StageInput) (workflow.Context, *wanted) {
	working, stop := workflow.WithCancel(ctx)
	w := &wanted{fingerprint: in.Stage.Fingerprint, wants: []string{""}, stop: stop,
		want: workflow.GetSignalChannel(ctx, signalWant), leave: workflow.GetSignalChannel(ctx, signalLeave)}
	if parent := workflow.GetInfo(ctx).ParentWorkflowExecution; parent != nil {
		w.wants[0] = parent.RunID
	}
	return working, w
}

// until waits for the computing to end, and hears meanwhile.
func (w *wanted) until(ctx workflow.Context, computed workflow.Future) {
	// Also while a cancelled stage saves its checkpoint.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	heard := workflow.NewSelector(ctx)
	heard.AddFuture(computed, func(workflow.Future) {})
	heard.AddReceive(w.want, func(c workflow.ReceiveChannel, _ bool) {
		var who wanter
		c.Receive(ctx, &who)
		w.add(who)
	})
	heard.AddReceive(w.leave, func(c workflow.ReceiveChannel, _ bool) {
		var who wanter
		c.Receive(ctx, &who)
		w.remove(ctx, who)
	})
	for !computed.IsReady() {
		heard.Select(ctx)
	}
}

func (w *wanted) add(who wanter) {
	if slices.Contains(w.wants, who.RunID) {
		return
	}
	w.wants = append(w.wants, who.RunID)
	w.owe(who)
}

func (w *wanted) owe(who wanter) {
	if !slices.Contains(w.owed, who) {
		w.owed = append(w.owed, who)
	}
}

// remove lets a run go: at once where others want the stage, and else with its end.
func (w *wanted) remove(ctx workflow.Context, who wanter) {
	w.wants = slices.DeleteFunc(w.wants, func(run string) bool { return run == who.RunID })
	if len(w.wants) == 0 {
		w.owe(who)
		w.stop()
		return
	}
	w.owed = slices.DeleteFunc(w.owed, func(other wanter) bool { return other == who })
	_ = tell(ctx, who, stageEnd{Fingerprint: w.fingerprint, Left: true}).Get(ctx, nil) // who is gone needs no answer
}

// ended tells everybody how the stage has ended.
func (w *wanted) ended(ctx workflow.Context, result StageResult, err error) {
	end := endOf(w.fingerprint, err)
	if err == nil {
		end.Result = &result
	}
	tellAll(ctx, w.owed, end, w.want, w.leave)
}

// endOf says how a stage, or a run, has ended.
func endOf(what string, err error) stageEnd {
	switch {
	case temporal.IsCanceledError(err):
		return stageEnd{Fingerprint: what, Cancelled: true}
	case err != nil:
		return stageEnd{Fingerprint: what, Failure: rootMessage(err)}
	}
	return stageEnd{Fingerprint: what}
}

// tellAll tells an end to those who are owed it, and to those who ask by signals
// until everybody is told.
func tellAll(ctx workflow.Context, owed []wanter, end stageEnd, asked ...workflow.ReceiveChannel) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	for told := 0; ; {
		for _, channel := range asked {
			for who := (wanter{}); channel.ReceiveAsync(&who); {
				if !slices.Contains(owed, who) {
					owed = append(owed, who)
				}
			}
		}
		if told == len(owed) {
			return
		}
		var heard []workflow.Future
		for ; told < len(owed); told++ {
			heard = append(heard, tell(ctx, owed[told], end))
		}
		for _, one := range heard {
			_ = one.Get(ctx, nil) // who is gone needs no answer
		}
	}
}

func tell(ctx workflow.Context, who wanter, end stageEnd) workflow.Future {
	return workflow.SignalExternalWorkflow(ctx, who.WorkflowID, who.RunID, signalEnded, end)
}
