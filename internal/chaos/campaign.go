package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// look is how often the logs are read.
	look = 5 * time.Millisecond
	// advance bounds the wait for the run to advance after a disturbance.
	advance = 90 * time.Second
	// rival bounds the wait for a second attempt beside a frozen one.
	rivalLimit = 45 * time.Second
)

// Lab is what a campaign disturbs.
type Lab struct {
	Workers         []*Process
	Temporal, Store *Process
	// Links are each worker's connections: by worker, then by service.
	Links   map[string]map[string]*Link
	Records *Records
	// Finished asks whether the run has ended; it is called when nothing is
	// being done, and the campaign goes on while it asks.
	Finished func(ctx context.Context) (bool, error)
}

// Campaign is a run that is disturbed.
type Campaign struct {
	Lab
	Seed   uint64
	Stages []Stage
	Events []Event
	Log    io.Writer // one line for each event; what is logged has no times of day

	began time.Time
	done  []Outcome
	held  *held // nil: nobody is frozen or cut off
}

// held is a worker that is frozen or cut off from Temporal until another attempt
// has begun at one of its stages, and for a while longer. Other events happen
// meanwhile, since short stages would otherwise be over before theirs.
type held struct {
	outcome int // in done
	worker  *Process
	since   time.Time
	met     time.Time // when the second attempt was seen; zero: not yet
}

// Outcome is an event that has happened.
type Outcome struct {
	Event
	Since  time.Duration // since the campaign began
	Victim string        // process or link
	Hit    []Hit         // what was under way there
	Rival  bool          // a second attempt began beside a worker that was frozen or cut off
	Late   bool          // the stage that it was meant for was over
}

// Hit is an attempt that was disturbed, and where it stood.
type Hit struct {
	Stage string
	Token int64
	Step  int // of a training; 0: none
	Steps int
	Pass  int // epoch of the step, from 1
}

func (h Hit) String() string {
	if h.Step == 0 {
		return h.Stage
	}
	return fmt.Sprintf("%s at step %d of %d, epoch %d", h.Stage, h.Step, h.Steps, h.Pass)
}

// Run disturbs the run by the events until it has finished. Events whose stage
// is over before their time happen as soon as something is under way.
func (c *Campaign) Run(ctx context.Context) error {
	c.began = time.Now()
	pending := slices.Clone(c.Events)
	idle := time.Now()
	var answers chan answer // of Finished while it asks
	happened := 0           // when it was asked
	for {
		if err := c.Records.Read(); err != nil {
			return err
		}
		if err := c.release(); err != nil {
			return err
		}
		if at, late := c.due(pending); at >= 0 {
			event := pending[at]
			pending = slices.Delete(pending, at, at+1)
			outcome, happened, err := c.happen(ctx, event, late)
			if err != nil {
				return fmt.Errorf("event %d (%s): %w", event.Number, event, err)
			}
			if !happened { // its victim was gone
				pending = slices.Insert(pending, at, event)
			} else if err := c.recovered(ctx, outcome, pending); err != nil {
				return err
			}
			idle = time.Now()
		}
		if c.busy() {
			idle = time.Now()
		}
		if time.Since(idle) > 2*time.Second && c.held == nil && answers == nil {
			answers, happened = make(chan answer, 1), len(c.done)
			go func() {
				finished, err := c.Finished(ctx)
				answers <- answer{finished, err}
			}()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the campaign did not end, %d events were left: %w", len(pending), ctx.Err())
		case a := <-answers:
			switch {
			case a.err == nil && a.finished:
				return nil
			case a.err != nil && len(c.done) == happened: // else an event may be the reason
				return a.err
			}
			answers, idle = nil, time.Now()
		case <-time.After(look):
		}
	}
}

// answer is what Finished says.
type answer struct {
	finished bool
	err      error
}

// busy says whether a worker has an attempt under way.
func (c *Campaign) busy() bool {
	return slices.ContainsFunc(c.Workers, c.works)
}

// ending says that every training is over. The stages that are left are short,
// and all remaining events happen during them.
func (c *Campaign) ending() bool {
	return !slices.ContainsFunc(c.Stages, func(s Stage) bool { return s.Trains && !c.Records.done(s.Name) })
}

// holds says whether a worker is frozen or cut off.
func (c *Campaign) holds(w *Process) bool { return c.held != nil && c.held.worker == w }

// works says whether a worker lives, is heard, and has an attempt under way.
func (c *Campaign) works(w *Process) bool {
	start := w.Number()
	return w.Alive(start) && !c.holds(w) && len(c.Records.running(w.Name, start)) > 0
}

