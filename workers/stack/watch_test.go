package stack

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A server that does not answer any more is named, after some patience.
func TestWatch(t *testing.T) {
	s := &Stack{failed: make(chan error, 1)}
	asked := 0
	servers := []watched{
		{"quiet one", func(context.Context) error { return nil }},
		{"flaky one", func(context.Context) error {
			if asked++; asked > 3 || asked == 1 {
				return errors.New("nobody there")
			}
			return nil
		}},
	}
	s.watch(t.Context(), time.Millisecond, servers)
	select {
	case err := <-s.Failed():
		if !strings.Contains(err.Error(), "flaky one") || !strings.Contains(err.Error(), "nobody there") || asked != 3+maxMisses {
			t.Errorf("after %d questions: %v; want the flaky one after %d misses in a row", asked, err, maxMisses)
		}
	default:
		t.Error("nothing was said")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.watch(ended, time.Millisecond, servers) // returns
	if len(s.failed) != 0 {
		t.Error("a stack that is stopped counts as failed")
	}
}
