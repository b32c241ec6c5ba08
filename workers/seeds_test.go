package workers_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// A run of fifty seeds, 2,410 stages whose plan and result are more than Temporal
// takes well as one value, is started, followed, read where no worker answers,
// replayed, and started again when all of it is in the store. All but the last
// seed's stages are in the store before; with ESCLAB_TEST_SEEDS=all none is.
func TestRunOfFiftySeeds(t *testing.T) {
	if testing.Short() {
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
		replayer := worker.NewWorkflowReplayer()
		replayer.RegisterWorkflowWithOptions(workflows.Run, workflow.RegisterOptions{Name: workflows.RunName})
		if err := replayer.ReplayWorkflowHistory(nil, h); err != nil {
			t.Errorf("its history does not replay: %v", err)
		}
		return e, result, h
	}

	e, _, h := run()
	if input := h.Events[0].GetWorkflowExecutionStartedEventAttributes().GetInput(); input.Size() > 16<<10 {
		t.Errorf("it was started with %d bytes, want the name of its plan", input.Size())
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
