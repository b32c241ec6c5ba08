package workers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/racing"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// A run of fifty seeds, 2,410 stages whose plan and result are more than Temporal
// takes well as one value, is started, followed, read where no worker answers, and
// started again when all of it is in the store. All but the last seed's stages are in
// the store before; with ESCLAB_TEST_SEEDS=all none is.
func TestRunOfFiftySeeds(t *testing.T) {
	if testing.Short() || racing.Enabled { // a workflow task of so many stages takes longer than Temporal waits
		t.Skip("runs some hundred stages")
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Minute)
	defer stop()
	s := newServer(t, ctx, 8, func(stage workflows.StageActivity) workflows.StageActivity { return stage })
	seeds := make([]string, 50)
	for i := range seeds {
		seeds[i] = fmt.Sprint(i + 1)
	}
	p, err := experiments.Prepare("demo", []string{"seeds=[" + strings.Join(seeds, ",") + "]"}, experiments.OS(democorpus.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	var before errgroup.Group
	before.SetLimit(8)
	for _, stage := range p.Stages {
		if os.Getenv("ESCLAB_TEST_SEEDS") == "" && !strings.HasSuffix(stage.Name, "@50") && stage.Kind != experiments.KindReport {
			before.Go(func() error {
				_, err := commitByte(ctx, s.store, stage, "before")
				return err
			})
		}
	}
	if err := before.Wait(); err != nil {
		t.Fatal(err)
	}
	c := &lab.Client{Temporal: s.client, Store: s.store, Queues: s.queues, HeartbeatSeconds: 30}
	// run starts the run, follows it to its end and gives its history.
	run := func() (lab.Execution, workflows.RunResult, *history.History) {
		t.Helper()
		began := time.Now()
		e, err := c.StartRun(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		result, err := c.FollowRun(ctx, e, func(v lab.RunView) { seen = len(v.Stages) })
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Stages) != len(p.Stages) || seen != len(p.Stages) {
			t.Errorf("%d results, %d stages shown, want %d of each", len(result.Stages), seen, len(p.Stages))
		}
		h := &history.History{}
		total, largest := 0, 0
		for event, err := range c.History(ctx, e) {
			if err != nil {
				t.Fatal(err)
			}
			total, largest = total+event.Size(), max(largest, event.Size())
			h.Events = append(h.Events, event)
		}
		t.Logf("%d stages in %.0f s: %d events, %d KiB, the largest %d KiB", len(p.Stages), time.Since(began).Seconds(), len(h.Events), total>>10, largest>>10)
		if largest > 1<<20 {
			t.Errorf("an event of %d bytes: Temporal takes 2 MB", largest)
		}
		if most := 51200 * len(p.Stages) / experiments.MaxStages; len(h.Events) > most {
			t.Errorf("%d events for %d stages, want %d at most: Temporal ends a run of %d stages that has 51,200", len(h.Events), len(p.Stages), most, experiments.MaxStages)
		}
		return e, result, h
	}

	e, _, h := run()
	if input := h.Events[0].GetWorkflowExecutionStartedEventAttributes().GetInput(); input.Size() > 16<<10 {
		t.Errorf("it was started with %d bytes, want the name of its plan", input.Size())
	}
	page, err := c.Temporal.DescribeWorkflowExecution(ctx, e.ID, e.RunID)
	if err != nil {
		t.Fatal(err)
	}
	if details := string(page.GetExecutionConfig().GetUserMetadata().GetDetails().GetData()); !strings.Contains(details, "/workflows/stage%2Freport%2F") {
		t.Errorf("its page has the details %s, want links to its stages and its report", details)
	}
	found, err := c.FindRun(ctx, e.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	view, err := c.StoredRun(ctx, found)
	if err != nil || len(view.Stages) != len(p.Stages) || view.Stages[len(view.Stages)-1].Status != workflows.StageDone {
		t.Errorf("without a worker %d stages are seen, %v; want %d, the report done", len(view.Stages), err, len(p.Stages))
	}
	if l, err := c.LayoutOf(ctx, e.ID, nil, experiments.Host{}); err != nil || l.Result().Fingerprint != p.Stages[len(p.Stages)-1].Fingerprint {
		t.Errorf("its report is %q, %v; want that of the plan", l.Result().Name, err)
	}

	_, again, _ := run()
	for _, stage := range again.Stages {
		if !stage.Reused {
			t.Fatalf("stage %s is made again, want it reused", stage.Stage)
		}
	}
}

// A run whose plan lies in the store replays, and fails at once where the plan there
// is another.
func TestPlannedRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	s := newServer(t, ctx, 2, func(stage workflows.StageActivity) workflows.StageActivity { return stage })
	stages := []experiments.Stage{}
	for i, name := range []string{"first", "second", "last"} {
		one := experiments.Stage{Name: name, Kind: experiments.KindScore, Queue: experiments.QueueCPU, Fingerprint: artifacts.DigestBytes([]byte(name))}
		if i > 0 {
			one.Inputs = map[string]string{"before": stages[i-1].Name}
		}
		stages = append(stages, one)
	}
	plan, err := json.Marshal(stages)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := s.store.PutRunFile(ctx, "planned", "plan.json", plan)
	if err != nil {
		t.Fatal(err)
	}
	in := workflows.RunInput{Experiment: "planned", Stages: stages, Queues: s.queues, HeartbeatSeconds: 30}.Planned("planned", "plan.json", ref.SHA256)
	start := func() (client.WorkflowRun, workflows.RunResult, error) {
		t.Helper()
		run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "planned", TaskQueue: s.queues.Control}, workflows.RunName, in)
		if err != nil {
			t.Fatal(err)
		}
		var result workflows.RunResult
		err = run.Get(ctx, &result)
		return run, result, err
	}
	run, result, err := start()
	if err != nil || len(result.Stages) != 3 || result.Stages[2].Fingerprint != in.Last() {
		t.Fatalf("the run has %+v, %v; want three stages, the last that of the plan", result, err)
	}
	h := &history.History{}
	for event, err := range (&lab.Client{Temporal: s.client}).History(ctx, lab.Execution{ID: run.GetID(), RunID: run.GetRunID()}) {
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, event)
	}
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflowWithOptions(workflows.Run, workflow.RegisterOptions{Name: workflows.RunName})
	if err := replayer.ReplayWorkflowHistory(nil, h); err != nil {
		t.Errorf("its history does not replay: %v", err)
	}
	if _, err := s.store.PutRunFile(ctx, "planned", "plan.json", []byte("[]")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := start(); err == nil || !strings.Contains(err.Error(), "plan of planned") {
		t.Errorf("with another plan in the store the run ends with %v, want an error that names the plan", err)
	}
}
