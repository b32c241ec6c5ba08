package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

// envOutage adds an outage of so long, such as 40s, to those of TestOutage.
const envOutage = "ESCLAB_TEST_OUTAGE"

// Temporal stands still for 2 and for 10 s under a training: the training goes on
// meanwhile, its attempt stays the first, and when the run is cancelled then every
// step that it has made is saved.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("stops servers for some seconds")
	}
	outages := []time.Duration{2 * time.Second, 10 * time.Second}
	if text := os.Getenv(envOutage); text != "" {
		more, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("$%s: %v", envOutage, err)
		}
		outages = append(outages, more)
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	// A training that is not over before it is cancelled.
	l := startLab(t, ctx, "60s", "micro", "testdata/micro.yaml", "--set", "paradigms=vanilla", "--set", "methods=base",
		"--set", "backbone.tiny.pretrain.epochs=1000",
		"--set", "backbone.tiny.pretrain.batch_size=1", "--set", "checkpoint.every_steps=50")
	l.begin(ctx)
	advance := func() int {
		t.Helper()
		for from := -1; ; time.Sleep(50 * time.Millisecond) {
			attempts, step, _, over, err := l.Records.Reached("base")
			if err != nil || over || attempts > 1 || ctx.Err() != nil {
				t.Fatalf("the training has had %d attempts and came to step %d (over: %v; %v), want one that goes on", attempts, step, over, err)
			}
			if from < 0 {
				from = step
			}
			if step > from {
				return step
			}
		}
	}
	for _, outage := range outages {
		advance()
		if err := l.Temporal.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(outage); time.Now().Before(until); {
			advance() // while Temporal is away
		}
		if err := l.Temporal.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	// It is heard of again: the cancellation arrives by a heartbeat.
	if _, err := l.esclab(ctx, "cancel", l.name); err != nil {
		t.Fatal(err)
	}
	for {
		attempts, step, saved, over, err := l.Records.Reached("base")
		if err != nil || attempts != 1 || ctx.Err() != nil {
			t.Fatalf("%d attempts, %v; want one, which ends", attempts, err)
		}
		if over {
			if saved != step {
				t.Errorf("the training ended at step %d and had saved step %d, want all of them", step, saved)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