// due finds the next event whose time has come, in the order of the schedule,
// with those that hit a stage twice within an epoch before all others. It returns
// -1 if there is none.
func (c *Campaign) due(pending []Event) (at int, late bool) {
	seen := map[string]bool{}
	spare, first := -1, -1
	ending := c.ending()
	for i, e := range pending {
		if seen[e.Stage] {
			continue // one after the other at a stage
		}
		if c.held != nil && (e.Action == Freeze || e.Action == Partition) {
			continue
		}
		seen[e.Stage] = true
		now, is := c.Records.current(e.Stage)
		if ending || c.Records.done(e.Stage) {
			if spare < 0 {
				spare = i
			}
			continue
		}
		if !is || now.ended || !c.worker(now.worker).Alive(now.start) || c.holds(c.worker(now.worker)) {
			continue
		}
		if e.At == 0 && !e.Again || now.steps > 0 && (e.Again && c.again(now) || !e.Again && e.due(now)) {
			if e.Pair {
				return i, false
			}
			if first < 0 {
				first = i
			}
		}
	}
	if first >= 0 {
		return first, false
	}
	if spare >= 0 && c.busy() {
		return spare, true
	}
	return -1, false
}

// due says whether a training has come to where the event is to happen. The first of
// a pair waits for the first half of an epoch, since the second wants a step in the
// same one: for a quarter of the training at most.
func (e Event) due(now progress) bool {
	share := float64(now.last) / float64(now.steps)
	return share >= e.At && (!e.Pair || now.epoch-float64(now.pass-1) <= 0.5 || share >= e.At+0.25)
}

// again says whether an attempt after the one that was killed has made a step in
// the same epoch or a later one.
func (c *Campaign) again(now progress) bool {
	var last Hit
	for _, o := range c.done {
		for _, h := range o.Hit {
			if h.Stage == now.stage && o.Action == KillWorker {
				last = h
			}
		}
	}
	return now.token > last.Token && now.first > 0 && now.pass >= last.Pass
}

func (c *Campaign) worker(name string) *Process {
	for _, w := range c.Workers {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// victim is the worker at the event's stage; of a late event, any that works.
func (c *Campaign) victim(e Event, late bool) *Process {
	if !late {
		now, is := c.Records.current(e.Stage)
		if is && !now.ended {
			if w := c.worker(now.worker); w.Alive(now.start) && !c.holds(w) {
				return w
			}
		}
		return nil
	}
	for i := range c.Workers {
		w := c.Workers[(i+e.Number)%len(c.Workers)]
		if c.works(w) {
			return w
		}
	}
	return nil
}

func hits(running []progress) []Hit {
	var all []Hit
	for _, p := range running {
		h := Hit{Stage: p.stage, Token: p.token}
		if p.steps > 0 {
			h.Step, h.Steps, h.Pass = p.last, p.steps, p.pass
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b Hit) int { return strings.Compare(a.Stage, b.Stage) })
	return all
}

// recovered waits until the process that was ended serves again and the run has
// advanced, or until a stage has come to where it is to be hit a second time.
func (c *Campaign) recovered(ctx context.Context, o Outcome, pending []Event) error {
	if err := errors.Join(c.Temporal.WaitReady(ctx), c.Store.WaitReady(ctx)); err != nil {
		return err
	}
	if err := c.Records.Read(); err != nil {
		return err
	}
	if c.ending() {
		return nil
	}
	before := c.Records.advances()
	for until := time.Now().Add(advance); time.Now().Before(until) && c.Records.advances() == before; {
		if err := sleep(ctx, look); err != nil {
			return err
		}
		if err := errors.Join(c.Records.Read(), c.release()); err != nil {
			return err
		}
		if at, _ := c.due(pending); at >= 0 && pending[at].Pair {
			return nil
		}
		if !c.busy() && time.Since(c.began)-o.Since > 5*time.Second {
			return nil // nothing to wait for: the run may have ended
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// line is what the log says of an outcome.
func (o Outcome) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%7.1f s  %3d  %-22s %-21s ", o.Since.Seconds(), o.Number, o.Action, o.Victim)
	for i, h := range o.Hit {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(h.String())
	}
	if len(o.Hit) == 0 {
		b.WriteString("nothing under way there")
	}
	if o.Late {
		fmt.Fprintf(&b, " (meant for %s, which was over)", o.Stage)
	}
	if o.Rival {
		b.WriteString(" (a second attempt began meanwhile)")
	}
	return b.String()
}
