package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/enums/v1"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chaos"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// envMain makes the test binary be esclab itself, so that tests can start it
// as a process of its own and kill it.
const envMain = "ESCLAB_TEST_MAIN"

func TestMain(m *testing.M) {
	switch os.Getenv(envMain) {
	case "":
	case chaos.Temporal, chaos.Store:
		serveForChaos(os.Getenv(envMain))
	case "parse", "make", "go":
		os.Exit(serveDocumented(os.Getenv(envMain), os.Args[1:], os.Stderr))
	default:
		main()
		return
	}
	os.Exit(m.Run())
}

// esclab prepares a command line to be run as a process of its own.
func esclab(t *testing.T, ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(ctx, os.Args[0], args...)
	// Free ports: other tests may run beside this one.
	config := writeFile(t, "temporal.yaml", `embedded: {ports: {temporal: auto, ui: auto, s3: auto}}`)
	c.Env = append(os.Environ(), envMain+"=1", "ESCLAB_CONFIG="+config, "ESCLAB_DATA_DIR=")
	log := &bytes.Buffer{}
	c.Stdout, c.Stderr = log, log
	return c, log
}

// runMicro runs the micro experiment to its end and returns its report.
func runMicro(t *testing.T, ctx context.Context, data string) (report.Data, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "report")
	c, log := esclab(t, ctx, "run", "testdata/micro.yaml", "--data", data, "--report", out)
	if err := c.Run(); err != nil {
		t.Fatalf("esclab run: %v\n%s", err, log)
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := report.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return d, log.String()
}

// digests maps the stages of a report to their artifacts.
func digests(d report.Data) map[string]string {
	m := map[string]string{}
	for _, s := range d.Provenance {
		m[s.Name] = s.Digest
	}
	return m
}

// A run that is killed twice in the middle of a DPO stage continues and ends
// with the bytes of a run that nobody disturbed.
func TestKilledRunEndsWithTheSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole DAG twice")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	want, _ := runMicro(t, ctx, t.TempDir())
	if len(want.Systems) != 9 || len(want.Provenance) < 30 {
		t.Fatalf("the undisturbed run has %d systems and %d stages", len(want.Systems), len(want.Provenance))
	}
	if len(want.Anchors) != 4 || len(want.Checks) != 4 || len(want.Systems[0].Temperatures) == 0 {
		t.Errorf("the undisturbed run has %d anchors, %d checks of the judge and %d temperatures, want 4, 4 and some", len(want.Anchors), len(want.Checks), len(want.Systems[0].Temperatures))
	}

	data := t.TempDir()
	stage := dpoStage(t)
	for kill := 1; kill <= 2; kill++ {
		killAtCheckpoint(t, ctx, data, stage)
	}
	got, log := runMicro(t, ctx, data)
	if !strings.Contains(log, `"stage":"dpo/rg"`) || !strings.Contains(log, "resumed from a checkpoint") {
		t.Errorf("the last run does not say that dpo/rg resumed:\n%s", log)
	}
	wanted, gotten := digests(want), digests(got)
	for name, digest := range wanted {
		if gotten[name] != digest {
			t.Errorf("stage %s: artifact %s after the kills, %s without", name, gotten[name], digest)
		}
	}

	// What is done is not done again.
	_, log = runMicro(t, ctx, data)
	stages, reused := counted(t, log)
	if stages <= len(want.Provenance) || reused != stages {
		t.Errorf("the finished run was not reused whole:\n%s", log)
	}

	// A flipped bit is found, and the stage that made the blob runs again.
	flipBit(t, filepath.Join(data, stage))
	got, log = runMicro(t, ctx, data)
	if n, reused := counted(t, log); n != stages || reused != stages-1 || !strings.Contains(log, "damaged") {
		t.Errorf("the damaged stage alone should have run again:\n%s", log)
	}
	if d := digests(got)["dpo/rg"]; d != wanted["dpo/rg"] {
		t.Errorf("dpo/rg made again is artifact %s, was %s", d, wanted["dpo/rg"])
	}
}

