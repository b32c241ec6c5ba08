// Package workflows holds the DAG as durable code: a run (every stage of an
// experiment) and a stage (one pure function, executed at most once at a
// time). It is deterministic and small; what a stage does is an activity, and
// all that passes through Temporal are fingerprints, digests and numbers.
package workflows

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// The names under which the workflows are registered, and shown in the UI.
const (
	RunName   = "Run"
	StageName = "Stage"
)

// Registered gives every workflow by the name under which workers register it.
func Registered() map[string]any {
	return map[string]any{RunName: Run, StageName: Stage, NightlyName: Nightly, SweepName: Sweep, CompareName: Compare}
}

// Activities is what a worker must be able to do besides executing stages, for
// which there is a StageActivity of each kind. The workflows name the activities
// through this interface, so that a missing or renamed one is a compile error.
type Activities interface {
	// AwaitStage starts the stage's own workflow, or joins the one that is
	// running it for somebody else, and returns its result. Runs of older builds
	// name it.
	AwaitStage(ctx context.Context, in StageInput) (StageResult, error)
	// LookupPlan reads a run's plan from the store and looks its stages up.
	LookupPlan(ctx context.Context, in RunPlan) (PlannedStages, error)
	// Lookup returns the artifact of a finished stage. Found is false where
	// there is none or where its blobs are missing or damaged.
	Lookup(ctx context.Context, in StageInput) (LookupResult, error)
	// LookupAll looks up many stages at once.
	LookupAll(ctx context.Context, in []StageKey) (LookupAllResult, error)
	// KeepRun writes what a run, or a sweep, leaves of itself into the store.
	KeepRun(ctx context.Context, kept KeptRun) error
	SweepActivities

	// PlanNight plans a schedule's experiment as this worker has it tonight.
	PlanNight(ctx context.Context, in Night) (NightPlan, error)
	// RecordNight compares a night with those before it and stores the verdict.
	RecordNight(ctx context.Context, in RecordInput) (NightResult, error)
	// NotifyNight tells the verdict to the schedule's webhook and file, and
	// says whom it has told.
	NotifyNight(ctx context.Context, in NotifyInput) (string, error)
}

// StageActivity executes the stages of one kind: it loads the inputs'
// artifacts, computes, and commits the artifact. Workers register it under the
// name that the table of kinds gives it.
type StageActivity func(ctx context.Context, in StageInput) (StageResult, error)

// StageInput is everything an activity needs to run one stage: its
// parameters, and the fingerprints of its inputs, under which the store has
// their artifacts. It holds no content.
type StageInput struct {
	Stage experiments.Stage `json:"stage"`
	// Inputs maps an input's name to the fingerprint of the stage that made it.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Queues names the task queues of this run's workers.
	Queues Queues `json:"queues"`
	// Checkpoint says how often an unfinished stage saves its state.
	Checkpoint experiments.Checkpoint `json:"checkpoint"`
	// Memory says what a training may keep for its way back; empty: auto.
	Memory experiments.Memory `json:"memory,omitempty"`
	// Judge says how the judge's endpoint is asked; it names no secret.
	Judge experiments.JudgeAccess `json:"judge"`
	// HeartbeatSeconds is how long a silent worker counts as alive.
	HeartbeatSeconds int `json:"heartbeat_seconds"`
	// Facts describe the run that asked first, to those who look for it.
	Facts Facts `json:"facts"`
}

// StageWorkflowID is the identity of a stage's own workflow: two runs that need the
// same stage at the same time meet there. A seed is in the fingerprint, and in the name
// only where a run has several. Should two runs know a stage by different names, its
// lease in the store lets one of them compute it.
func StageWorkflowID(name, fingerprint string) string {
	return fmt.Sprintf("stage/%s/%.12s", experiments.WithoutSeed(name), fingerprint)
}

// UnnamedStageID is what StageWorkflowID was for the runs of older builds.
func UnnamedStageID(kind experiments.Kind, fingerprint string) string {
	return fmt.Sprintf("stage/%s/%s", kind, fingerprint)
}

