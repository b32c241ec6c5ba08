package workflows

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// RunInput is one execution of an experiment.
type RunInput struct {
	Experiment string                 `json:"experiment"`
	Stages     []experiments.Stage    `json:"stages"` // in topological order; none where Plan is set
	Plan       *RunPlan               `json:"plan,omitempty"`
	Queues     Queues                 `json:"queues"`
	Checkpoint experiments.Checkpoint `json:"checkpoint"`
	Memory     experiments.Memory     `json:"memory,omitempty"`
	// Judge says how the judge's endpoint is asked.
	Judge            experiments.JudgeAccess `json:"judge"`
	HeartbeatSeconds int                     `json:"heartbeat_seconds"`
	// Facts describe the run to those who look for it.
	Facts Facts `json:"facts"`
	// Origin says who has started it; runs of earlier versions have none.
	Origin Origin `json:"origin,omitzero"`
}

// RunResult says what a run made: one result per stage, in the plan's order.
type RunResult struct {
	// Comparison is Table 3 of the run's systems, line by line, for people: the result
	// is the one place of a run's page that is written at its end. None where nothing
	// is evaluated, and in results of earlier builds.
	Comparison []string      `json:"comparison,omitempty"`
	Stages     []StageResult `json:"stages"`
}

// Result gives the result of a stage by name.
func (r RunResult) Result(stage string) (StageResult, bool) {
	for _, s := range r.Stages {
		if s.Stage == stage {
			return s, true
		}
	}
	return StageResult{}, false
}

// StageStatus is where a stage of a run stands.
type StageStatus string

// The states of a stage within a run.
const (
	StageWaiting StageStatus = "waiting"
	// StageRunning is a stage that was ordered. The run does not hear when a worker
	// takes it up: whoever asks Temporal shows it as queued until then.
	StageRunning StageStatus = "running"
	StageQueued  StageStatus = "queued"
	StageDone    StageStatus = "done"
	StageReused  StageStatus = "reused"
	StageFailed  StageStatus = "failed"
	StageSkipped StageStatus = "skipped" // an input failed
	// StageCancelled is what a cancelled run had not finished.
	StageCancelled StageStatus = "cancelled"
)

// StageState is one line of a run's state.
type StageState struct {
	Name        string           `json:"name"`
	Kind        experiments.Kind `json:"kind"`
	Fingerprint string           `json:"fingerprint"`
	// WorkflowID is the stage's own; empty in the answers of older builds.
	WorkflowID string      `json:"workflow_id,omitempty"`
	Status     StageStatus `json:"status"`
	Error      string      `json:"error,omitempty"`
	// Joined tells that the stage was running for another run already.
	Joined bool        `json:"joined,omitempty"`
	Result StageResult `json:"result"`
}

// RunState is the answer to the "state" query.
type RunState struct {
	Experiment string       `json:"experiment"`
	Stages     []StageState `json:"stages"`
}

// QueryState is the name of the query that returns a RunState.
const QueryState = "state"

// Run executes an experiment: every stage as soon as its inputs are there.
// A failed stage fails the run, but only once every stage that does not
// depend on it has finished.
func Run(ctx workflow.Context, in RunInput) (RunResult, error) {
	r, err := newRun(ctx, in)
	if err != nil {
		return RunResult{}, err
	}
	kept := newKeeper(ctx, RunName, workflow.GetInfo(ctx).WorkflowStartTime, in)
	kept.begun(ctx)
	result, err := r.execute(ctx)
	kept.ended(ctx, r.state, err)
	if !r.await { // a sweep that has continued as new may wait for it
		end := endOf(workflow.GetInfo(ctx).WorkflowExecution.ID, err)
		end.Score = in.score(result)
		tellAll(ctx, nil, end, workflow.GetSignalChannel(ctx, signalWant))
	}
	return result, err
}

// run is the state of one execution.
type run struct {
	in           RunInput
	state        RunState
	index        map[string]int // stage name -> position
	fingerprints map[string]string
	done         map[string]workflow.Future // settled when the stage has its result
	ends         map[string][]*stageEnd     // what stages have told, by fingerprint
	shown        int                        // changes that the page was to show
	await        bool                       // stages are had by an activity: the run is of an older build
}

