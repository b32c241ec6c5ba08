package workers_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// gated is a worker whose stages wait, and say how often they began and were
// cancelled.
type gated struct {
	queueing
	cancelled chan string
	store     *artifacts.Store
}

func (a *gated) wrap(stage workflows.StageActivity) workflows.StageActivity {
	return func(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
		// As an attempt does: a run that finds a stage just ended starts it again.
		if m, err := a.store.Lookup(ctx, in.Stage.Fingerprint); err == nil {
			return workflows.StageResult{Stage: in.Stage.Name, Digest: m.Digest, Reused: true}, nil
		}
		beating, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			for beating.Err() == nil {
				activity.RecordHeartbeat(ctx)
				time.Sleep(50 * time.Millisecond)
			}
		}()
		if err := a.note(ctx, in); err != nil {
			a.cancelled <- in.Stage.Name
			return workflows.StageResult{}, err
		}
		return stage(ctx, in)
	}
}

// startRun starts a run of stages, each of which needs the one before.
func startRun(t *testing.T, ctx context.Context, s server, name string, stages ...string) client.WorkflowRun {
	t.Helper()
	in := workflows.RunInput{Experiment: name, Queues: s.queues, HeartbeatSeconds: 7}
	for i, stage := range stages {
		one := experiments.Stage{Name: stage, Kind: experiments.KindScore, Queue: experiments.QueueCPU, Fingerprint: fmt.Sprintf("%x", sha256.Sum256([]byte(stage)))}
		if i > 0 {
			one.Inputs = map[string]string{"before": stages[i-1]}
		}
		in.Stages = append(in.Stages, one)
	}
	run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: name, TaskQueue: s.queues.Control}, workflows.RunName, in)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// joined waits until a run has joined its first stage.
func joined(t *testing.T, ctx context.Context, s server, run client.WorkflowRun) {
	t.Helper()
	for {
		var state workflows.RunState
		answer, err := s.client.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), workflows.QueryState)
		if err == nil && answer.Get(&state) == nil && state.Stages[0].Joined {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("run %s never joins the stage that another runs: %v", run.GetID(), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Runs that share a stage: each of them may be cancelled, in whichever order, and
// the stage goes on for the others. When nobody wants it any more, it stops.
func TestRunsShareAStage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	a := &gated{queueing: queueing{wait: make(chan struct{})}, cancelled: make(chan string, 10)}
	s := newServer(t, ctx, 2, a.wrap)
	a.store = s.store
	shared := func() []client.WorkflowRun {
		t.Helper()
		runs := []client.WorkflowRun{startRun(t, ctx, s, "first", "shared")}
		for n := len(a.names()); len(a.names()) == n; {
			time.Sleep(10 * time.Millisecond)
		}
		for _, name := range []string{"second", "third"} {
			runs = append(runs, startRun(t, ctx, s, name, "shared"))
			joined(t, ctx, s, runs[len(runs)-1])
		}
		return runs
	}
	cancel := func(run client.WorkflowRun) {
		t.Helper()
		if err := s.client.CancelWorkflow(ctx, run.GetID(), run.GetRunID()); err != nil {
			t.Fatal(err)
		}
		if err := run.Get(ctx, nil); !temporal.IsCanceledError(err) {
			t.Errorf("the cancelled run %s ended with %v", run.GetID(), err)
		}
	}
	runs := shared()
	for _, run := range runs {
		if len(a.cancelled) > 0 {
			t.Error("the stage was cancelled while a run wanted it")
		}
		cancel(run)
	}
	select {
	case <-a.cancelled:
	default:
		t.Error("nobody wants the stage any more, and it was not cancelled when the last run had ended")
	}

	runs = shared()
	cancel(runs[0]) // whose child it is
	cancel(runs[1])
	close(a.wait)
	if err := runs[2].Get(ctx, nil); err != nil {
		t.Error(err)
	}
	if began := a.names(); len(began) != 2 || len(a.cancelled) > 0 {
		t.Errorf("the stage began %d times and was cancelled %d times more, want once for each of the two times that it was wanted", len(began), len(a.cancelled))
	}
}

// With one slot on every queue, twelve runs that share stages come to their ends:
// waiting takes no slot. Every stage is computed once, and nobody polls.
func TestOneSlot(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	a := &gated{queueing: queueing{wait: make(chan struct{})}, cancelled: make(chan string, 10)}
	s := newServer(t, ctx, 1, a.wrap)
	a.store = s.store
	var runs []client.WorkflowRun
	for i := range 12 {
		runs = append(runs, startRun(t, ctx, s, fmt.Sprintf("cell-%d", i), "corpus", fmt.Sprintf("base-%d", i%3), fmt.Sprintf("report-%d", i)))
	}
	for { // until the others have joined the one stage
		n := 0
		for _, run := range runs {
			var state workflows.RunState
			answer, err := s.client.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), workflows.QueryState)
			if err == nil && answer.Get(&state) == nil && state.Stages[0].Joined {
				n++
			}
		}
		if n == len(runs)-1 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%d of %d runs have joined the stage that one of them runs", n, len(runs)-1)
		}
	}
	close(a.wait)
	for _, run := range runs {
		if err := run.Get(ctx, nil); err != nil {
			for event, err := range (&lab.Client{Temporal: s.client}).History(context.Background(), lab.Execution{ID: run.GetID(), RunID: run.GetRunID()}) {
				t.Log(event, err)
			}
			t.Fatal(err)
		}
		activities := []string{}
		events := s.client.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			if err != nil {
				t.Fatal(err)
			}
			if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
				activities = append(activities, scheduled.GetActivityType().GetName())
			}
		}
		if !slices.Equal(activities, []string{"LookupAll"}) {
			t.Errorf("run %s has the activities %v of its own, want its look into the store alone", run.GetID(), activities)
		}
	}
	began := a.names()
	slices.Sort(began)
	if again := slices.Compact(slices.Clone(began)); len(again) != len(began) || len(began) != 1+3+12 {
		t.Errorf("%d stages began: %s; want 16, each once", len(began), strings.Join(began, " "))
	}
}
