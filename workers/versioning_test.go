package workers_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
)

// build stands for the activities of one build of the program: it says which
// build has run a stage, and holds the stage "first" until it is let go.
type build struct {
	workflows.Activities // no other activity is called
	id                   string
	began                chan struct{}
	once                 sync.Once
	gate                 chan struct{}
}

func (b *build) stage(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	if in.Stage.Name == "first" {
		b.once.Do(func() { close(b.began) })
		select {
		case <-b.gate:
		case <-ctx.Done():
			return workflows.StageResult{}, ctx.Err()
		}
	}
	return workflows.StageResult{Stage: in.Stage.Name, Engine: b.id}, nil
}

// LookupAll finds nothing: every stage is awaited.
func (b *build) LookupAll(context.Context, []workflows.StageKey) (workflows.LookupAllResult, error) {
	return workflows.LookupAllResult{}, nil
}

// KeepRun keeps nothing.
func (b *build) KeepRun(context.Context, workflows.KeptRun) error { return nil }

// A run stays on the build that started it, while new runs start on the build
// that was promoted since.
func TestRunsStayOnTheirBuild(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	d := settings.Default()
	s, err := stack.Start(ctx, stack.Options{DataDir: t.TempDir(), Namespace: d.Temporal.Namespace, Retention: d.Embedded.Retention,
		SearchAttributes: d.SearchAttributes, Bucket: d.S3.Bucket, NoS3: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	at, err := s.Temporal()
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect.Dial(ctx, at, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	queues := workflows.Queues{Control: "control", CPU: "cpu", GPU: "gpu"}
	gate := make(chan struct{})
	start := func(id string) *build {
		t.Helper()
		b := &build{id: id, began: make(chan struct{}), gate: gate}
		w, err := workers.Start(workers.Options{Client: c, Activities: b, Queues: queues, Serve: []experiments.Queue{experiments.QueueControl, experiments.QueueCPU},
			Stages:  map[experiments.Kind]workflows.StageActivity{experiments.KindScore: b.stage},
			Version: worker.WorkerDeploymentVersion{DeploymentName: "esclab", BuildID: id}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return b
	}
	promote := func(id string, force bool, want string) {
		t.Helper()
		got, err := workers.Promote(ctx, c, worker.WorkerDeploymentVersion{DeploymentName: "esclab", BuildID: id}, force)
		if err != nil || got != want {
			t.Fatalf("promote %s: %q, %v, want %q", id, got, err, want)
		}
	}
	run := func(name string, stages ...string) client.WorkflowRun {
		t.Helper()
		in := workflows.RunInput{Experiment: name, Queues: queues, HeartbeatSeconds: 30}
		for i, stage := range stages {
			s := experiments.Stage{Name: stage, Kind: experiments.KindScore, Queue: experiments.QueueCPU, Fingerprint: name + stage}
			if i > 0 {
				s.Inputs = map[string]string{"before": stages[i-1]}
			}
			in.Stages = append(in.Stages, s)
		}
		r, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: name, TaskQueue: queues.Control}, workflows.RunName, in)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ranOn := func(r client.WorkflowRun, want string) {
		t.Helper()
		var result workflows.RunResult
		if err := r.Get(ctx, &result); err != nil {
			t.Fatal(err)
		}
		for _, s := range result.Stages {
			if s.Engine != want {
				t.Errorf("stage %s of run %s ran on build %s, want %s", s.Stage, r.GetID(), s.Engine, want)
			}
		}
	}

	a := start("build-a")
	promote("build-a", false, "build-a") // nothing was current
	old := run("old", "first", "second", "third")
	select {
	case <-a.began:
	case <-ctx.Done():
		t.Fatal(errors.Join(errors.New("the first run never began"), ctx.Err()))
	}
	start("build-b")
	promote("build-b", false, "build-a") // a newer build takes nothing over by itself
	promote("build-b", true, "build-b")
	ranOn(run("new", "second", "third"), "build-b")
	close(gate)
	ranOn(old, "build-a")
}
