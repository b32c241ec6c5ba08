package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/esclab/esclab/workflows"
)

// How long an attempt may stay silent before it counts as hung. Steps follow
// each other within minutes; loading, compiling and storing have no steps.
const (
	stepLimit  = 10 * time.Minute
	phaseLimit = 30 * time.Minute
	pulseEvery = 3 * time.Second
)

// pulse sends an attempt's heartbeats: at once when something advances, and
// in between only while the last advance is recent enough for what the attempt
// is doing. A worker that hangs therefore falls silent and is replaced, while
// a model may take its time to load.
type pulse struct {
	mu       sync.Mutex
	last     workflows.Progress
	advanced time.Time
	stop     context.CancelFunc
	ended    chan struct{}
}

func startPulse(ctx context.Context) *pulse {
	beating, stop := context.WithCancel(ctx)
	p := &pulse{advanced: time.Now(), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(pulseEvery)
		defer tick.Stop()
		for {
			select {
			case <-beating.Done():
				return
			case <-tick.C:
				if last, alive := p.state(); alive {
					activity.RecordHeartbeat(ctx, last)
				}
			}
		}
	}()
	return p
}

func (p *pulse) state() (workflows.Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := phaseLimit
	if p.last.Step > 0 {
		limit = stepLimit
	}
	return p.last, time.Since(p.advanced) < limit
}

func (p *pulse) advance(ctx context.Context, now workflows.Progress) {
	p.mu.Lock()
	p.last, p.advanced = now, time.Now()
	p.mu.Unlock()
	activity.RecordHeartbeat(ctx, now)
}

// touch reports that something has advanced that is no step.
func (p *pulse) touch(ctx context.Context, change func(*workflows.Progress)) {
	p.mu.Lock()
	change(&p.last)
	p.advanced = time.Now()
	now := p.last
	p.mu.Unlock()
	activity.RecordHeartbeat(ctx, now)
}

func (p *pulse) end() {
	p.stop()
	<-p.ended
}