// counted reads how many stages a run says that it had, and how many of them were reused.
func counted(t *testing.T, log string) (stages, reused int) {
	t.Helper()
	found := regexp.MustCompile(`(\d+) stages, (\d+) of them reused`).FindStringSubmatch(log)
	if found == nil {
		t.Fatalf("the run does not say how many stages it had:\n%s", log)
	}
	stages, _ = strconv.Atoi(found[1])
	reused, _ = strconv.Atoi(found[2])
	return stages, reused
}

// flipBit damages the adapter of a finished stage where it lies in the
// embedded store.
func flipBit(t *testing.T, stage string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(stage, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m artifacts.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(filepath.Dir(filepath.Dir(stage)), filepath.FromSlash(m.Files["adapter_model.safetensors"].Key))
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(blob, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Two runs that need the same stages at the same time have them run once.
func TestTwoRunsShareTheirStages(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	data := t.TempDir()
	up, upLog := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := waitForStack(ctx, data); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "testdata/micro.yaml", "--data", data, "--set", "methods=base", "--set", "backbone.tiny.pretrain.epochs=2", "--set"}
	a, logA := esclab(t, ctx, append(args, "name=first")...)
	b, logB := esclab(t, ctx, append(args, "name=second")...)
	if err := errors.Join(a.Start(), b.Start()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Wait(), b.Wait()); err != nil {
		t.Fatalf("%v\n%s\n%s", err, logA, logB)
	}
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		t.Errorf("esclab up after SIGTERM: %v", err)
	}
	for stage, want := range map[string]int{"corpus": 1, "base": 1, "generate/vanilla/base": 1, "generate/decoupled/base": 1, "report": 2} {
		done := 0
		// A run that does not find esclab up's worker yet works itself.
		for line := range strings.Lines(upLog.String() + logA.String() + logB.String()) {
			if strings.Contains(line, `"stage":"`+stage+`"`) && strings.Contains(line, `"stage done"`) {
				done++
			}
		}
		if done != want {
			t.Errorf("stage %s was run %d times, want %d\n%s", stage, done, want, upLog)
		}
	}
}

// A cancelled run takes its stages along; they save a checkpoint first.
func TestCancel(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for a while")
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	data := t.TempDir()
	up, upLog := esclab(t, ctx, "up", "--data", data)
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
	long := []string{"--set", "backbone.tiny.pretrain.epochs=500", "--set", "checkpoint.every_steps=1000", "--set", "checkpoint.every_seconds=1000"}
	run, log := esclab(t, ctx, append([]string{"run", "testdata/micro.yaml", "--data", data}, long...)...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	a := &app{dataDir: data, log: zerolog.Nop()}
	se, err := a.open(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	defer se.close()
	p, err := experiments.Prepare("testdata/micro.yaml", []string{"backbone.tiny.pretrain.epochs=500"}, experiments.OS(democorpus.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	base := p.Stages[1]
	stage := workflows.StageWorkflowID(base.Name, base.Fingerprint)
	for { // until the base is being trained
		progress, err := lab.ReadProgress(ctx, se.node.Client, stage)
		if err == nil && progress.Step > 2 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the base is never trained: %v\n%s\n%s", err, log, upLog)
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel, said := esclab(t, ctx, "cancel", "micro", "--data", data)
	if err := cancel.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if err := run.Wait(); run.ProcessState.ExitCode() != exitFailed || !strings.Contains(log.String(), "it was cancelled") {
		t.Errorf("the cancelled run ended with %v\n%s", err, log)
	}
	for _, id := range []string{workflows.RunWorkflowID(p.Experiment.Name, p.Result()), stage} {
		d, err := se.node.Client.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			t.Fatal(err)
		}
		if status := d.GetWorkflowExecutionInfo().GetStatus(); status != enums.WORKFLOW_EXECUTION_STATUS_CANCELED {
			t.Errorf("workflow %s is %v", id, status)
		}
	}
	if c, _, err := se.node.Store.LatestCheckpoint(ctx, base.Fingerprint); err != nil || c.Step < 3 {
		t.Errorf("checkpoint of the cancelled stage: step %d, %v", c.Step, err)
	}
}

// Temporal and S3 in another process, named in temporal.yaml: nothing else is
// different.
func TestExternalServices(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	there := t.TempDir()
	info, _, down := stackUp(t, ctx, there)
	defer down()

	// Queues of its own, so that the work is done by this run and not by the
	// worker of the other process.
	config := writeFile(t, "external.yaml", fmt.Sprintf(`
temporal: {address: "%s", namespace: %s, api_key_file: %s, tls: {disabled: true}}
s3: {endpoint: "%s", bucket: elsewhere, region: %s, path_style: true, credentials_file: %s}
embedded: {mode: "off"}
task_queues: {control: other-control, cpu: other-cpu, gpu: other-gpu}
`, info.Temporal, info.Namespace, filepath.Join(there, "temporal-key"), info.S3.Endpoint, info.S3.Region, info.S3.CredentialsFile))
	out := filepath.Join(t.TempDir(), "report")
	run, log := esclab(t, ctx, "run", "testdata/micro.yaml", "--config", config, "--data", t.TempDir(), "--report", out,
		"--set", "methods=base", "--set", "paradigms=vanilla", "--set", "backbone.tiny.pretrain.epochs=2")
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if _, err := os.Stat(filepath.Join(out, "report.html")); err != nil {
		t.Error(err)
	}
	if found, _ := filepath.Glob(filepath.Join(there, "s3", "elsewhere", "stages", "*", "manifest.json")); len(found) != 19 {
		t.Errorf("%d artifacts in the external store, want 19\n%s", len(found), log)
	}
}

// stackUp starts esclab up on a data directory, in a process of its own; down ends it.
func stackUp(t *testing.T, ctx context.Context, data string) (info *connect.Info, log *bytes.Buffer, down func()) {
	t.Helper()
	up, log := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	down = func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}
	info, err := waitForStack(ctx, data)
	if err != nil {
		down()
		t.Fatalf("%v\n%s", err, log)
	}
	return info, log, down
}

func waitForStack(ctx context.Context, data string) (*connect.Info, error) {
	for {
		info, err := connect.Discover(ctx, data)
		if err == nil || ctx.Err() != nil || !errors.Is(err, connect.ErrNotRunning) {
			return info, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dpoStage is the directory, in the embedded store, of the stage to be killed.
func dpoStage(t *testing.T) string {
	t.Helper()
	p, err := experiments.Prepare("testdata/micro.yaml", nil, experiments.OS(democorpus.JSON()))
	if err := errors.Join(err, p.Missing); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Stages {
		if s.Name == "dpo/rg" {
			return filepath.Join("s3", "esclab", "stages", s.Fingerprint)
		}
	}
	t.Fatal("the plan has no stage dpo/rg")
	return ""
}

// killAtCheckpoint starts a run and kills it with SIGKILL as soon as the stage
// has a checkpoint that it did not have before.
func killAtCheckpoint(t *testing.T, ctx context.Context, data, stage string) {
	t.Helper()
	markers := func() string {
		found, _ := filepath.Glob(filepath.Join(data, stage, "checkpoints", "*", "marker.json"))
		return strings.Join(found, " ")
	}
	before := markers()
	c, log := esclab(t, ctx, "run", "testdata/micro.yaml", "--data", data)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		select {
		case err := <-ended:
			t.Fatalf("the run ended (%v) before it could be killed\n%s", err, log)
		case <-time.After(2 * time.Millisecond):
		}
		if now := markers(); now != "" && now != before {
			break
		}
	}
	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := os.Stat(filepath.Join(data, stage, "manifest.json")); err == nil {
		t.Fatal("the stage was done before the kill")
	}
}

// Wrong input is refused with an exit code and a line that names the place.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	broken := write("broken.json", `[{"emotion_type": "sadness", "dialog": [{"speaker": "seeker",`)
	unknown := write("unknown.yaml", "name: x\nbackbon: {}\n")
	bad := write("bad.jsonl", `{"gold_strategy": "Question"`+"\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"no such experiment", []string{"run", "nothing-of-the-kind"}, exitUsage, []string{"nothing-of-the-kind"}},
		{"unknown key", []string{"run", unknown}, exitUsage, []string{"unknown.yaml", "backbon", "backbone"}},
		{"unknown flag", []string{"run", "demo", "--frobnicate"}, exitUsage, []string{"frobnicate"}},
		{"value out of range", []string{"run", "demo", "--set", "mining.top_p=2"}, exitUsage, []string{"mining.top_p"}},
		{"truncated corpus", []string{"run", "demo", "--set", "corpus.source=" + broken, "--data", filepath.Join(dir, "d")}, exitFailed, []string{"corpus", "broken.json", "dialogue 0"}},
		{"truncated predictions", []string{"score", bad}, exitUsage, []string{"bad.jsonl:1"}},
		{"missing predictions", []string{"score", filepath.Join(dir, "none")}, exitUsage, []string{"none"}},
		{"no run", []string{"status", "--data", filepath.Join(dir, "empty")}, exitUsage, []string{"there is no run yet", "esclab run"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			defer stop()
			cmd, log := esclab(t, ctx, c.args...)
			_ = cmd.Run() // the exit code is looked at below
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d\n%s", got, c.code, log)
			}
			for _, s := range c.says {
				if !strings.Contains(log.String(), s) {
					t.Errorf("the message does not name %q:\n%s", s, log)
				}
			}
			if strings.Contains(log.String(), "panic") {
				t.Errorf("a panic:\n%s", log)
			}
		})
	}
}

// `score --json` has the columns of the paper's Table 3.
func TestScoreJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.jsonl")
	lines := `{"gold_strategy":"Question","gold_response":"How are you?","strategy":"Question","response":"How are you?"}
{"gold_strategy":"Others","gold_response":"Bye, take care.","strategy":"Question","response":"What do you take?"}
`
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := runScore(path, scoreOptions{json: true}, nil, &out); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"distinct_1", "distinct_2", "bleu_1", "bleu_2", "bleu_4", "f1", "rouge_l", "preference_bias", "weighted_f1", "macro_f1"} {
		if _, ok := got[column].(float64); !ok {
			t.Errorf("column %s is %v", column, got[column])
		}
	}
	if f1 := got["f1"].(float64); f1 <= 50 || f1 >= 100 {
		t.Errorf("F1 of one equal and one different response is %v %%", f1)
	}
}

// LLaMA-Factory's generated_predictions.jsonl scores as the same turns do in our own layout, and the table has the
// columns besides those of Table 3.
func TestScoreReadsLLaMAFactory(t *testing.T) {
	said := func(lines string) string {
		t.Helper()
		var out bytes.Buffer
		if err := runScore(writeFile(t, "generated_predictions.jsonl", lines), scoreOptions{}, nil, &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	theirs := said(`{"prompt": "<|im_start|>user\nHi", "predict": "[Question] How are you today?", "label": "[Question] How are you?\n"}
{"prompt": "", "predict": "Take care.", "label": "[Others] Bye, take care."}
`)
	ours := said(`{"gold_strategy": "Question", "gold_response": "How are you?", "strategy": "Question", "response": "How are you today?"}
{"gold_strategy": "Others", "gold_response": "Bye, take care.", "strategy": null, "response": "Take care."}
`)
	if theirs != ours {
		t.Errorf("LLaMA-Factory's layout scores\n%s\nours\n%s", theirs, ours)
	}
	for _, head := range []string{"D-2", "B-2", "B-4", "1 predictions name no known strategy"} {
		if !strings.Contains(theirs, head) {
			t.Errorf("no %q in\n%s", head, theirs)
		}
	}
}
