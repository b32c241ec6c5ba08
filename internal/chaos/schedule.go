// Package chaos disturbs a lab of processes by a schedule that a seed decides,
// and counts from the workers' logs what that has cost. It knows processes,
// connections and log lines, and nothing of what the lab computes.
package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Action is something that happens to a lab.
type Action string

// What happens. The first three are kills.
const (
	KillWorker   Action = "SIGKILL worker"
	KillTemporal Action = "SIGKILL temporal"
	KillStore    Action = "SIGKILL store"
	Terminate    Action = "SIGTERM worker"       // it saves its checkpoints, ends and is started again
	Freeze       Action = "SIGSTOP worker"       // until another attempt has begun at its stage
	Cut          Action = "connections cut"      // of one worker, to one service; new ones are refused for a while
	Slow         Action = "connections slow"     // every piece of data is held back
	Partition    Action = "connections stalled"  // longer than the heartbeat timeout: the worker goes on, unheard
	Hiccup       Action = "connections hesitate" // nothing passes for a moment
)

// actions are in the order of an account.
var actions = []Action{KillWorker, KillTemporal, KillStore, Terminate, Freeze, Partition, Cut, Slow, Hiccup}

// Kill says whether a process is killed with SIGKILL.
func (a Action) Kill() bool { return a == KillWorker || a == KillTemporal || a == KillStore }

// Stage is a node of the DAG that is to be disturbed.
type Stage struct {
	Name   string
	Trains bool // makes steps and belongs to those that are hit twice within an epoch
}

// Event is one disturbance: what, when, and for how long.
type Event struct {
	Number int
	Action Action
	// Stage is the stage during which it happens.
	Stage string
	// At is the share of a training's steps after which it happens.
	At float64
	// Pair marks the two kills of a training stage within an epoch, which come
	// before everything else.
	Pair bool
	// Again is for the second event of a pair. It happens in the epoch in which
	// the stage was hit before, as soon as a later attempt has made a step there.
	Again bool
	// After is how long after the beginning of an attempt it happens, at a
	// stage that makes no steps.
	After time.Duration
	// For is how long a process stays away or a connection is disturbed. For
	// Freeze it is how long the process sleeps on beside the second attempt.
	For time.Duration
	// Link is the service whose connections are hurt: Temporal or Store.
	Link string
}

// Services, as links name them.
const (
	Temporal = "temporal"
	Store    = "store"
)

// killsPerFault is how many kills there are for each disturbance that kills
// nothing, of which there are two at least.
const killsPerFault = 5

// Plan draws a schedule of so many kills, spread over the stages, and of other
// faults beside them. First the worker of every training stage is killed twice
// within an epoch, as long as a few kills are left for the rest. Then each stage
// is hit in turn, training stages more often. The same arguments give the same
// schedule.
func Plan(seed uint64, stages []Stage, kills int) []Event {
	random := rand.New(rand.NewPCG(seed, 0x6368616f73))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(high-low)))
	}
	byStage := map[string][]Event{}
	add := func(s Stage, e Event) {
		e.Stage = s.Name
		if s.Trains && !e.Again {
			e.At = 0.05 + 0.85*random.Float64()
			if e.Pair {
				e.At /= 2 // there have to be steps for the second
			}
		}
		e.After = between(0, 400*time.Millisecond)
		switch e.Action {
		case Freeze:
			e.For = between(200*time.Millisecond, 1500*time.Millisecond)
		case Slow:
			e.For = between(2*time.Second, 6*time.Second)
		case Partition:
			e.For = between(1*time.Second, 4*time.Second) // beyond the heartbeat timeout
		default:
			e.For = between(200*time.Millisecond, 1500*time.Millisecond)
		}
		e.Link = []string{Temporal, Store}[random.IntN(2)]
		if e.Action == Partition {
			e.Link = Temporal // the one by which a worker is heard
		}
		byStage[s.Name] = append(byStage[s.Name], e)
	}
	var training []Stage
	for _, s := range stages {
		if s.Trains {
			training = append(training, s)
		}
	}
	turn := []Action{KillTemporal, KillStore, KillWorker, KillStore, KillTemporal, KillWorker}
	left := kills
	for _, s := range training {
		if left < 2+len(turn)/2 { // so that a small campaign has kills of every kind as well
			break
		}
		add(s, Event{Action: KillWorker, Pair: true})
		add(s, Event{Action: KillWorker, Pair: true, Again: true})
		left -= 2
	}
	// Then by turns.
	for i := 0; left > 0; left, i = left-1, i+1 {
		add(draw(random, stages, training, i), Event{Action: turn[i%len(turn)]})
	}
	faults := []Action{Freeze, Cut, Terminate, Partition, Slow, Hiccup}
	for i := range max(2, kills/killsPerFault) {
		s := training[random.IntN(len(training))]
		if a := faults[i%len(faults)]; a == Freeze || a == Partition {
			add(s, Event{Action: a}) // long enough for a second attempt to meet the first
			continue
		}
		add(draw(random, stages, training, i), Event{Action: faults[i%len(faults)]})
	}
	var all []Event
	for _, s := range stages {
		events := byStage[s.Name]
		// In the order of their time, the pair first.
		slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.order(), b.order()) })
		all = append(all, events...)
	}
	for i := range all {
		all[i].Number = i + 1
	}
	return all
}

// draw takes each stage once, in an order of its own, and then training stages
// as often as the others together.
func draw(random *rand.Rand, stages, training []Stage, i int) Stage {
	if i < len(stages) {
		// A step that shares no factor with the length visits every stage.
		step := len(stages)/2 + 1
		for gcd(step, len(stages)) != 1 {
			step++
		}
		return stages[(i*step+len(stages)/2)%len(stages)]
	}
	if random.IntN(2) == 0 {
		return training[random.IntN(len(training))]
	}
	return stages[random.IntN(len(stages))]
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// order is the time by which an event is ordered within its stage.
func (e Event) order() float64 {
	if e.Pair {
		return -1
	}
	return e.At
}

// String says what happens and when.
func (e Event) String() string {
	when := fmt.Sprintf("%s after an attempt at %s begins", e.After.Round(time.Millisecond), e.Stage)
	switch {
	case e.Again:
		when = fmt.Sprintf("again in the same epoch of %s", e.Stage)
	case e.At > 0:
		when = fmt.Sprintf("at %.0f %% of %s", 100*e.At, e.Stage)
	}
	return fmt.Sprintf("%s, %s", e.Action, when)
}
