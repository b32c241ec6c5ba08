package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// envKills is how often the sweep is killed; `make sweep-kill` sets it.
const envKills = "ESCLAB_TEST_KILLS"

// runSweep runs the micro sweep to its end, whose exit code says that a cell
// has failed, and returns the table's files and what was printed.
func runSweep(t *testing.T, ctx context.Context, data string) (map[string]string, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "table")
	c, log := esclab(t, ctx, "sweep", "testdata/micro-sweep.yaml", "--data", data, "--out", out)
	if err := c.Run(); c.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("esclab sweep: %v, want exit code %d for its failed cell\n%s", err, exitFailed, log)
	}
	files := map[string]string{}
	for _, name := range []string{results.FileSweepMarkdown, results.FileSweepCSV, results.FileSweepJSON} {
		raw, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		files[name] = string(raw)
	}
	return files, log.String()
}

// trained counts the stages of a kind that a log says were run.
func trained(log, kind string) int {
	n := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"stage":"`+kind) && strings.Contains(line, `"stage done"`) {
			n++
		}
	}
	return n
}

// A sweep shares its stages, ends beside a failed cell, is reused whole, and
// ends with the same table, to the byte, when it is killed in between.
func TestSweepEndsWithTheSameTable(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a sweep twice")
	}
	kills := 1
	if text := os.Getenv(envKills); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("$%s: %v", envKills, err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	data := t.TempDir()
	began := time.Now()
	want, log := runSweep(t, ctx, data)
	took := time.Since(began)
	for kind, n := range map[string]int{"base": 1, "sft/vm": 1, "mine/vm": 1, "reference/vm": 1, "dpo/vm": 5} {
		if got := trained(log, kind); got != n {
			t.Errorf("%d stages %s were run, want %d\n%s", got, kind, n, log)
		}
	}
	table, err := report.ReadSweep(strings.NewReader(want[results.FileSweepJSON]))
	if err != nil {
		t.Fatal(err)
	}
	// vanilla/sft once for the four whole cells is not "all cells": the failed
	// one has other replies.
	if len(table.Rows) != 9 || table.Rows[8].State != "failed" || !strings.Contains(table.Rows[8].Reason, "generate/vanilla") {
		t.Errorf("table:\n%s", want[results.FileSweepMarkdown])
	}
	if loss := table.Rows[8].Training["dpo/vm/all"]["loss"]; loss <= 0 {
		t.Errorf("the failed cell has lost the figures of its training: %+v", table.Rows[8])
	}

	// No worker is up to ask: how the sweep ended says which cell has failed.
	if md := output(t, ctx, "", "compare", "--sweep", "micro-sweep", "--md", "--data", data); strings.Count(md, "| failed |") != 1 {
		t.Errorf("comparison of the sweep's cells:\n%s", md)
	}

	// Once more: nothing but the failed cell is tried.
	again, log := runSweep(t, ctx, data)
	if !strings.Contains(log, "4 cells are in the store whole") || trained(log, "") != 0 {
		t.Errorf("the finished sweep was not reused whole:\n%s", log)
	}
	sameTable(t, "run again", again, want)

	seed := uint64(time.Now().UnixNano())
	t.Logf("kills at random, seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	killed := t.TempDir()
	for kill := range kills {
		c, log := esclab(t, ctx, "sweep", "testdata/micro-sweep.yaml", "--data", killed)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		select {
		case <-ended:
			t.Logf("kill %d came too late\n%s", kill+1, log)
		case <-time.After(time.Duration(random.Float64() * float64(took))):
			if err := c.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-ended
		}
	}
	got, _ := runSweep(t, ctx, killed)
	sameTable(t, "after kills", got, want)
}

func sameTable(t *testing.T, when string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s, %s is\n%s\nwant\n%s", when, name, got[name], want[name])
		}
	}
}

// The commands reach a running sweep, and what is refused says why.
func TestSweepVerbs(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of a sweep")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
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
		t.Fatalf("%v\n%s", err, upLog)
	}
	do := func(code int, says string, args ...string) string {
		t.Helper()
		c, log := esclab(t, ctx, append(args, "--data", data)...)
		err := c.Run()
		if c.ProcessState.ExitCode() != code || !strings.Contains(log.String(), says) {
			t.Errorf("esclab %v: %v, want exit code %d and %q\n%s", args, err, code, says, log)
		}
		return log.String()
	}
	// A base that takes too long to finish: everything after it waits.
	long := []string{"--set", "backbone.tiny.pretrain.epochs=1000", "--set", "checkpoint.every_steps=10"}
	do(exitOK, "5 cells", append([]string{"sweep", "testdata/micro-sweep.yaml", "--detach"}, long...)...)
	do(exitOK, "1 at a time", "sweep", "parallel", "micro-sweep", "1")
	do(exitUsage, "parallel \"0\"", "sweep", "parallel", "micro-sweep", "0")
	do(exitFailed, "is not paused", "sweep", "resume", "micro-sweep")
	do(exitOK, "paused", "sweep", "pause", "micro-sweep", "--now")
	do(exitOK, "1 cancelled", "sweep", "cancel-cell", "micro-sweep", "loss-simpo_beta-0.3")
	do(exitFailed, "is cancelled", "sweep", "cancel-cell", "micro-sweep", "loss-simpo_beta-0.3")
	do(exitUsage, "it has loss-dpo_beta-0.1", "sweep", "cancel-cell", "micro-sweep", "loss-dpo")
	do(exitOK, "sweep sweep/micro-sweep/", "sweep", "retry-failed", "micro-sweep")
	do(exitUsage, "no cell that sweep", append([]string{"sweep", "add-cells", "micro-sweep", "testdata/micro-sweep.yaml"}, long...)...)
	more := writeFile(t, "more.yaml", fmt.Sprintf("name: micro-sweep\nbase: %s\nset: {paradigms: [vanilla], methods: [sft, dpo]}\ngrid: {dpo.loss: [ipo]}\n", absolute(t, "testdata/micro.yaml")))
	do(exitOK, "1 cells added", append([]string{"sweep", "add-cells", "micro-sweep", more}, long...)...)
	var state struct {
		Paused bool        `json:"paused"`
		Cells  []cellState `json:"cells"`
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(do(exitOK, "", "sweep", "status", "micro-sweep", "--json")))).Decode(&state); err != nil {
		t.Fatal(err)
	}
	if !state.Paused || len(state.Cells) != 6 || state.Cells[5].Cell != "loss-ipo" {
		t.Errorf("%+v", state)
	}
	do(exitOK, "loss-ipo", "sweep", "table", "micro-sweep", "--csv")
	do(exitUsage, "did you mean esclab sweep pause?", "sweep", "pasue")
	do(exitOK, "is being cancelled", "sweep", "cancel", "micro-sweep")
	for {
		c, log := esclab(t, ctx, "sweep", "list", "--data", data)
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if strings.Contains(log.String(), "cancelled") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the sweep is never cancelled:\n%s\n%s", log, upLog)
		}
		time.Sleep(100 * time.Millisecond)
	}
	do(exitUsage, "no sweep \"micro-sweep\" is under way", "sweep", "pause", "micro-sweep")
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
