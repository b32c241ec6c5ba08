package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

var recordHistories = flag.String("histories", "", "record the workflow histories that the tests of package workflows replay into this directory")

// TestRecordHistories runs small experiments as users do, on the embedded
// server, and keeps the histories of what they started: one for each workflow
// type, end and kind of stage. It records only with -histories DIR (make
// histories), for a release or a new workflow type.
func TestRecordHistories(t *testing.T) {
	if *recordHistories == "" {
		t.Skip("records only with -histories DIR: make histories")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	data := t.TempDir()
	experiment, err := filepath.Abs("testdata/micro.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, "temporal.yaml", fmt.Sprintf(`
embedded: {ports: {temporal: auto, ui: auto, s3: auto}}
schedules:
- {id: nightly, experiment: "%s", set: [methods=base, paradigms=vanilla, backbone.tiny.pretrain.epochs=2], cron: "0 3 1 1 *"}
`, experiment))
	up, upLog := esclab(t, ctx, "up", "--data", data, "--config", config)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	if _, err := waitForStack(ctx, data); err != nil {
		t.Fatalf("%v\n%s", err, upLog)
	}
	a := &app{dataDir: data, log: zerolog.Nop()}
	se, err := a.open(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	defer se.close()

	// command runs a command line to its end, whose exit code has to be want.
	command := func(want int, args ...string) {
		t.Helper()
		c, log := esclab(t, ctx, append(args, "--data", data, "--config", config)...)
		if _ = c.Run(); c.ProcessState.ExitCode() != want {
			t.Fatalf("esclab %s: exit code %d, want %d\n%s", strings.Join(args, " "), c.ProcessState.ExitCode(), want, log)
		}
	}
	command(exitOK, "run", "testdata/micro.yaml", "--set", "name=whole")
	command(exitOK, "run", "testdata/micro.yaml", "--set", "name=reuse")
	command(exitFailed, "run", "testdata/micro.yaml", "--set", "name=fail", "--set", "limits.max_tokens=40", "--set", "mining.max_new_tokens=8",
		"--set", "generation.max_new_tokens=8")
	command(exitFailed, "sweep", "testdata/micro-sweep.yaml") // one of its cells fails
	command(exitOK, "schedule", "apply")
	for range 2 { // the first night, and one that is compared with it
		command(exitOK, "schedule", "trigger", "nightly")
		time.Sleep(2 * time.Second) // until it has begun
		closed(t, ctx, se)
	}
	command(exitOK, "ui", "--compare", "whole", "reuse", "--system", "vanilla/dpo,decoupled/dpo")
	recordCancelled(t, ctx, se, data)
	recordFound(t, ctx, se)
	recordContinued(t, ctx, se)

	recorded := 0
	names := map[string]bool{}
	for _, w := range closed(t, ctx, se) {
		name := historyName(w)
		if names[name] && w.GetType().GetName() != workflows.StageName {
			name += "-2"
		}
		if names[name] {
			continue // another that ended alike
		}
		names[name] = true
		writeHistory(t, ctx, se, w.GetExecution(), filepath.Join(*recordHistories, name+".json"))
		recorded++
	}
	t.Logf("%d histories in %s", recorded, *recordHistories)
}

// recordCancelled cancels a run while its base is being trained.
func recordCancelled(t *testing.T, ctx context.Context, se *session, data string) {
	t.Helper()
	sets := []string{"name=cancel", "backbone.tiny.pretrain.epochs=500", "checkpoint.every_steps=1000"}
	args := []string{"run", "testdata/micro.yaml", "--data", data}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	run, log := esclab(t, ctx, args...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := se.app.prepare(ctx, "testdata/micro.yaml", sets)
	if err != nil {
		t.Fatal(err)
	}
	stage := workflows.StageWorkflowID(p.Stages[1].Name, p.Stages[1].Fingerprint)
	for {
		progress, err := lab.ReadProgress(ctx, se.node.Client, stage)
		if err == nil && progress.Step > 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the base is never trained: %v\n%s", err, log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := se.node.Client.CancelWorkflow(ctx, workflows.RunWorkflowID(p.Experiment.Name, p.Result()), ""); err != nil {
		t.Fatal(err)
	}
	if _ = run.Wait(); run.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("the cancelled run ended with %d\n%s", run.ProcessState.ExitCode(), log)
	}
}

// recordFound starts the workflow of a stage that is in the store, as happens
// where two runs are close behind each other.
func recordFound(t *testing.T, ctx context.Context, se *session) {
	t.Helper()
	var in workflows.StageInput
	inputOf(t, ctx, se, workflows.StageName, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, &in)
	run, err := se.node.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "found", TaskQueue: se.node.Queues().Control}, workflows.StageName, in)
	if err != nil {
		t.Fatal(err)
	}
	var result workflows.StageResult
	if err := run.Get(ctx, &result); err != nil || !result.Reused {
		t.Fatalf("a stage that is in the store: %+v, %v", result, err)
	}
}

// recordContinued runs the sweep again, with so short a history that it goes on
// in executions that follow each other.
func recordContinued(t *testing.T, ctx context.Context, se *session) {
	t.Helper()
	var in workflows.SweepInput
	inputOf(t, ctx, se, workflows.SweepName, enums.WORKFLOW_EXECUTION_STATUS_FAILED, &in)
	in.HistoryEvents = 8
	run, err := se.node.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "sweep/again/1", TaskQueue: se.node.Queues().Control}, workflows.SweepName, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); err == nil {
		t.Fatal("the sweep's failed cell did not fail again")
	}
}

// inputOf reads what the oldest workflow of a type that has ended so was
// started with.
func inputOf(t *testing.T, ctx context.Context, se *session, name string, status enums.WorkflowExecutionStatus, in any) {
	t.Helper()
	for _, w := range closed(t, ctx, se) {
		if w.GetType().GetName() != name || w.GetStatus() != status {
			continue
		}
		first, err := se.node.Client.GetWorkflowHistory(ctx, w.GetExecution().GetWorkflowId(), w.GetExecution().GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := converter.GetDefaultDataConverter().FromPayloads(first.GetWorkflowExecutionStartedEventAttributes().GetInput(), in); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no %s %s", name, status)
}

// closed lists the workflows that have ended, the oldest first, once Temporal
// shows none that runs.
func closed(t *testing.T, ctx context.Context, se *session) []*workflow.WorkflowExecutionInfo {
	t.Helper()
	for {
		list, err := se.node.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		all := list.GetExecutions()
		running := slices.ContainsFunc(all, func(w *workflow.WorkflowExecutionInfo) bool {
			return w.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && !strings.HasPrefix(w.GetExecution().GetWorkflowId(), "temporal-sys-")
		})
		if !running {
			all = slices.DeleteFunc(all, func(w *workflow.WorkflowExecutionInfo) bool {
				return strings.HasPrefix(w.GetExecution().GetWorkflowId(), "temporal-sys-")
			})
			slices.Reverse(all)
			return all
		}
		if ctx.Err() != nil {
			t.Fatal(errors.Join(errors.New("a workflow never ends"), ctx.Err()))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// historyName names a history by the workflow's type, what it is of and its end.
func historyName(w *workflow.WorkflowExecutionInfo) string {
	id := strings.Split(w.GetExecution().GetWorkflowId(), "/")
	what := id[0]
	if len(id) > 1 {
		what = id[1]
	}
	if w.GetType().GetName() == workflows.CompareName { // a digest of what it compares
		what = "shown"
	}
	status := strings.ToLower(w.GetStatus().String())
	name := strings.ToLower(w.GetType().GetName()) + "-" + what + "-" + status
	name = regexp.MustCompile(`[^a-z0-9_-]+`).ReplaceAllString(strings.ToLower(name), "-")
	return regexp.MustCompile(`-\d{4}-\d\d-\d\dt[\d-]+z`).ReplaceAllString(name, "") // of a schedule's night
}

// writeHistory keeps a history as JSON, without the names of the machine and
// the directories that it was recorded on.
func writeHistory(t *testing.T, ctx context.Context, se *session, of *common.WorkflowExecution, path string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// Paths that the experiments were planned with.
	places := regexp.MustCompile(regexp.QuoteMeta(here) + "|" + regexp.QuoteMeta(os.TempDir()) + `/TestRecordHistories[0-9]+/[0-9]+`)
	var h history.History
	for events := se.node.Client.GetWorkflowHistory(ctx, of.GetWorkflowId(), of.GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		anonymous(e.ProtoReflect(), places)
		h.Events = append(h.Events, e)
	}
	raw, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	// One event a line: a difference can be read, and the files stay small.
	raw = regexp.MustCompile(`\},\{"eventId"`).ReplaceAll(raw, []byte("},\n{\"eventId\""))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// byWhom is who has started a run, and where, as an Origin has it.
var byWhom = regexp.MustCompile(`"(user|host)":"[^"]*"`)

var sticky = regexp.MustCompile(`^[^:]*(:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// anonymous replaces the identity of workers and clients, which names process
// and host, and the places that payloads name.
func anonymous(m protoreflect.Message, places *regexp.Regexp) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "identity" && f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("esclab"))
		case f.Name() == "name" && f.Kind() == protoreflect.StringKind: // of a sticky queue: host:UUID
			m.Set(f, protoreflect.ValueOfString(sticky.ReplaceAllString(v.String(), "esclab$1")))
		case f.Name() == "data" && f.Kind() == protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes(byWhom.ReplaceAll(places.ReplaceAll(v.Bytes(), []byte("/lab")), []byte(`"$1":"lab"`))))
		case f.Name() == "message" && f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(places.ReplaceAllString(v.String(), "/lab")))
		case f.IsMap() && f.MapValue().Kind() == protoreflect.MessageKind:
			v.Map().Range(func(_ protoreflect.MapKey, each protoreflect.Value) bool {
				anonymous(each.Message(), places)
				return true
			})
		case f.IsMap():
		case f.Kind() == protoreflect.MessageKind && f.IsList():
			for i := range v.List().Len() {
				anonymous(v.List().Get(i).Message(), places)
			}
		case f.Kind() == protoreflect.MessageKind:
			anonymous(v.Message(), places)
		}
		return true
	})
}
