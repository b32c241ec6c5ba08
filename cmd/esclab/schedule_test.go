package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/results/nightly"
)

// told is what a webhook was told.
type told struct {
	Night    string            `json:"night"`
	Verdict  string            `json:"verdict"`
	Findings []nightly.Finding `json:"findings"`
}

// receiver is a webhook that fails the first call, so that every test sees it
// called again.
func receiver(t *testing.T, secret string) (*httptest.Server, <-chan told) {
	t.Helper()
	calls := make(chan told, 16)
	var first sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var n told
		if err := json.Unmarshal(body, &n); err != nil || r.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("a call with %v, header %q", err, r.Header.Get("Authorization"))
		}
		again := false
		first.Do(func() { again = true })
		if again {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		calls <- n
	}))
	t.Cleanup(s.Close)
	return s, calls
}

// Two nights of a schedule that temporal.yaml declares measure the same anew
// and find nothing; a third, after nights that were better and faster, finds a
// regression in both.
func TestNights(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG three times")
	}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute)
	defer stop()
	data := t.TempDir()
	hook, calls := receiver(t, "s3cret")
	experiment, err := filepath.Abs("testdata/micro.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, "temporal.yaml", fmt.Sprintf(`
embedded: {ports: {temporal: auto, ui: auto, s3: auto}}
nightly: {webhooks: ["%[1]s"], secret_env: TEST_HOOK_SECRET, newest: [echo, v9]}
schedules:
- {id: nightly, experiment: "%[2]s", set: [methods=base, paradigms=vanilla], cron: "0 3 1 1 *", window: 3, webhook: "%[1]s/x", file: verdict.json}
`, hook.URL, experiment))
	command := func(args ...string) string {
		t.Helper()
		c, log := esclab(t, ctx, append(args, "--data", data, "--config", config)...)
		if err := c.Run(); err != nil {
			t.Fatalf("esclab %s: %v\n%s", strings.Join(args, " "), err, log)
		}
		return log.String()
	}

	metrics, collector := storetest.FreeAddress(t), newCollector(t)
	up, upLog := esclab(t, ctx, "up", "--data", data, "--config", config, "--metrics", metrics)
	up.Env = append(up.Env, "TEST_HOOK_SECRET=s3cret", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	if _, err := waitForStack(ctx, data); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"schedule apply --dry-run", "make    nightly\n"},
		{"schedule apply", "make    nightly\n"},
		{"schedule apply", "keep    nightly\n"},
		{"schedule list", "nightly  │ micro"},
	} {
		if got := command(strings.Fields(c.args)...); !strings.Contains(got, c.want) {
			t.Errorf("%s:\n%s", c.args, got)
		}
	}
	night := func() told {
		t.Helper()
		command("schedule", "trigger", "nightly")
		select {
		case n := <-calls:
			return n
		case <-ctx.Done():
			t.Fatalf("the webhook is not told\n%s", upLog)
		}
		return told{}
	}
	one := night()
	waitUntilEnded(t, ctx, data)
	two := night()
	waitUntilEnded(t, ctx, data)
	if one.Verdict != "first" || two.Verdict != "steady" {
		t.Fatalf("verdicts %s and %s, %v", one.Verdict, two.Verdict, two.Findings)
	}

	a := &app{dataDir: data, configPath: config, log: zerolog.Nop()}
	se, err := a.open(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	defer se.close()
	watched(t, ctx, "http://"+metrics, collector)
	records, err := se.nights(ctx, "nightly", 5)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	second, first := records[0], records[1]
	if !reflect.DeepEqual(first.Systems, second.Systems) || len(first.Systems) != 1 || len(first.Systems[0].Metrics) < 8 {
		t.Errorf("the same revision scored %+v and %+v", first.Systems, second.Systems)
	}
	for i, s := range second.Stages {
		if s.Reused || s.Seconds == 0 || s.Fingerprint == first.Stages[i].Fingerprint {
			t.Errorf("stage %s was not measured anew: %+v", s.Name, s)
		}
	}
	if second.Newest != "v9" || second.Revision == "" || second.Setup != first.Setup || len(second.Against) != 1 {
		t.Errorf("%+v", second)
	}

	// Three nights that were better and faster than this program is.
	for _, suffix := range []string{"-1", "-2", "-3"} {
		better := second
		better.Night += suffix
		better.Systems = []nightly.System{{Name: second.Systems[0].Name, Metrics: []nightly.Metric{{Name: "rouge_l", Value: 99, Low: 98, High: 100}}}}
		better.Stages = nil
		for _, s := range second.Stages {
			s.Seconds = 0.001
			better.Stages = append(better.Stages, s)
		}
		raw, err := better.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := se.node.Store.PutScheduleFile(ctx, "nightly", "nights/"+better.Night+".json", raw); err != nil {
			t.Fatal(err)
		}
	}
	three := night()
	waitUntilEnded(t, ctx, data)
	what := map[string]bool{}
	for _, f := range three.Findings {
		what[f.What+" "+f.Metric] = f.Worse
	}
	if _, speed := what["speed seconds"]; three.Verdict != "regression" || !what["quality rouge_l"] || speed {
		t.Errorf("%s, %+v: want a regression of rouge_l, and speed, which one night does not decide, in a note", three.Verdict, three.Findings)
	}
	if records, err := se.nights(ctx, "nightly", 1); err != nil || !slices.ContainsFunc(records[0].Notes, func(n string) bool { return strings.Contains(n, "a second night decides") }) {
		t.Errorf("the night's notes say nothing of its speed: %v, %v", records, err)
	}
	raw, err := os.ReadFile(filepath.Join(data, "nightly", "verdict.json"))
	if err != nil || !strings.Contains(string(raw), `"verdict": "regression"`) {
		t.Errorf("verdict.json: %s, %v", raw, err)
	}
	for found := 0; found != 1; {
		list, err := se.node.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "Verdict = 'regression' AND Experiment = 'micro' AND ExecutionStatus = 'Completed'"})
		if err != nil {
			t.Fatalf("the night that regressed is not found: %v", err)
		}
		if found = len(list.GetExecutions()); found != 1 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"schedule show nightly", "regression"},
		{"schedule show nightly --night last", "| **worse** | vanilla/base | rouge_l |"},
		{"schedule show nightly --json", `"verdict": "regression"`},
		{"schedule pause nightly --note holidays", "none, it is paused"},
		{"schedule list", "paused"},
		{"schedule apply", "change  nightly (paused, note)"},
		{"schedule create other --experiment demo --paused --fresh dpo", `other runs demo at "0 22 * * *" UTC`},
		{"schedule resume other", "next night: 20"},
		{"schedule apply", "keep    nightly\n"},
		{"schedule delete nightly", "still declares it"},
		{"schedule show nightly", "is deleted"},
		{"schedule list --json", `"id": "other"`},
	} {
		if got := command(strings.Fields(c.args)...); !strings.Contains(got, c.want) {
			t.Errorf("%s:\n%s", c.args, got)
		}
	}
}

// waitUntilEnded waits until no night runs.
func waitUntilEnded(t *testing.T, ctx context.Context, data string) {
	t.Helper()
	a := &app{dataDir: data, configPath: writeFile(t, "temporal.yaml", "{}"), log: zerolog.Nop()}
	se, err := a.open(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	defer se.close()
	for {
		d, err := se.lab.FindSchedule(ctx, "nightly")
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Info.RunningWorkflows) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
