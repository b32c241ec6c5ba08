package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows/lab"
)

func TestExitCode(t *testing.T) {
	some := errors.New("some")
	for _, c := range []struct {
		err  error
		want int
	}{
		{some, exitUsage},
		{failed(some), exitFailed},
		{fmt.Errorf("more: %w", unreachable(some)), exitUnreachable},
		{&lab.Error{Err: some}, exitFailed},
		{fmt.Errorf("more: %w", &lab.Error{Err: some, Unreachable: true}), exitUnreachable},
		{failed(&lab.Error{Err: some, Unreachable: true}), exitFailed}, // the command decides
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%#v ends with %d, want %d", c.err, got, c.want)
		}
	}
}

func TestPresets(t *testing.T) {
	var out strings.Builder
	if err := runPresets("", &out); err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(out.String())
	for _, name := range append(experiments.Presets(), experiments.SweepPresets()...) {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not listed in\n%s", name, out.String())
		}
		var yaml strings.Builder
		if err := runPresets(name, &yaml); err != nil || !strings.Contains(yaml.String(), ":") {
			t.Errorf("%s: %q, %v; want its YAML", name, yaml.String(), err)
		}
	}
	if err := runPresets("none", io.Discard); err == nil {
		t.Error("a preset is printed that is none")
	}
}

// What is wrong with a command's options is said before anything is started.
func TestOptions(t *testing.T) {
	a := &app{dataDir: t.TempDir()}
	ctx := t.Context()
	for want, err := range map[string]error{
		"--json goes with --plan; a finished": a.runExperiment(ctx, "demo", runOptions{json: true}, io.Discard),
		"corpus.source: none.json":            a.runExperiment(ctx, "demo", runOptions{set: []string{"corpus.source=none.json"}}, io.Discard),
		"--json goes with --plan; a sweep's":  a.runSweep(ctx, "demo-sweep", sweepOptions{json: true}, io.Discard),
		"--parallel 1001":                     a.runSweep(ctx, "demo-sweep", sweepOptions{parallel: 1001}, io.Discard),
		"--priority 6":                        a.runSweep(ctx, "demo-sweep", sweepOptions{priority: 6}, io.Discard),
		"--queues tpu":                        a.runWorker(ctx, workerOptions{queues: []string{"tpu"}}),
		"name a run, a sweep or a query":      a.runUI(ctx, []string{"demo"}, uiOptions{query: "x"}, io.Discard),
		"ID: ":                                a.runScheduleCreate(ctx, scheduleCreateOptions{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("got %v, want a wrong request with %q", err, want)
		}
	}
}
