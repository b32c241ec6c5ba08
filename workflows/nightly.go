package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/internal/inert"
)

// NightlyName is the name under which Nightly is registered.
const NightlyName = "Nightly"

// NightlyWorkflowID is the workflow ID of a schedule's nights, to which the
// schedule adds the time of each.
func NightlyWorkflowID(schedule string) string { return "nightly/" + schedule }

// NightInput is what a schedule starts each night with.
type NightInput struct {
	Schedule   string          `json:"schedule"`
	Experiment NightExperiment `json:"experiment"`
	// Fresh says what is measured anew although it is in the store: all, none,
	// or kinds of stages.
	Fresh   string       `json:"fresh"`
	Compare NightCompare `json:"compare"`
	Notify  NightNotify  `json:"notify"`

	Queues           Queues `json:"queues"`
	HeartbeatSeconds int    `json:"heartbeat_seconds"`
	// Attributes names the search attributes that the namespace has, as Facts
	// does.
	Attributes []string `json:"attributes,omitempty"`

	// Timing is what the schedule was declared with, for whoever reconciles it.
	Timing NightTiming `json:"timing"`
}

// NightExperiment says what to run: a preset, as the program that plans the
// night has it, or an experiment in the store.
type NightExperiment struct {
	Name   string   `json:"name"`
	Preset string   `json:"preset,omitempty"`
	Set    []string `json:"set,omitempty"` // overrides of the preset
	// File is the file's name in the schedule's part of the store, SHA256 its
	// content's digest.
	File   string `json:"file,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// NightCompare says how a night is compared with those before it.
type NightCompare struct {
	Window    int     `json:"window"`     // nights before it that count
	MinNights int     `json:"min_nights"` // that the comparison of speed needs
	Noise     float64 `json:"noise"`      // scaled median absolute deviations
	Slack     float64 `json:"slack"`      // share of the usual time
}

// NightNotify says who is told; empty is nobody.
type NightNotify struct {
	Webhook string `json:"webhook,omitempty"` // POST, JSON
	File    string `json:"file,omitempty"`    // on the worker's disk
}

// NightTiming is when a schedule starts nights.
type NightTiming struct {
	Cron           string        `json:"cron"`
	Overlap        string        `json:"overlap"`
	CatchupWindow  time.Duration `json:"catchup_window"`
	PauseOnFailure bool          `json:"pause_on_failure"`
	// Declared tells that temporal.yaml has the schedule.
	Declared bool `json:"declared"`
}

// Night is what the activities of a night are told about it.
type Night struct {
	NightInput
	Workflow string    `json:"workflow"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

// Name names the night among those of its schedule, in the order of time.
func (n Night) Name() string { return n.Started.UTC().Format("20060102T150405Z") }

// NightPlan is a planned night.
type NightPlan struct {
	Run   RunInput `json:"run"`
	RunID string   `json:"run_id"` // workflow ID of the run
	// Revision is the build that planned, and Newest what the worker's command
	// for the newest revision said; see nightly.Record.
	Revision string `json:"revision"`
	Newest   string `json:"newest,omitempty"`
	Setup    string `json:"setup"`
	// Host, Cores and Load are the machine of that build and what else it had to do;
	// see nightly.Machine.
	Host  string   `json:"host,omitempty"`
	Cores int      `json:"cores,omitempty"`
	Load  *float64 `json:"load,omitempty"`
}

// RecordInput is what a night's record is made of.
type RecordInput struct {
	Night  Night     `json:"night"`
	Plan   NightPlan `json:"plan"` // without the run's stages
	Result RunResult `json:"result"`
	Report string    `json:"report,omitempty"` // fingerprint of the report stage
	Error  string    `json:"error,omitempty"`
}

// NightResult is a night's verdict.
type NightResult struct {
	Verdict string `json:"verdict"`
	// Effects says in a line how the decoupled system stands to the vanilla one.
	Effects  string `json:"effects,omitempty"`
	Headline string `json:"headline"`
	Night    string `json:"night"`
	Run      string `json:"run,omitempty"`
	// Record and Report are the verdict's JSON and Markdown in the store.
	Record StoredFile `json:"record"`
	Report StoredFile `json:"report"`
	// Notified says who was told, or why nobody could be.
	Notified string `json:"notified,omitempty"`
}

// StoredFile names a file in the store.
type StoredFile struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Nightly runs a schedule's experiment once: planned by the worker as it is
// tonight, run, compared with the nights before, and told to whoever wants to
// know. A regression is a verdict, not a failure; the workflow fails where the
// run does.
func Nightly(ctx workflow.Context, in NightInput) (NightResult, error) {
	night := Night{NightInput: in, Workflow: workflow.GetInfo(ctx).WorkflowExecution.ID, Started: workflow.Now(ctx)}
	show(ctx, fmt.Sprintf("**%s**, night %s: planning", in.Schedule, night.Name()))

	record := RecordInput{Night: night}
	failure := nightRun(ctx, night, &record)
	if ctx.Err() != nil {
		return NightResult{}, ctx.Err() // called off: no verdict
	}
	if failure != nil {
		record.Error = rootMessage(failure)
	}
	record.Night.Finished = workflow.Now(ctx)
	record.Plan.Run.Stages = nil // the record needs their results alone

	var result NightResult
	err := workflow.ExecuteActivity(nightOptions(ctx, in, "compare with the nights before", 0), nameOf(Activities.RecordNight), record).Get(ctx, &result)
	if err != nil {
		return NightResult{}, errors.Join(failure, err)
	}
	facts := Facts{Attributes: in.Attributes}
	if updates := facts.Usable(AttrVerdict.ValueSet(result.Verdict), AttrRevision.ValueSet(keyword(record.Plan.Revision))); len(updates) > 0 {
		if err := workflow.UpsertTypedSearchAttributes(ctx, updates...); err != nil {
			return NightResult{}, err
		}
	}
	if in.Notify != (NightNotify{}) {
		// That nobody could be told takes nothing from the night.
		notify := NotifyInput{Night: record.Night, Result: result}
		err := workflow.ExecuteActivity(nightOptions(ctx, in, "tell "+in.Notify.who(), notifyAttempts), nameOf(Activities.NotifyNight), notify).Get(ctx, &result.Notified)
		if err != nil {
			result.Notified = "nobody could be told: " + rootMessage(err)
		}
	}
	show(ctx, nightDetails(in, result))
	if failure != nil {
		return result, failure
	}
	return result, nil
}

// nightRun plans the night and has it run; it fills in what the record needs.
func nightRun(ctx workflow.Context, night Night, record *RecordInput) error {
	in := night.NightInput
	err := workflow.ExecuteActivity(nightOptions(ctx, in, "plan", 0), nameOf(Activities.PlanNight), night).Get(ctx, &record.Plan)
	if err != nil {
		return err
	}
	plan := record.Plan
	record.Report = plan.Run.Stages[len(plan.Run.Stages)-1].Fingerprint
	show(ctx, fmt.Sprintf("**%s**, night %s: %s runs on revision %s", inert.Page(in.Schedule), inert.Page(night.Name()), link(plan.RunID, plan.RunID, ""), inert.PageCode(plan.Revision)))
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            plan.RunID,
		TaskQueue:             in.Queues.Control,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         fmt.Sprintf("%s, night %s", inert.Page(in.Schedule), inert.Page(night.Name())),
		StaticDetails:         plan.Run.Details(),
		TypedSearchAttributes: plan.Run.SearchAttributes(),
		Memo:                  plan.Run.Origin.Memo(),
	})
	return workflow.ExecuteChildWorkflow(child, RunName, plan.Run).Get(ctx, &record.Result)
}

