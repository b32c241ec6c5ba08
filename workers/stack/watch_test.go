package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
)

// A server that does not answer any more is named, after some patience: more of it
// where the server is there and has only not answered in time.
func TestWatch(t *testing.T) {
	for name, c := range map[string]struct {
		answer error
		want   int // misses in a row, after which it counts as dead
	}{
		"refused":            {errors.New("nobody there"), maxMisses},
		"silent":             {fmt.Errorf("ask: %w", context.DeadlineExceeded), maxSilences},
		"silent, as by gRPC": {serviceerror.NewDeadlineExceeded("context deadline exceeded"), maxSilences},
	} {
		s := &Stack{failed: make(chan error, 1)}
		asked := 0
		servers := []watched{
			{"quiet one", func(context.Context) error { return nil }},
			{"flaky one", func(context.Context) error {
				if asked++; asked > 3 || asked == 1 {
					return c.answer
				}
				return nil
			}},
		}
		s.watch(t.Context(), time.Millisecond, servers)
		select {
		case err := <-s.Failed():
			if !strings.Contains(err.Error(), "flaky one") || !errors.Is(err, c.answer) || asked != 3+c.want {
				t.Errorf("%s: after %d questions: %v; want the flaky one after %d misses in a row", name, asked, err, c.want)
			}
		default:
			t.Errorf("%s: nothing was said", name)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		s.watch(ended, time.Millisecond, servers) // returns
		if len(s.failed) != 0 {
			t.Errorf("%s: a stack that is stopped counts as failed", name)
		}
	}
}
