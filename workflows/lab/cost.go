package lab

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"

	"github.com/esclab/esclab/workflows"
)

// Cost is what a run's time went into, in seconds.
type Cost struct {
	Run    string  `json:"run"`
	Wall   float64 `json:"wall"`
	Kernel float64 `json:"kernel"` // of all stages
	Store  float64 `json:"store"`
	Rest   float64 `json:"orchestration"` // before, dispatch, call and after
	// Idle is the part of the wall time in which no stage was computing.
	Idle   float64     `json:"idle"`
	Median float64     `json:"median_orchestration"` // of a stage
	Most   float64     `json:"most_orchestration"`
	Stages []StageCost `json:"stages"`
}

// StageCost is what one stage's time went into, in seconds.
type StageCost struct {
	Stage    string  `json:"stage"`
	Kernel   float64 `json:"kernel"`
	Store    float64 `json:"store"`
	Before   float64 `json:"before"`
	Waited   float64 `json:"waited"` // for a slot that another stage had
	Dispatch float64 `json:"dispatch"`
	Call     float64 `json:"call"`
	After    float64 `json:"after"`

	queue                           string
	ready, scheduled, started, done time.Time
	completed                       time.Time
}

// Orchestration is what is neither kernel nor store.
func (s StageCost) Orchestration() float64 { return s.Before + s.Dispatch + s.Call + s.After }

// CostOf says what the time of a finished run went into, by its history and those
// of its stages; stages that it reused, and those that ran for another run already,
// are left out.
func (c *Client) CostOf(ctx context.Context, run Execution) (Cost, error) {
	id := run.ID
	cost := Cost{Run: id}
	events, err := c.eventsOf(ctx, run)
	if err != nil {
		return cost, err
	}
	began, ended := events[0].GetEventTime().AsTime(), events[len(events)-1]
	if ended.GetEventType() != enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED {
		return cost, failed(fmt.Errorf("run %s has not come to its end: %s", id, ended.GetEventType()))
	}
	cost.Wall = ended.GetEventTime().AsTime().Sub(began).Seconds()
	asked := map[int64]workflows.StageInput{}
	ready := map[int64]time.Time{}
	for _, e := range events {
		if a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); a != nil && a.GetWorkflowType().GetName() == workflows.StageName {
			var in workflows.StageInput
			if err := decode(a.GetInput(), &in); err != nil {
				return cost, failed(fmt.Errorf("run %s: %w", id, err))
			}
			asked[e.GetEventId()], ready[e.GetEventId()] = in, e.GetEventTime().AsTime()
		}
		a := e.GetChildWorkflowExecutionCompletedEventAttributes()
		if a == nil || ready[a.GetInitiatedEventId()].IsZero() {
			continue
		}
		var result workflows.StageResult
		if err := decode(a.GetResult(), &result); err != nil {
			return cost, failed(fmt.Errorf("run %s: %w", id, err))
		}
		if result.Reused {
			continue
		}
		at := a.GetInitiatedEventId()
		s := StageCost{Stage: asked[at].Stage.Name, ready: ready[at], done: e.GetEventTime().AsTime()}
		if err := c.stageCost(ctx, a.GetWorkflowExecution().GetWorkflowId(), &s); err != nil {
			return cost, err
		}
		cost.Stages = append(cost.Stages, s)
	}
	if len(cost.Stages) == 0 {
		return cost, failed(fmt.Errorf("run %s reused every stage: there is nothing to measure; run it on a fresh --data", id))
	}
	cost.sum()
	return cost, nil
}

// stageCost reads the history of a stage's workflow.
func (c *Client) stageCost(ctx context.Context, id string, s *StageCost) error {
	events, err := c.eventsOf(ctx, Execution{ID: id})
	if err != nil {
		return err
	}
	kernel := int64(0)
	for _, e := range events {
		at := e.GetEventTime().AsTime()
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
			kernel, s.scheduled, s.queue = e.GetEventId(), at, a.GetTaskQueue().GetName()
		}
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil && a.GetScheduledEventId() == kernel {
			s.started = at
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); a != nil && a.GetScheduledEventId() == kernel {
			var result workflows.StageResult
			if err := decode(a.GetResult(), &result); err != nil {
				return failed(fmt.Errorf("stage %s: %w", s.Stage, err))
			}
			s.completed = at
			s.Store = result.StoreSeconds
			s.Kernel = result.Seconds - result.StoreSeconds
			s.Call = max(at.Sub(s.started).Seconds()-result.Seconds, 0)
		}
	}
	if s.completed.IsZero() {
		return failed(fmt.Errorf("stage %s: its workflow %s says nothing about its computing: another run may have taken it over", s.Stage, id))
	}
	s.Before = s.scheduled.Sub(s.ready).Seconds()
	s.After = s.done.Sub(s.completed).Seconds()
	return nil
}

// sum tells waiting for a slot from being slow to start, and adds up.
func (c *Cost) sum() {
	slices.SortFunc(c.Stages, func(a, b StageCost) int { return a.started.Compare(b.started) })
	type span struct{ from, to time.Time }
	var busy []span
	var rest []float64
	for i := range c.Stages {
		s := &c.Stages[i]
		free := s.scheduled
		for _, other := range c.Stages[:i] { // that had the slot meanwhile
			if other.queue == s.queue && other.completed.After(free) && !other.completed.After(s.started) {
				free = other.completed
			}
		}
		s.Waited, s.Dispatch = free.Sub(s.scheduled).Seconds(), s.started.Sub(free).Seconds()
		c.Kernel, c.Store, c.Rest = c.Kernel+s.Kernel, c.Store+s.Store, c.Rest+s.Orchestration()
		rest = append(rest, s.Orchestration())
		busy = append(busy, span{s.started, s.started.Add(time.Duration(s.Kernel * float64(time.Second)))})
	}
	slices.SortFunc(busy, func(a, b span) int { return a.from.Compare(b.from) })
	covered, until := 0.0, time.Time{}
	for _, b := range busy {
		if b.to.After(until) {
			from := b.from
			if until.After(from) {
				from = until
			}
			covered += b.to.Sub(from).Seconds()
			until = b.to
		}
	}
	c.Idle = max(c.Wall-covered, 0)
	slices.Sort(rest)
	c.Median, c.Most = rest[len(rest)/2], rest[len(rest)-1]
	slices.SortFunc(c.Stages, func(a, b StageCost) int { return cmp.Compare(b.Orchestration(), a.Orchestration()) })
}

// eventsOf reads all events of an execution.
func (c *Client) eventsOf(ctx context.Context, e Execution) ([]*history.HistoryEvent, error) {
	var events []*history.HistoryEvent
	for event, err := range c.History(ctx, e) {
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}
