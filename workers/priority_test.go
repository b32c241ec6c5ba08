package workers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// queueing is a worker whose stages note when they begin, and wait.
type queueing struct {
	mu    sync.Mutex
	began []string
	wait  chan struct{}
}

func (a *queueing) note(ctx context.Context, in workflows.StageInput) error {
	a.mu.Lock()
	a.began = append(a.began, in.Stage.Name)
	a.mu.Unlock()
	select {
	case <-a.wait:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// names lists the stages that have begun.
func (a *queueing) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.began)
}

// waitForBacklog waits until so many activities lie in a queue: the server puts them there after their workflow has
// them pending.
func (s *server) waitForBacklog(t *testing.T, ctx context.Context, queue string, count int) {
	t.Helper()
	for {
		d, err := s.client.DescribeTaskQueueEnhanced(ctx, client.DescribeTaskQueueEnhancedOptions{
			TaskQueue: queue, TaskQueueTypes: []client.TaskQueueType{client.TaskQueueTypeActivity}, ReportStats: true})
		if err != nil {
			t.Fatalf("queue %s: %v", queue, err)
		}
		//lint:ignore SA1019 VersioningInfo has no statistics of a backlog
		for _, version := range d.VersionsInfo {
			if stats := version.TypesInfo[client.TaskQueueTypeActivity].Stats; stats != nil && stats.ApproximateBacklogCount >= int64(count) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// On a queue with one slot, the stages of an interactive run go before those of
// a nightly one that was there first.
func TestPriorities(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	a := &queueing{wait: make(chan struct{})}
	s := newServer(t, ctx, 1, func(stage workflows.StageActivity) workflows.StageActivity {
		return func(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
			if err := a.note(ctx, in); err != nil {
				return workflows.StageResult{}, err
			}
			return stage(ctx, in)
		}
	})
	start := func(name string, priority int) client.WorkflowRun {
		stage := experiments.Stage{Name: name, Kind: experiments.KindBase, Queue: experiments.QueueCPU, Fingerprint: strings.Repeat(fmt.Sprintf("%x", name[0]&15), 64)}
		run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: name, TaskQueue: s.queues.Control, Priority: temporal.Priority{PriorityKey: priority}},
			workflows.RunName, workflows.RunInput{Experiment: name, Stages: []experiments.Stage{stage}, Queues: s.queues, HeartbeatSeconds: 60})
		if err != nil {
			t.Fatal(err)
		}
		// Until its stage is in the queue.
		for id := workflows.StageWorkflowID(stage.Name, stage.Fingerprint); ; {
			d, err := s.client.DescribeWorkflowExecution(ctx, id, "")
			if err == nil && slices.ContainsFunc(d.GetPendingActivities(), func(p pending) bool { return p.GetActivityType().GetName() == "Base" }) {
				if got := d.GetWorkflowExecutionInfo().GetPriority().GetPriorityKey(); int(got) != priority {
					t.Errorf("the stage of %s has priority %d, want %d", name, got, priority)
				}
				return run
			}
			if ctx.Err() != nil {
				t.Fatalf("stage of %s: %v", name, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	runs := []client.WorkflowRun{start("a-first", 3)}
	for len(a.names()) == 0 { // until it has the slot
		time.Sleep(10 * time.Millisecond)
	}
	runs = append(runs, start("b-nightly", 5), start("c-nightly", 5), start("d-sweep", 4), start("e-interactive", 3))
	s.waitForBacklog(t, ctx, s.queues.CPU, len(runs)-1)
	close(a.wait)
	for _, run := range runs {
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a-first", "e-interactive", "d-sweep", "b-nightly", "c-nightly"}; !slices.Equal(a.began, want) {
		t.Errorf("the stages began in the order %v, want %v", a.began, want)
	}
}
