package activities

import (
	"context"
	"errors"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/workflows"
)

// Observer is told how stages go, for whoever watches the worker. It is safe
// for concurrent use and takes no time to speak of.
type Observer interface {
	// Begin says that an attempt at a stage has begun.
	Begin(stage, kind string)
	// Step says that a step is done: with so many tokens, so long after the one
	// before.
	Step(p workflows.Progress, tokens, seconds float64)
	// Checkpoint says that one of so many bytes was saved within so many seconds.
	Checkpoint(stage string, bytes int64, seconds float64)
	// End says how an attempt has ended: one of the outcomes.
	End(stage, kind, outcome string, seconds float64)
}

// Outcomes of an attempt.
const (
	outcomeDone    = "done"
	outcomeFailed  = "failed"
	outcomeStopped = "stopped" // cancelled, or the worker was
)

// observeEnd tells the observer of an attempt's end.
func (t *attempt) observeEnd(ctx context.Context, err error) {
	if t.a.Observer == nil {
		return
	}
	outcome := outcomeDone
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, errWorkerStopping), errors.Is(err, artifacts.ErrLeaseLost):
		outcome = outcomeStopped
	default:
		outcome = outcomeFailed
	}
	t.a.Observer.End(t.in.Stage.Name, string(t.in.Stage.Kind), outcome, time.Since(t.started).Seconds())
}
