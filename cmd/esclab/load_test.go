package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts/storetest"
)

// What asks for the 500 cells; make sweep-load sets both.
const (
	envLoad    = "ESCLAB_TEST_LOAD"     // so many of them at a time
	envLoadFor = "ESCLAB_TEST_LOAD_FOR" // for so long, such as 15m; empty: to their end
)

// residentMiB is a process's memory, and its peak.
func residentMiB(t *testing.T, pid int) (now, peak int) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		if err != nil {
			t.Fatal(err)
		}
		if name == "VmRSS" {
			now = kib >> 10
		} else {
			peak = kib >> 10
		}
	}
	return now, peak
}

// Lines of a worker's metrics that count its calls of a method of Temporal, and how
// attempts at stages have ended.
var (
	requests = regexp.MustCompile(`(?m)^temporal(?:_long)?_request\{[^}]*operation="(\w+)"[^}]*\} (\S+)$`)
	ends     = regexp.MustCompile(`(?m)^esclab_stages_total\{[^}]*outcome="(\w+)"[^}]*\} (\S+)$`)
)

// addCounts adds what a worker with metrics at an address has counted.
func addCounts(t *testing.T, address string, counts map[*regexp.Regexp]map[string]int) {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for what, count := range counts {
		for _, line := range what.FindAllSubmatch(text, -1) {
			n, err := strconv.ParseFloat(string(line[2]), 64)
			if err != nil {
				t.Fatalf("%s: %v", line[0], err)
			}
			count[string(line[1])] += int(n)
		}
	}
}

