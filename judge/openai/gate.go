package openai

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits of an endpoint; 0 is no limit.
type Limits struct {
	Concurrency       int // requests in flight
	RequestsPerMinute int
	TokensPerMinute   int // prompts and the longest replies that they may get
}

// Gate lets requests to an endpoint pass as its limits allow. Limits belong to
// an account, so all clients of one endpoint share a gate.
type Gate struct {
	slots     chan struct{} // nil: no limit
	requests  *rate.Limiter
	tokens    *rate.Limiter
	transport http.RoundTripper // and its connections

	answered atomic.Bool // the endpoint has answered a question

	mu    sync.Mutex
	until time.Time // nobody passes before
}

// NewGate returns an open gate.
func NewGate(l Limits) *Gate {
	g := &Gate{requests: perMinute(l.RequestsPerMinute), tokens: perMinute(l.TokensPerMinute)}
	g.transport = http.DefaultTransport
	if t, ok := g.transport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = max(2, l.Concurrency)
		g.transport = t
	}
	if l.Concurrency > 0 {
		g.slots = make(chan struct{}, l.Concurrency)
	}
	return g
}

// perMinute spreads n a minute evenly, after a first burst of a sixth of them.
func perMinute(n int) *rate.Limiter {
	if n <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(float64(n)/60), max(1, n/6))
}

// Pause keeps everybody out for a while: one of them was told so.
func (g *Gate) Pause(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := time.Now().Add(d); until.After(g.until) {
		g.until = until
	}
}

func (g *Gate) paused() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.until)
}

// enter waits for its turn to send a request of so many tokens. leave ends it.
func (g *Gate) enter(ctx context.Context, tokens int) (leave func(), err error) {
	leave = func() {}
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
			leave = func() { <-g.slots }
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for {
		wait := g.paused()
		if wait <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	if err := wait(ctx, g.requests, 1); err != nil {
		leave()
		return nil, err
	}
	if err := wait(ctx, g.tokens, tokens); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// wait takes n from a limiter, in portions that it can hold.
func wait(ctx context.Context, l *rate.Limiter, n int) error {
	if l.Limit() == rate.Inf {
		return nil
	}
	for n > 0 {
		portion := min(n, l.Burst())
		if err := l.WaitN(ctx, portion); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		n -= portion
	}
	return nil
}