func newRun(ctx workflow.Context, in RunInput) (*run, error) {
	r := &run{
		in:           in,
		state:        RunState{Experiment: in.Experiment},
		index:        map[string]int{},
		fingerprints: map[string]string{},
		done:         map[string]workflow.Future{},
		ends:         map[string][]*stageEnd{},
	}
	if err := r.layOut(in.Stages); err != nil {
		return nil, err
	}
	err := workflow.SetQueryHandler(ctx, QueryState, func() (RunAnswer, error) { return RunAnswer(r.state), nil })
	return r, err
}

// layOut takes in the stages of the run.
func (r *run) layOut(stages []experiments.Stage) error {
	r.in.Stages = stages
	for i, s := range stages {
		for _, input := range sortedValues(s.Inputs) {
			if _, ok := r.index[input]; !ok {
				err := fmt.Errorf("stage %s needs %s, which does not come before it in the plan", s.Name, input)
				return temporal.NewNonRetryableApplicationError(err.Error(), ErrTypeBadInput, err)
			}
		}
		r.index[s.Name] = i
		r.fingerprints[s.Name] = s.Fingerprint
		r.state.Stages = append(r.state.Stages, StageState{
			Name: s.Name, Kind: s.Kind, Fingerprint: s.Fingerprint, WorkflowID: StageWorkflowID(s.Name, s.Fingerprint), Status: StageWaiting,
		})
	}
	return nil
}

func (r *run) execute(ctx workflow.Context) (RunResult, error) {
	look := r.lookupAll
	if r.in.Plan != nil {
		look = r.readPlan
	}
	found, err := look(ctx)
	if err != nil {
		return RunResult{}, err
	}
	version := workflow.GetVersion(ctx, versionWanted, workflow.DefaultVersion, versionNamed)
	if version < versionNamed {
		for i, s := range r.state.Stages {
			r.state.Stages[i].WorkflowID = UnnamedStageID(s.Kind, s.Fingerprint)
		}
	}
	if r.await = version == workflow.DefaultVersion; !r.await {
		hear(ctx, r.ends)
	}
	for _, s := range r.in.Stages {
		future, settle := workflow.NewFuture(ctx)
		r.done[s.Name] = future
		if result, there := found[s.Name]; there {
			r.state.Stages[r.index[s.Name]].Status = StageReused
			r.state.Stages[r.index[s.Name]].Result = result
			settle.SetValue(result)
			continue
		}
		workflow.Go(ctx, func(ctx workflow.Context) {
			settle.Set(r.stage(ctx, s))
		})
	}

	var result RunResult
	r.showNow(ctx)
	for _, s := range r.in.Stages {
		var sr StageResult
		if r.done[s.Name].Get(ctx, &sr) == nil {
			result.Stages = append(result.Stages, sr)
		}
	}
	r.showNow(ctx)
	// Also of a run that fails or is cancelled: what it has is found.
	if err := r.record(ctx); err != nil {
		return result, err
	}
	if ctx.Err() != nil {
		// Only now: every stage has heard of the cancellation and let go.
		return result, ctx.Err()
	}
	if failed := failures(r.state.Stages); len(failed) > 0 {
		message := make([]string, len(failed))
		for i, f := range failed {
			message[i] = f.names() + ": " + f.why
		}
		return result, temporal.NewNonRetryableApplicationError(strings.Join(message, "; "), ErrTypeStageFailed, nil)
	}
	table := systemsTable(r.state.Stages)
	if table != "" && workflow.GetVersion(ctx, "comparison", workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		result.Comparison = plain(table)
	}
	return result, nil
}

// lookupAll asks the store for every stage at once: a run of which most is
// done, as a sweep's cells are, needs no activity for each of its stages.
func (r *run) lookupAll(ctx workflow.Context) (map[string]StageResult, error) {
	r.show(ctx)
	if workflow.GetVersion(ctx, "lookup-all", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return map[string]StageResult{}, nil
	}
	keys, err := Keys(r.in.Stages)
	if err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), ErrTypeBadInput, err)
	}
	var all LookupAllResult
	err = workflow.ExecuteActivity(r.lookupOptions(ctx, "what is in the store?"), nameOf(Activities.LookupAll), keys).Get(ctx, &all)
	return byStage(all.Found), err
}

