package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
)

// Error types of activities that no retry can mend.
const (
	ErrTypeBadInput   = "BadInput"   // the data or the parameters are wrong
	ErrTypeNonFinite  = "NonFinite"  // NaN or Inf in a loss
	ErrTypeExploded   = "Exploded"   // gradients whose norm no training recovers from
	ErrTypeNoPairs    = "NoPairs"    // mining found nothing to train on
	ErrTypeNeverStops = "NeverStops" // no sample ended before the limit of new tokens
	ErrTypeNotPresent = "NotPresent" // an input's artifact is gone or damaged
	ErrTypeBudget     = "Budget"     // the judge's budget is spent
	ErrTypeCrashes    = "Crashes"    // attempts have crashed their worker
	ErrTypeJudge      = "Judge"      // the judge's endpoint refuses, or its model gives too few usable answers
)

// NonRetryable lists the error types after which a stage is not tried again.
func NonRetryable() []string {
	return []string{ErrTypeBadInput, ErrTypeNonFinite, ErrTypeExploded, ErrTypeNoPairs, ErrTypeNeverStops, ErrTypeNotPresent, ErrTypeBudget, ErrTypeJudge, ErrTypeCrashes}
}

// Error types of workflows.
const (
	ErrTypeStageFailed = "StageFailed" // of a run: stages have failed
	ErrTypeHeld        = "Held"        // of an attempt: another Temporal's holds the stage; it is tried again
	ErrTypeCells       = "CellsFailed" // of a sweep: cells have failed; its details are the SweepResult
	ErrTypeCancelled   = "Cancelled"   // of AwaitCell: the run was cancelled
)

// hasType says whether an error of a workflow or an activity has the type.
func hasType(err error, kind string) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == kind
}

// rootMessage is what a stage failed of, without the layers of activity and
// workflow around it.
func rootMessage(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}
