package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/internal/chaos"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
)

// What the test binary reads where it is a server of a chaos campaign.
const (
	envChaosDir  = "ESCLAB_TEST_CHAOS_DIR"
	envChaosPort = "ESCLAB_TEST_CHAOS_PORT"
)

// chaosHeartbeat is temporal.heartbeat of the labs, the shortest that there is.
const chaosHeartbeat = "7s"

// serveForChaos is one half of the embedded stack, Temporal on its SQLite file
// or the S3 store, until SIGTERM.
func serveForChaos(service string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	port, err := strconv.Atoi(os.Getenv(envChaosPort))
	if err == nil {
		o := stack.OptionsFrom(settings.Default(), zerolog.New(os.Stderr).With().Timestamp().Logger())
		o.DataDir, o.Ports = os.Getenv(envChaosDir), settings.Ports{Temporal: settings.Port(port), S3: settings.Port(port)}
		o.NoTemporal, o.NoS3 = service != chaos.Temporal, service != chaos.Store
		var s *stack.Stack
		if s, err = stack.Start(ctx, o); err == nil {
			<-ctx.Done()
			err = s.Stop()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// chaosLab is Temporal, the S3 store and two workers, each a process of its own;
// each worker reaches each service by a link of its own.
type chaosLab struct {
	chaos.Lab
	t          *testing.T
	dir        string
	experiment []string // name or file, and what is set
	name       string   // of the experiment
	config     string   // for commands, which reach the services directly
	heartbeat  string   // temporal.heartbeat
}

// startChaosLab starts a lab, which ends with the test.
func startChaosLab(t *testing.T, ctx context.Context, name string, experiment ...string) *chaosLab {
	t.Helper()
	return startLab(t, ctx, chaosHeartbeat, name, experiment...)
}

// startLab is startChaosLab with a heartbeat timeout.
func startLab(t *testing.T, ctx context.Context, heartbeat, name string, experiment ...string) *chaosLab {
	t.Helper()
	l := &chaosLab{t: t, dir: t.TempDir(), experiment: experiment, name: name, heartbeat: heartbeat}
	t.Cleanup(l.keep)
	logs := filepath.Join(l.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	address := map[string]string{}
	server := func(service string, ready func(context.Context) error) *chaos.Process {
		address[service] = storetest.FreeAddress(t)
		_, port, _ := net.SplitHostPort(address[service])
		p := &chaos.Process{Name: service, Logs: logs, Ready: ready, Command: func() *exec.Cmd {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), envMain+"="+service, envChaosDir+"="+filepath.Join(l.dir, service), envChaosPort+"="+port)
			return c
		}}
		l.start(ctx, p)
		return p
	}
	l.Temporal = server(chaos.Temporal, func(ctx context.Context) error {
		key, err := settings.ReadKey("temporal", l.temporalKey())
		if err != nil {
			return err
		}
		c, err := connect.Dial(ctx, connect.Temporal{Address: address[chaos.Temporal], Namespace: "default", APIKey: key}, zerolog.Nop())
		if err == nil {
			c.Close()
		}
		return err
	})
	l.Store = server(chaos.Store, func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address[chaos.Store])
		if err == nil {
			c.Close()
		}
		return err
	})
	l.config = l.settings("commands", address)
	l.Links = map[string]map[string]*chaos.Link{}
	for _, name := range []string{"worker-a", "worker-b"} {
		links, through := map[string]*chaos.Link{}, map[string]string{}
		for service, target := range address {
			link, err := chaos.NewLink(target)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(link.Close)
			links[service], through[service] = link, link.Address()
		}
		l.Links[name] = links
		config := l.settings(name, through)
		w := &chaos.Process{Name: name, Logs: logs, Command: func() *exec.Cmd {
			return l.command("worker", "--log", "debug", "--queues", "control,cpu", "--slots", "2", "--config", config, "--data", filepath.Join(l.dir, name))
		}}
		l.Workers = append(l.Workers, w)
	}
	for _, w := range l.Workers {
		l.start(ctx, w)
	}
	l.Records = chaos.NewRecords(logs, l.Workers)
	l.Finished = l.finished
	return l
}

func (l *chaosLab) start(ctx context.Context, p *chaos.Process) {
	l.t.Helper()
	l.t.Cleanup(p.Stop)
	if err := p.Start(ctx); err != nil {
		l.t.Fatal(err)
	}
}

// temporalKey is the file with the key that Temporal demands.
func (l *chaosLab) temporalKey() string { return filepath.Join(l.dir, chaos.Temporal, "temporal-key") }