// NotifyInput is what is told.
type NotifyInput struct {
	Night  Night       `json:"night"`
	Result NightResult `json:"result"`
}

func (n NightNotify) who() string {
	switch {
	case n.Webhook != "" && n.File != "":
		return "the webhook and write the file"
	case n.Webhook != "":
		return "the webhook"
	}
	return "the file"
}

// notifyAttempts is how often a webhook is called until it counts as gone: for
// about half an hour.
const notifyAttempts = 12

// nightOptions are those of a night's own short activities.
func nightOptions(ctx workflow.Context, in NightInput, summary string, attempts int32) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           in.Queues.Control,
		StartToCloseTimeout: lookupLimit,
		HeartbeatTimeout:    time.Duration(in.HeartbeatSeconds) * time.Second,
		Summary:             summary,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 5 * time.Minute,
			MaximumAttempts: attempts, NonRetryableErrorTypes: NonRetryable(),
		},
	})
}

// show puts Markdown into the web UI.
func show(ctx workflow.Context, markdown string) { workflow.SetCurrentDetails(ctx, markdown+"\n") }

func nightDetails(in NightInput, r NightResult) string {
	run, effects := "", ""
	if r.Run != "" {
		run = link(r.Run, r.Run, "")
	}
	if r.Effects != "" {
		effects = inert.PageCode(r.Effects) + "\n\n"
	}
	details := fmt.Sprintf("**%s**, night %s: **%s**\n\n%s%s\n\n| what | value |\n|:--|:--|\n| run | %s |\n| report | %s |\n| record | %s |\n",
		inert.Page(in.Schedule), inert.Page(r.Night), inert.Page(r.Verdict), effects, inert.PageCode(r.Headline), run, inert.PageCode(r.Report.Key), inert.PageCode(r.Record.Key))
	if r.Notified != "" {
		details += fmt.Sprintf("| told | %s |\n", inert.PageCode(r.Notified))
	}
	return details
}
