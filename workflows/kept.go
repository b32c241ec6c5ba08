package workflows

import (
	"encoding/json"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// KeptRun is what a run, or a sweep, leaves of itself in the store, from its
// beginning on: Temporal forgets what has ended, after its retention.
type KeptRun struct {
	Version int       `json:"version"`
	Type    string    `json:"type"`   // RunName, SweepName
	ID      string    `json:"id"`     // workflow ID
	RunID   string    `json:"run_id"` // of the execution
	Status  string    `json:"status"` // as StatusWord has it
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Failure string    `json:"failure,omitempty"` // of which it has failed
	// Input is what it was started with: a RunInput, a SweepInput.
	Input json.RawMessage `json:"input"`
	// Result is how it stood at its end: a RunState, a SweepResult.
	Result json.RawMessage `json:"result,omitempty"`
}

// KeptVersion is the version of KeptRun's format.
const KeptVersion = 1

// Origin says who has started a run, or a sweep, and how.
type Origin struct {
	User    string `json:"user,omitempty"`
	Host    string `json:"host,omitempty"`
	Command string `json:"command,omitempty"` // as it was typed; of a night: its schedule
	Build   string `json:"build,omitempty"`   // of the program
}

// By names who it was; "" where that is not known.
func (o Origin) By() string {
	if o.User == "" || o.Host == "" {
		return o.User + o.Host
	}
	return o.User + "@" + o.Host
}

// Memo is what Temporal shows of it beside a workflow.
func (o Origin) Memo() map[string]any {
	if o == (Origin{}) {
		return nil
	}
	return map[string]any{"origin": o}
}

// statusWords are the words for how a run, or a sweep, stands.
var statusWords = map[enums.WorkflowExecutionStatus]string{
	enums.WORKFLOW_EXECUTION_STATUS_RUNNING:          "running",
	enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:        "done",
	enums.WORKFLOW_EXECUTION_STATUS_FAILED:           "failed",
	enums.WORKFLOW_EXECUTION_STATUS_CANCELED:         "cancelled",
	enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:       "terminated",
	enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:        "timed out",
	enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW: "continued",
	enums.WORKFLOW_EXECUTION_STATUS_PAUSED:           "paused",
}

// StatusWord is the word for how a run, or a sweep, stands.
func StatusWord(s enums.WorkflowExecutionStatus) string {
	if word := statusWords[s]; word != "" {
		return word
	}
	return s.String()
}

// StatusOf is the status that a word stands for.
func StatusOf(word string) enums.WorkflowExecutionStatus {
	//workflowcheck:ignore
	for s, w := range statusWords {
		if w == word {
			return s
		}
	}
	return enums.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED
}

// keeper keeps a workflow's record in the store; nil: the workflow is of a build
// that kept none.
type keeper struct{ kept KeptRun }

// newKeeper begins the record of a workflow of a type that was started with in.
func newKeeper(ctx workflow.Context, name string, started time.Time, in any) *keeper {
	if workflow.GetVersion(ctx, "kept", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	raw, err := json.Marshal(in)
	if err != nil { // it came as JSON
		workflow.GetLogger(ctx).Error("no record of this workflow will be kept", "error", err)
		return nil
	}
	e := workflow.GetInfo(ctx).WorkflowExecution
	return &keeper{KeptRun{Version: KeptVersion, Type: name, ID: e.ID, RunID: e.RunID, Started: started, Input: raw}}
}

// Limits of keeping a record. What it is kept of takes no harm where the store is
// away for longer.
const (
	keepBegun = 30 * time.Second
	keepEnded = 10 * time.Minute
)

// begun keeps that the workflow runs.
func (k *keeper) begun(ctx workflow.Context) {
	if k == nil {
		return
	}
	k.kept.Status = StatusWord(enums.WORKFLOW_EXECUTION_STATUS_RUNNING)
	k.keep(ctx, keepBegun)
}

// ended keeps how the workflow has ended, and how it stood then.
func (k *keeper) ended(ctx workflow.Context, state any, err error) {
	if k == nil {
		return
	}
	raw, failure := json.Marshal(state)
	if failure != nil { // a number that JSON does not have
		workflow.GetLogger(ctx).Error("the record is kept without how the workflow stood", "error", failure)
		raw = nil
	}
	status := enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
	switch {
	case temporal.IsCanceledError(err):
		status = enums.WORKFLOW_EXECUTION_STATUS_CANCELED
	case err != nil:
		status, k.kept.Failure = enums.WORKFLOW_EXECUTION_STATUS_FAILED, rootMessage(err)
	}
	k.kept.Status, k.kept.Ended, k.kept.Result = StatusWord(status), workflow.Now(ctx), raw
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	k.keep(ctx, keepEnded)
}

// keep writes the record by a local activity, whose input enters no history.
func (k *keeper) keep(ctx workflow.Context, limit time.Duration) {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: limit,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: retryPause},
	})
	if err := workflow.ExecuteLocalActivity(ctx, nameOf(Activities.KeepRun), k.kept).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the record of this workflow is not kept", "error", err)
	}
}
