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
// a model may take its time to load. They are sent by a goroutine of their own:
// a heartbeat waits for its answer, and computing does not wait for Temporal.
type pulse struct {
	mu       sync.Mutex
	last     workflows.Progress
	advanced time.Time
	news     chan struct{} // holds one where last was not sent yet
	stop     context.CancelFunc
	ended    chan struct{}
}

func startPulse(ctx context.Context) *pulse {
	beating, stop := context.WithCancel(ctx)
	p := &pulse{advanced: time.Now(), news: make(chan struct{}, 1), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(pulseEvery)
		defer tick.Stop()
		for {
			select {
			case <-beating.Done():
				// What the last heartbeat says is known to the next attempt.
				select {
				case <-p.news:
					last, _ := p.state()
					activity.RecordHeartbeat(ctx, last)
				default:
				}
				return
			case <-p.news:
			case <-tick.C:
			}
			if last, alive := p.state(); alive {
				activity.RecordHeartbeat(ctx, last)
			}
		}
	}()
	return p
}

// state gives the newest progress, and whether it is recent enough.
func (p *pulse) state() (workflows.Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := phaseLimit
	if p.last.Step > 0 {
		limit = stepLimit
	}
	return p.last, time.Since(p.advanced) < limit
}

// touch reports that something has advanced: change says how.
func (p *pulse) touch(change func(*workflows.Progress)) {
	p.mu.Lock()
	change(&p.last)
	p.advanced = time.Now()
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *pulse) end() {
	p.stop()
	<-p.ended
}