// settings writes a settings file for services at these addresses.
func (l *chaosLab) settings(name string, address map[string]string) string {
	l.t.Helper()
	return writeFile(l.t, name+".yaml", fmt.Sprintf(`temporal: {address: %q, heartbeat: %s, api_key_file: %q, tls: {disabled: true}}
s3: {endpoint: "http://%s", credentials_file: %q}
embedded: {mode: "off"}
`, address[chaos.Temporal], l.heartbeat, l.temporalKey(), address[chaos.Store], filepath.Join(l.dir, chaos.Store, "s3-credentials")))
}

// command is a command line of the program.
func (l *chaosLab) command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), envMain+"=1", "ESCLAB_CONFIG=", "ESCLAB_DATA_DIR=")
	return c
}

// esclab runs a command to its end and returns what it printed. It is tried
// again where Temporal or the store cannot be reached or no worker answers, and
// where a run is not listed yet: Temporal's lists lag behind under load.
func (l *chaosLab) esclab(ctx context.Context, args ...string) (string, error) {
	for {
		var out, said bytes.Buffer
		c := l.command(append(args, "--config", l.config, "--data", filepath.Join(l.dir, "commands"))...)
		c.Stdout, c.Stderr = &out, &said
		err := c.Run()
		if err == nil {
			return out.String() + said.String(), nil
		}
		again := c.ProcessState.ExitCode() == exitUnreachable || strings.Contains(said.String(), "there is no run")
		if !again || ctx.Err() != nil {
			return "", fmt.Errorf("esclab %v: %w\n%s%s", args, err, &out, &said)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// state is what esclab status --json says of the run.
func (l *chaosLab) state(ctx context.Context) (workflows.RunState, error) {
	var state workflows.RunState
	out, err := l.esclab(ctx, "status", l.name, "--json")
	if err == nil {
		err = json.NewDecoder(strings.NewReader(out)).Decode(&state)
	}
	return state, err
}

// finished says whether the run has all of its stages; one that has failed is
// an error.
func (l *chaosLab) finished(ctx context.Context) (bool, error) {
	state, err := l.state(ctx)
	if err != nil {
		return false, err
	}
	var failed error
	left := 0
	for _, s := range state.Stages {
		switch s.Status {
		case workflows.StageDone, workflows.StageReused:
		case workflows.StageFailed:
			failed = errors.Join(failed, fmt.Errorf("stage %s: %s", s.Name, s.Error))
		default:
			left++
		}
	}
	return left == 0 && len(state.Stages) > 0, failed
}

// begin starts the run and gives the stages that it has to make.
func (l *chaosLab) begin(ctx context.Context) []chaos.Stage {
	l.t.Helper()
	if _, err := l.esclab(ctx, append([]string{"run", "--detach"}, l.experiment...)...); err != nil {
		l.t.Fatal(err)
	}
	state, err := l.state(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	var stages []chaos.Stage
	for _, s := range state.Stages {
		kind := string(s.Kind)
		stages = append(stages, chaos.Stage{Name: s.Name, Trains: kind == "base" || kind == "sft" || kind == "dpo"})
	}
	return stages
}

// digests gives the artifacts of the finished run, by stage.
func (l *chaosLab) digests(ctx context.Context) map[string]string {
	l.t.Helper()
	state, err := l.state(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range state.Stages {
		all[s.Name] = s.Result.Digest
	}
	return all
}

// collect runs esclab gc and gives what it has found, in objects.
func (l *chaosLab) collect(ctx context.Context) int {
	l.t.Helper()
	out, err := l.esclab(ctx, "gc", "--older-than", "0s", "--force", "--json")
	if err != nil {
		l.t.Fatal(err)
	}
	var collected struct {
		Found map[string]struct {
			Objects int `json:"objects"`
		} `json:"found"`
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&collected); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	n := 0
	for _, found := range collected.Found {
		n += found.Objects
	}
	return n
}

// objects are the files of the store where they lie on disk, those that no list
// shows included. Leases are named without their tokens, which count attempts.
func (l *chaosLab) objects() map[string]bool {
	l.t.Helper()
	root := filepath.Join(l.dir, chaos.Store, "s3")
	all := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if dir, file := filepath.Split(filepath.ToSlash(name)); strings.HasSuffix(dir, "/leases/") && file != "latest.json" {
			name = dir + "TOKEN"
		}
		all[name] = true
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// undisturbed runs an experiment in a lab of its own and gives its artifacts
// and, after a garbage collection, the store's objects.
func undisturbed(t *testing.T, ctx context.Context, name string, experiment ...string) (digests map[string]string, objects map[string]bool) {
	t.Helper()
	l := startChaosLab(t, ctx, name, experiment...)
	stages := l.begin(ctx)
	quiet := chaos.Campaign{Lab: l.Lab, Stages: stages, Log: io.Discard}
	if err := quiet.Run(ctx); err != nil {
		t.Fatal(err)
	}
	l.collect(ctx)
	digests, objects = l.digests(ctx), l.objects()
	l.stop()
	return digests, objects
}

// stop ends the lab's processes.
func (l *chaosLab) stop() {
	for _, w := range l.Workers {
		w.Stop()
	}
	l.Temporal.Stop()
	l.Store.Stop()
}

// spareKills is how many kills have one more planned beside them: the last of a
// schedule may find the run over.
const spareKills = 20

// campaign disturbs a run of an experiment and compares what is left with the
// undisturbed run. It prints one line, and returns the account.
func campaign(t *testing.T, ctx context.Context, seed uint64, kills, every int, log io.Writer, name string, experiment ...string) chaos.Account {
	t.Helper()
	wantDigests, wantObjects := undisturbed(t, ctx, name, experiment...)
	l := startChaosLab(t, ctx, name, experiment...)
	stages := l.begin(ctx)
	c := chaos.Campaign{Lab: l.Lab, Seed: seed, Stages: stages, Events: chaos.Plan(seed, stages, kills+kills/spareKills), Log: log}
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
	account, err := c.Account(every)
	if err != nil {
		t.Fatal(err)
	}
	verdict := "equal"
	for stage, digest := range l.digests(ctx) {
		if wantDigests[stage] != digest {
			verdict = "NOT EQUAL"
			t.Errorf("stage %s: artifact %.12s, undisturbed %.12s", stage, digest, wantDigests[stage])
		}
	}
	for _, broken := range account.Broken {
		t.Error(broken)
	}
	if account.Kills < kills {
		t.Errorf("%d kills, want %d: the run was over before", account.Kills, kills)
	}
	// The store, by the program and then on disk.
	if out, err := l.esclab(ctx, "verify", "--all"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	garbage := l.collect(ctx)
	orphans := 0
	got := l.objects()
	for object := range got {
		if !wantObjects[object] {
			orphans++
			t.Errorf("esclab gc has left %s", object)
		}
	}
	for object := range wantObjects {
		if !got[object] {
			t.Errorf("%s is not in the store", object)
		}
	}
	// Nothing is left to do.
	if out, err := l.esclab(ctx, append([]string{"run"}, experiment...)...); err != nil || !strings.Contains(out, fmt.Sprintf("%d stages, %d of them reused", len(stages), len(stages))) {
		t.Errorf("the run is not whole: %v\n%s", err, out)
	}
	l.crashes()
	line := fmt.Sprintf("chaos: %s, digests %s, %d objects collected, %d orphans left, wall %.0f s", account, verdict, garbage, orphans, account.Wall.Seconds())
	fmt.Println(line)
	fmt.Fprintln(log, line)
	l.stop()
	return account
}

// crashes looks for programs that ended by a fault of their own.
func (l *chaosLab) crashes() {
	l.t.Helper()
	logs, err := filepath.Glob(filepath.Join(l.dir, "logs", "*.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, name := range logs {
		data, err := os.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
				l.t.Errorf("%s: %s", filepath.Base(name), line)
			}
		}
	}
}

// keep copies what a test that went wrong has left to where ESCLAB_CHAOS_KEEP says.
func (l *chaosLab) keep() {
	to := os.Getenv("ESCLAB_CHAOS_KEEP")
	if to == "" || !l.t.Failed() {
		return
	}
	if err := os.CopyFS(to, os.DirFS(l.dir)); err != nil {
		l.t.Log(err)
	}
}

// Five kills, and a worker that is frozen, in one run of a small experiment:
// make chaos has the large campaign.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a small experiment twice")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	var log bytes.Buffer
	account := campaign(t, ctx, 1, 5, 2, &log, "micro", "testdata/micro.yaml",
		"--set", "paradigms=vanilla", "--set", "methods=sft,dpo",
		// An epoch of many steps has time for two kills.
		"--set", "backbone.tiny.pretrain.epochs=4", "--set", "backbone.tiny.pretrain.batch_size=1")
	t.Logf("\n%s", &log)
	if account.Within["base"] < 2 {
		t.Errorf("kills within an epoch: %v", account.Within)
	}
	if slices.Max([]int{account.Faults, account.Rivals}) == 0 {
		t.Error("nothing was frozen or cut off")
	}
}
