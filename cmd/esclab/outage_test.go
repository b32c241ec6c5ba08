package main

import (
	"context"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/chaos"
)

// What lengthens TestOutage; make outage sets both.
const (
	envOutage = "ESCLAB_TEST_OUTAGE" // adds an outage of so long, such as 40s
	envFlaky  = "ESCLAB_TEST_FLAKY"  // how long connections are flaky; 10s without it
)

// Temporal stands still for 2 and for 10 s under a training, and is then reached by
// flaky connections alone: the training goes on meanwhile, its attempt stays the
// first, and when the run is cancelled then every step that it has made is saved.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("stops servers for some seconds")
	}
	span := func(variable string, otherwise time.Duration) time.Duration {
		text := os.Getenv(variable)
		if text == "" {
			return otherwise
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("$%s: %v", variable, err)
		}
		return d
	}
	outages, flaky := []time.Duration{2 * time.Second, 10 * time.Second}, span(envFlaky, 10*time.Second)
	if more := span(envOutage, 0); more > 0 {
		outages = append(outages, more)
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute+flaky)
	defer stop()
	// A training that is not over before it is cancelled.
	l := startLab(t, ctx, "60s", "micro", "testdata/micro.yaml", "--set", "paradigms=vanilla", "--set", "methods=base",
		"--set", "corpus.max_dialogues=80", "--set", "backbone.tiny.hidden_size=128", "--set", "backbone.tiny.layers=4",
		"--set", "backbone.tiny.pretrain.epochs=1000", "--set", "backbone.tiny.pretrain.batch_size=1",
		"--set", "checkpoint.every_steps=50")
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
	// goOn has the training advance for so long.
	goOn := func(d time.Duration) {
		t.Helper()
		for until := time.Now().Add(d); time.Now().Before(until); {
			advance()
		}
	}
	for _, outage := range outages {
		before := advance()
		if err := l.Temporal.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn(outage)
		if err := l.Temporal.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		t.Logf("Temporal stood still for %s: %d steps meanwhile, one attempt", outage, advance()-before)
	}
	before, faults, chance := advance(), 0, rand.New(rand.NewPCG(1, 0))
	draw := func(least, most time.Duration) time.Duration {
		return least + time.Duration(chance.Int64N(int64(most-least)))
	}
	for until := time.Now().Add(flaky); time.Now().Before(until); faults++ {
		hurt, slow := chance.IntN(4), draw(50*time.Millisecond, 200*time.Millisecond)
		for _, links := range l.Links {
			switch link := links[chaos.Temporal]; hurt {
			case 0:
				link.Cut(false)
			case 1:
				link.Cut(true)
			case 2:
				link.Stall()
			default:
				link.Slow(slow)
			}
		}
		goOn(draw(200*time.Millisecond, 8*time.Second))
		for _, links := range l.Links {
			links[chaos.Temporal].Heal()
		}
		goOn(draw(500*time.Millisecond, 4*time.Second))
	}
	t.Logf("connections to Temporal were cut, refused, stalled or slowed %d times within %s: %d steps meanwhile, one attempt", faults, flaky, advance()-before)
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
