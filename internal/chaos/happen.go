package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// happen lets an event happen, and undoes what has to be undone.
func (c *Campaign) happen(ctx context.Context, e Event, late bool) (Outcome, bool, error) {
	if e.At == 0 && !e.Again {
		if err := sleep(ctx, e.After); err != nil {
			return Outcome{}, false, err
		}
		if err := c.Records.Read(); err != nil {
			return Outcome{}, false, err
		}
	}
	worker := c.victim(e, late)
	if worker == nil {
		return Outcome{}, false, nil
	}
	start := worker.Number()
	o := Outcome{Event: e, Since: time.Since(c.began), Victim: worker.Name, Late: late}
	before := hits(c.Records.running(worker.Name, start))
	var err error
	switch e.Action {
	case KillWorker:
		err = worker.End(syscall.SIGKILL, e.For)
	case Terminate:
		err = worker.End(syscall.SIGTERM, e.For)
	case KillTemporal:
		o.Victim = c.Temporal.Name
		err = c.Temporal.End(syscall.SIGKILL, e.For)
	case KillStore:
		o.Victim = c.Store.Name
		err = c.Store.End(syscall.SIGKILL, e.For)
	case Freeze:
		err = worker.Signal(syscall.SIGSTOP)
	default:
		o.Victim = worker.Name + " to " + e.Link
		c.hurt(e, c.Links[worker.Name][e.Link])
	}
	if errors.Is(err, os.ErrProcessDone) {
		return o, false, nil // it has ended by itself, and comes back
	}
	if err != nil {
		return o, true, err
	}
	// This comes after the end of the process, which may have advanced until then.
	if err := c.Records.Read(); err != nil {
		return o, true, err
	}
	switch e.Action {
	case Terminate: // by now it has let go of them
		o.Hit = before
	case KillTemporal, KillStore:
		for _, w := range c.Workers {
			if n := w.Number(); w.Alive(n) {
				o.Hit = append(o.Hit, hits(c.Records.running(w.Name, n))...)
			}
		}
	default:
		o.Hit = hits(c.Records.running(worker.Name, start))
	}
	c.done = append(c.done, o)
	switch e.Action {
	case Freeze, Partition:
		c.held = &held{outcome: len(c.done) - 1, worker: worker, since: time.Now()}
		return o, true, nil // release completes the outcome
	case Cut, Slow, Hiccup:
		err = sleep(ctx, e.For)
		c.heal(worker)
	}
	fmt.Fprintln(c.Log, o.line())
	return o, true, err
}

// heal lets a worker's connections through again.
func (c *Campaign) heal(worker *Process) {
	for _, link := range c.Links[worker.Name] {
		link.Heal()
	}
}

// release wakes a worker up that is frozen, or lets it be heard again, when its
// time has come.
func (c *Campaign) release() error {
	if c.held == nil {
		return nil
	}
	h, o := c.held, &c.done[c.held.outcome]
	if h.met.IsZero() && c.rival(o.Hit, h.worker.Name) {
		o.Rival, h.met = true, time.Now()
	}
	over := !h.met.IsZero() && time.Since(h.met) > o.For || time.Since(h.since) > rivalLimit
	if !over {
		return nil
	}
	c.held = nil
	c.heal(h.worker)
	fmt.Fprintln(c.Log, o.line())
	if o.Action == Freeze {
		return h.worker.Signal(syscall.SIGCONT)
	}
	return nil
}

// rival says whether another worker has begun an attempt at a stage that was hit.
func (c *Campaign) rival(hit []Hit, worker string) bool {
	for _, h := range hit {
		if now, is := c.Records.current(h.Stage); is && now.token > h.Token && now.worker != worker {
			return true
		}
	}
	return false
}

// hurt disturbs a link as the event says.
func (c *Campaign) hurt(e Event, l *Link) {
	switch e.Action {
	case Cut:
		l.Cut(true)
	case Slow:
		l.Slow(e.For / 40) // 50 to 150 ms
	case Partition, Hiccup:
		l.Stall()
	}
}