// stage waits for the inputs of one stage, then has it run.
func (r *run) stage(ctx workflow.Context, s experiments.Stage) (StageResult, error) {
	for _, input := range sortedValues(s.Inputs) {
		if err := r.done[input].Get(ctx, nil); err != nil {
			r.set(ctx, s.Name, unlessCancelled(ctx, StageSkipped), StageResult{}, nil)
			return StageResult{}, fmt.Errorf("input %s: %w", input, err)
		}
	}
	r.set(ctx, s.Name, StageRunning, StageResult{}, nil)

	in := stageInput(r.in, s, r.fingerprints)
	have := r.want
	if r.await {
		have = r.awaitStage
	}
	result, err := have(ctx, in)
	if err != nil {
		status := unlessCancelled(ctx, StageFailed)
		if status == StageCancelled {
			r.set(ctx, s.Name, status, StageResult{}, nil)
		} else {
			r.set(ctx, s.Name, status, StageResult{}, err)
		}
		return StageResult{}, err
	}
	// The workflow that ran the stage may have been started for another
	// stage's name with the same fingerprint: the name is the run's own.
	result.Stage = s.Name
	status := StageDone
	if result.Reused {
		status = StageReused
	}
	r.set(ctx, s.Name, status, result, nil)
	return result, nil
}

// unlessCancelled is the state of a stage without a result, which is another one
// where its run was cancelled.
func unlessCancelled(ctx workflow.Context, status StageStatus) StageStatus {
	if ctx.Err() != nil {
		return StageCancelled
	}
	return status
}

// awaitStage has a stage run as older builds do.
func (r *run) awaitStage(ctx workflow.Context, in StageInput) (result StageResult, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              r.in.Queues.Control,
		StartToCloseTimeout:    stageTotal,
		ScheduleToCloseTimeout: stageTotal,
		HeartbeatTimeout:       time.Duration(r.in.HeartbeatSeconds) * time.Second,
		WaitForCancellation:    true,
		Summary:                in.Stage.Summary(),
		// Inherited by the task, but not told to the activity, which starts the
		// stage's workflow with it.
		Priority: workflow.GetInfo(ctx).Priority,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, MaximumInterval: retryPause,
			NonRetryableErrorTypes: append(NonRetryable(), ErrTypeStageFailed),
		},
	})
	err = workflow.ExecuteActivity(ctx, nameOf(Activities.AwaitStage), in).Get(ctx, &result)
	return result, err
}

// record puts the headline system's numbers into the run's search attributes,
// as far as it is evaluated.
func (r *run) record(ctx workflow.Context) error {
	headline, ok := experiments.Headline(r.in.Stages)
	if !ok {
		return nil
	}
	_, rows := systemMetrics(r.state.Stages)
	return upsert(ctx, r.in.Facts, rows[headline])
}

// stageID is the workflow ID of a stage of the run.
func (r *run) stageID(name string) string { return r.state.Stages[r.index[name]].WorkflowID }

// joins notes that a stage runs for another run, too.
func (r *run) joins(ctx workflow.Context, name string) {
	if s := &r.state.Stages[r.index[name]]; !s.Joined {
		s.Joined = true
		r.show(ctx)
	}
}

// set records where a stage stands and shows it in the web UI.
func (r *run) set(ctx workflow.Context, name string, status StageStatus, result StageResult, err error) {
	s := &r.state.Stages[r.index[name]]
	s.Status, s.Result = status, result
	if err != nil {
		s.Error = rootMessage(err)
	}
	r.show(ctx)
}

// show puts the DAG's state into the web UI. A page with a line for each of
// thousands of stages is not written anew for each of them.
func (r *run) show(ctx workflow.Context) {
	if r.shown++; r.shown%max(1, len(r.in.Stages)/pages) == 0 {
		r.showNow(ctx)
	}
}

// pages is about how often a large run's page is written.
const pages = 100

func (r *run) showNow(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, runDetails(r.in.Facts, r.state))
}

// sortedValues gives a map's values in the order of its keys, so that the
// workflow takes the same path on replay.
func sortedValues(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	//workflowcheck:ignore
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	values := make([]string, len(keys))
	for i, k := range keys {
		values[i] = m[k]
	}
	return values
}
