package workers_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// trivial gives an activity that commits a byte and is done: what is left of a
// stage is the orchestration. Everything else is the real thing.
func trivial(store *artifacts.Store) workflows.StageActivity {
	return func(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
		return commitByte(ctx, store, in.Stage, activity.GetInfo(ctx).WorkflowExecution.RunID)
	}
}

// commitByte commits a byte as a stage's artifact.
func commitByte(ctx context.Context, store *artifacts.Store, stage experiments.Stage, owner string) (workflows.StageResult, error) {
	lease, err := store.Acquire(ctx, stage.Fingerprint, artifacts.Claim{Owner: owner, Steal: true})
	if err != nil {
		return workflows.StageResult{}, err
	}
	ref, err := store.PutFunc(ctx, artifacts.BytesFile([]byte{1}))
	if err != nil {
		return workflows.StageResult{}, err
	}
	made, err := lease.Commit(ctx, artifacts.Manifest{Kind: string(stage.Kind), Stage: stage.Name, Files: map[string]artifacts.Ref{"f": ref}, Params: stage.Params}, nil)
	if err != nil {
		return workflows.StageResult{}, err
	}
	return workflows.StageResult{Stage: stage.Name, Fingerprint: made.Fingerprint, Digest: made.Digest}, lease.Release(ctx)
}

// server is an embedded Temporal, a store in a directory and a worker.
type server struct {
	client client.Client
	store  *artifacts.Store
	queues workflows.Queues
	dir    string
}

type pending = *workflow.PendingActivityInfo

// newServer starts a worker whose stages of every kind do what work makes of the
// trivial activity.
func newServer(t *testing.T, ctx context.Context, slots int, work func(workflows.StageActivity) workflows.StageActivity) server {
	t.Helper()
	st, err := stack.Start(ctx, stack.Options{DataDir: t.TempDir(), Namespace: "default", Retention: 24 * time.Hour, NoS3: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := server{queues: workflows.Queues{Control: "control", CPU: "cpu", GPU: "gpu"}, dir: t.TempDir()}
	at, err := st.Temporal()
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = connect.Dial(ctx, at, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.store = storetest.OpenStore(t, s.dir)
	whole := &activities.Activities{Store: s.store, Client: s.client, Log: zerolog.Nop(), Scratch: s.dir, DemoCorpus: democorpus.JSON()}
	stages := map[experiments.Kind]workflows.StageActivity{}
	for _, kind := range experiments.Kinds() {
		stages[kind] = work(trivial(s.store))
	}
	w, err := workers.Start(workers.Options{
		Client: s.client, Queues: s.queues, KernelSlots: slots, CPUSlots: slots, ControlSlots: 1, HeartbeatThrottle: 100 * time.Millisecond, StopTimeout: time.Second, Identity: "test",
		Activities: whole, Stages: stages,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return s
}

// A sweep of many cells keeps its history bounded by continuing as new, runs
// each cell once, and holds no more memory at its end than at its beginning.
// ESCLAB_TEST_CELLS=2000 (make sweep-scale) reports the throughput.
func TestSweepOfManyCells(t *testing.T) {
	if testing.Short() {
		t.Skip("runs some hundred workflows")
	}
	cells, events := 24, 150
	if text := os.Getenv("ESCLAB_TEST_CELLS"); text != "" {
		var err error
		if cells, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		events = 0 // the default
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	s := newServer(t, ctx, 4, func(stage workflows.StageActivity) workflows.StageActivity { return stage })
	c, store, queues, dir := s.client, s.store, s.queues, s.dir

	// Cells that differ in the judge's samples share all but judge and report.
	yaml := fmt.Sprintf("name: many\nbase: demo\nset: {paradigms: [vanilla], methods: [base]}\ngrid: {judge.samples: {from: 1, to: %d, step: 1}}\n", cells)
	sweep, err := experiments.ReadSweep("many.yaml", []byte(yaml), "")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := experiments.PlanSweep(sweep, dir, func(e experiments.Experiment) (experiments.Sources, error) {
		return experiments.SourceDigests(e, experiments.OS(democorpus.JSON()))
	})
	if err != nil {
		t.Fatal(err)
	}
	const id = "sweep/many/1"
	ref, err := lab.WriteSweepPlan(ctx, store, id, plan)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	in := workflows.SweepInput{Name: "many", Plan: ref, Parallel: 8, Priority: 4, Queues: queues, HeartbeatSeconds: 30, HistoryEvents: events}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queues.Control}, workflows.SweepName, in)
	if err != nil {
		t.Fatal(err)
	}
	var result workflows.SweepResult
	ended := make(chan error, 1)
	go func() { ended <- run.Get(ctx, &result) }()
	var heap []string
	for tick := time.NewTicker(15 * time.Second); ; {
		select {
		case err = <-ended:
			tick.Stop()
		case <-tick.C:
			heap = append(heap, fmt.Sprintf("%.0f s: %d MiB", time.Since(began).Seconds(), heapMiB()))
			continue
		}
		break
	}
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if want := strings.Repeat("d", cells); string(result.Marks) != want {
		t.Errorf("marks %s", result.Marks)
	}

	// Every execution of the sweep, and how long its history is.
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = 'Sweep'", PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var longest, bytes int64
	for _, e := range list.GetExecutions() {
		d, err := c.DescribeWorkflowExecution(ctx, id, e.GetExecution().GetRunId())
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, d.GetWorkflowExecutionInfo().GetHistoryLength())
		bytes = max(bytes, d.GetWorkflowExecutionInfo().GetHistorySizeBytes())
	}
	t.Logf("%d cells in %.1f s, %.1f a second; %d executions of the sweep, the longest history has %d events and %d KiB",
		cells, took.Seconds(), float64(cells)/took.Seconds(), len(list.GetExecutions()), longest, bytes>>10)
	t.Logf("heap in use after a collection, %s; at the end %d MiB", strings.Join(heap, ", "), heapMiB())
	if len(list.GetExecutions()) < 2 && events > 0 {
		t.Error("the sweep has not continued as new")
	}
	if longest > 4096 {
		t.Errorf("a history of %d events", longest)
	}
	runs, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: "WorkflowType = 'Run'"})
	if err != nil {
		t.Fatal(err)
	}
	if runs.GetCount() != int64(cells) {
		t.Errorf("%d runs of %d cells", runs.GetCount(), cells)
	}

	// Once more: every cell is in the store, and none is started.
	began = time.Now()
	run, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queues.Control}, workflows.SweepName, in)
	if err == nil {
		err = run.Get(ctx, &result)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("again, from the store: %.1f s", time.Since(began).Seconds())
	if want := strings.Repeat("u", cells); string(result.Marks) != want {
		t.Errorf("marks %s", result.Marks)
	}
}

func heapMiB() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse >> 20
}
