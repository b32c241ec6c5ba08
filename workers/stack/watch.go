package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/workers/stack/connect"
)

// How the servers are watched: one that has not answered maxMisses times in a
// row counts as dead. One that is there and says nothing within the limit may only
// be slow, on a machine that has too much to do: it has maxSilences, five minutes.
const (
	watchEvery  = 10 * time.Second
	watchLimit  = 20 * time.Second
	maxMisses   = 3
	maxSilences = 10
)

// Failed receives once, if a server of the stack stops answering, which one and
// what it said last. The stack is of no use then: Stop it, and start anew.
func (s *Stack) Failed() <-chan error { return s.failed }

// watched is a server and a question that it has to answer.
type watched struct {
	name string
	ask  func(context.Context) error
}

// watch asks every server now and then until the context ends.
func (s *Stack) watch(ctx context.Context, every time.Duration, servers []watched) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	misses := make([]int, len(servers))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, w := range servers {
			asking, cancel := context.WithTimeout(ctx, watchLimit)
			err := w.ask(asking)
			cancel()
			if err == nil || ctx.Err() != nil {
				misses[i] = 0
				continue
			}
			most := maxMisses
			var late *serviceerror.DeadlineExceeded
			if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) {
				most = maxSilences
			}
			if misses[i]++; misses[i] >= most {
				s.failed <- fmt.Errorf("the embedded %s does not answer any more (%w): start again with the same command; finished work is in the store", w.name, err)
				return
			}
		}
	}
}

// servers are what the stack runs.
func (s *Stack) servers(ctx context.Context) (all []watched, closing func(), err error) {
	closing = func() {}
	answers := func(url string) func(context.Context) error {
		return func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			request.Close = true // each time a new connection, as a new client would
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			return answer.Body.Close() // whatever it says: it is there
		}
	}
	if s.temporal != nil {
		at, err := s.Temporal()
		if err != nil {
			return nil, closing, err
		}
		c, err := connect.Dial(ctx, at, zerolog.Nop())
		if err != nil {
			return nil, closing, err
		}
		closing = c.Close
		all = append(all, watched{"Temporal", asksNamespace(c, at.Namespace)}, watched{"web UI", answers(s.info.UI)})
	}
	if s.gateway != nil {
		all = append(all, watched{"S3 store", answers(s.s3.Endpoint)})
	}
	return all, closing, nil
}

func asksNamespace(c client.Client, namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		return err
	}
}

// startWatch begins to watch; the stack's end ends it.
func (s *Stack) startWatch(ctx context.Context) error {
	servers, closing, err := s.servers(ctx)
	if err != nil {
		return err
	}
	s.stopWatch = background(func(ctx context.Context) {
		defer closing()
		s.watch(ctx, watchEvery, servers)
	})
	return nil
}

// background runs a function until stop, which ends its context and waits for it.
func background(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() { cancel(); <-done }
}