// StageResult says what a stage made.
type StageResult struct {
	Stage       string `json:"stage"`
	Fingerprint string `json:"fingerprint"`
	// Digest is the SHA-256 of the artifact's manifest.
	Digest string `json:"digest"`
	// Reused is true where the artifact was there before.
	Reused bool `json:"reused"`
	// Reason says in a few words why the stage ran or was reused.
	Reason string `json:"reason,omitempty"`
	// Seconds is the wall time of the attempt that finished the stage.
	Seconds float64 `json:"seconds"`
	// StoreSeconds is the part of them that went to the store: the lease,
	// inputs, checkpoints, the artifact's files.
	StoreSeconds float64 `json:"store_seconds,omitempty"`
	// Resumed tells that this attempt went on from a checkpoint: Seconds is not
	// the time of all the work.
	Resumed bool `json:"resumed,omitempty"`
	// Engine is what the model ran on; empty where none did.
	Engine string `json:"engine,omitempty"`
	// Metrics are the few numbers that tell how it went.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Sparkline draws a training's loss from its first step to its last; empty
	// where there is none, or where the artifact was there before.
	Sparkline string `json:"sparkline,omitempty"`
}

// LookupResult is the store's answer about a stage.
type LookupResult struct {
	Found  bool        `json:"found"`
	Reason string      `json:"reason,omitempty"`
	Result StageResult `json:"result"`
}

// StageKey names a stage and what it makes.
type StageKey struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	// Content is the stage's, and Inputs maps its inputs' names to the stages that
	// make them, which are looked up with it: what its artifact is compared with.
	// Runs of earlier versions have neither.
	Content string            `json:"content,omitempty"`
	Inputs  map[string]string `json:"inputs,omitempty"`
}

// LookupAllResult has the results of the stages that are in the store.
type LookupAllResult struct {
	Found []StageResult `json:"found"`
}

// Progress is what a running stage's heartbeats carry.
type Progress struct {
	Stage string `json:"stage"`
	// Phase is what the stage is doing: load, compile, train, mine, save …
	Phase string `json:"phase"`
	Step  int    `json:"step"`
	Steps int    `json:"steps"`
	// Loss is the last step's loss, 0 where there is none.
	Loss float64 `json:"loss,omitempty"`
	// Sparkline draws the loss from the first step on; empty where there is none.
	Sparkline string `json:"sparkline,omitempty"`
	// TokensPerSecond is the rate over the last few steps.
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	// ETASeconds is the estimated time left.
	ETASeconds float64 `json:"eta_seconds,omitempty"`
	// Checkpoint is the step of the last committed checkpoint.
	Checkpoint int `json:"checkpoint,omitempty"`
	// Spent is what the judge's endpoint was paid in all attempts so far; nil
	// where none is asked.
	Spent *Spent `json:"spent,omitempty"`
	// Attempt counts the attempts of the stage from 1, Failure says what the
	// one before failed of, and Queued that no worker has taken it up. Whoever
	// reads the progress fills them in.
	Attempt int    `json:"attempt,omitempty"`
	Failure string `json:"failure,omitempty"`
	Queued  bool   `json:"queued,omitempty"`
}

// Spent counts what asking a language model to judge has cost.
type Spent struct {
	Calls  int     `json:"calls"`
	Tokens int     `json:"tokens"`
	Money  float64 `json:"money,omitempty"`
}

// Queues are the task queues by what their workers have.
type Queues struct {
	Control string `json:"control"`
	CPU     string `json:"cpu"`
	GPU     string `json:"gpu"`
}

// Queue gives the task queue of a stage's class.
func (q Queues) Queue(class experiments.Queue) string {
	switch class {
	case experiments.QueueGPU:
		return q.GPU
	case experiments.QueueCPU:
		return q.CPU
	default:
		return q.Control
	}
}

// activityFor names the activity that executes a kind of stage.
func activityFor(kind experiments.Kind) (string, error) {
	if name := kind.Activity(); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("no activity for stages of kind %q: the experiment was planned by a newer esclab: %w", kind, errors.ErrUnsupported)
}

// nameOf turns a method expression of Activities into the name under which
// the SDK registers the method of the implementing struct.
func nameOf(method any) string {
	full := runtime.FuncForPC(reflect.ValueOf(method).Pointer()).Name()
	return full[strings.LastIndexByte(full, '.')+1:]
}