// Eight workers share 500 cells of the demo: every stage is run once, by one of
// them, in its first attempt, none is lost, and no process holds more at the end than
// at the quarter. It counts what they have called of Temporal.
func TestSweepOfManyWorkers(t *testing.T) {
	if os.Getenv(envLoad) == "" {
		t.Skipf("500 cells take a quarter of an hour or more: $%s or make sweep-load", envLoad)
	}
	limit := 2 * time.Hour
	if text := os.Getenv(envLoadFor); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatalf("$%s: %v", envLoadFor, err)
		}
	}
	const file, cells, workers = "testdata/load-sweep.yaml", 500, 8
	ctx, stop := context.WithTimeout(t.Context(), limit+10*time.Minute)
	defer stop()
	data := t.TempDir()

	c, log := esclab(t, ctx, "sweep", file, "--plan", "--json", "--data", data)
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	var plan struct {
		Stages struct {
			InCells  int `json:"in_cells"`
			Distinct int `json:"distinct"`
		} `json:"stages"`
		Kinds []struct {
			Kind     string `json:"kind"`
			Distinct int    `json:"distinct"`
		} `json:"kinds"`
	}
	if err := json.Unmarshal(out.Bytes(), &plan); err != nil {
		t.Fatal(err)
	}

	type process struct {
		name string
		*exec.Cmd
		log     *bytes.Buffer
		metrics string // address
		past    []int  // MiB
	}
	var processes []*process
	start := func(name string, args ...string) {
		metrics := storetest.FreeAddress(t)
		c, log := esclab(t, ctx, append(args, "--data", data, "--metrics", metrics)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, &process{name: name, Cmd: c, log: log, metrics: metrics})
		t.Cleanup(func() { _ = c.Process.Kill() }) // where the test has ended before its processes
	}
	start("stack", "up") // with a worker in it
	if _, err := waitForStack(ctx, data); err != nil {
		t.Fatalf("%v\n%s", err, processes[0].log)
	}
	for i := range workers - 1 {
		start(fmt.Sprintf("worker %d", i+2), "worker")
	}

	began := time.Now()
	if c, log := esclab(t, ctx, "sweep", file, "--detach", "--parallel", os.Getenv(envLoad), "--data", data); c.Run() != nil {
		t.Fatalf("%s", log)
	}
	var state struct {
		Cells []cellState `json:"cells"`
	}
	done, quarter := 0, 0
	for done < cells && time.Since(began) < limit {
		select {
		case <-ctx.Done():
			t.Fatalf("%d of %d cells are done", done, cells)
		case <-time.After(5 * time.Second):
		}
		c, log := esclab(t, ctx, "sweep", "status", "load-sweep", "--json", "--data", data)
		var out bytes.Buffer
		c.Stdout = &out
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if err := json.Unmarshal(out.Bytes(), &state); err != nil {
			t.Fatal(err)
		}
		done = 0
		for _, cell := range state.Cells {
			switch cell.State {
			case "done":
				done++
			case "failed":
				t.Fatalf("cell %s: %+v", cell.Cell, cell)
			}
		}
		for _, p := range processes {
			now, _ := residentMiB(t, p.Process.Pid)
			p.past = append(p.past, now)
		}
		if quarter == 0 && done >= cells/4 {
			quarter = len(processes[0].past) - 1
		}
		if len(processes[0].past)%12 == 0 {
			t.Logf("%4.0f s: %d of %d cells", time.Since(began).Seconds(), done, cells)
		}
	}
	took := time.Since(began)

	// Before anybody stops them: then attempts end, too.
	calls, ended := map[string]int{}, map[string]int{}
	for _, p := range processes {
		addCounts(t, p.metrics, map[*regexp.Regexp]map[string]int{requests: calls, ends: ended})
	}
	for _, method := range slices.Sorted(maps.Keys(calls)) {
		t.Logf("%8d calls of %s", calls[method], method)
	}
	t.Logf("%s cells at a time, %d of %d done in %.0f s, attempts: %v", os.Getenv(envLoad), done, cells, took.Seconds(), ended)
	if ended["failed"]+ended["stopped"] > 0 || ended["done"] == 0 {
		t.Errorf("attempts at stages have ended so: %v; want all of them done: nobody has disturbed them", ended)
	}
	peaks := make([]int, len(processes))
	for i, p := range processes {
		_, peaks[i] = residentMiB(t, p.Process.Pid)
	}
	var whole strings.Builder
	for i := len(processes) - 1; i >= 0; i-- { // the stack last
		p := processes[i]
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", p.name, err, p.log)
		}
		whole.WriteString(p.log.String())
		at, end := p.past[quarter], p.past[len(p.past)-1]
		t.Logf("%-8s %4d MiB at a quarter of the cells, %4d at the end, %4d at most; %d stages", p.name, at, end, peaks[i], trained(p.log.String(), ""))
		if done == cells && end > at+at/2+64 {
			t.Errorf("%s holds %d MiB at the end and held %d at a quarter", p.name, end, at)
		}
	}
	for line := range strings.Lines(whole.String()) {
		if strings.Contains(line, `"level":"warn"`) || strings.Contains(line, `"level":"error"`) {
			t.Logf("%s", line)
		}
	}
	if done < cells {
		if os.Getenv(envLoadFor) == "" {
			t.Errorf("%d of %d cells are done after %s", done, cells, limit)
		}
		return
	}
	found, err := filepath.Glob(filepath.Join(data, "s3", "esclab", "stages", "*", "manifest.json"))
	if err != nil || len(found) != plan.Stages.Distinct {
		t.Errorf("%d artifacts of %d stages, %v", len(found), plan.Stages.Distinct, err)
	}
	for _, k := range plan.Kinds {
		// A stage's name is its kind, alone or before a slash. Fewer than planned are
		// no loss: an attempt that has stored its artifact and is cut off then leaves
		// it to the next one, which has nothing to do.
		got := trained(whole.String(), k.Kind+`"`) + trained(whole.String(), k.Kind+"/")
		if got > k.Distinct {
			t.Errorf("%d stages of kind %s were run, want %d", got, k.Kind, k.Distinct)
		} else if got < k.Distinct {
			t.Logf("%d stages of kind %s were stored by an attempt that did not live to say so", k.Distinct-got, k.Kind)
		}
	}
	t.Logf("%d cells, %d stages in them, %d different, by %d workers in %.0f s: %.2f cells a second, %.1f stages",
		cells, plan.Stages.InCells, plan.Stages.Distinct, workers, took.Seconds(), cells/took.Seconds(), float64(plan.Stages.Distinct)/took.Seconds())
}
