package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/esclab/esclab/cmd/internal/benchlm"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// benchCommand has what every program of esclab measures, and the DAG.
func (a *app) benchCommand() *cobra.Command {
	c := benchlm.Command(benchlm.Host{OpenEngine: a.openEngine, Log: &a.log, Failed: failed})
	c.AddCommand(a.benchDAGCommand())
	return c
}

func (a *app) benchDAGCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "dag RUN",
		Short: "Measure what orchestration costs: the time outside kernels of a finished run",
		Long: `Read the histories of a run and of its stages' workflows, and say where the time
went that no kernel used. RUN is a run that has ended, or an experiment's name for
its newest run; stages that it reused say nothing and are left out.

  kernel    computing: the attempt's own time without the store's
  store     within the attempt: taking the lease, reading inputs, saving
            checkpoints, storing the artifact
  before    from the inputs' end to the order to compute: starting the stage's
            workflow, looking into the store, twice
  dispatch  from the order, or from when the worker's slot was free, to the start
  call      of the activity around the attempt: answers to Temporal
  after     from the end of the computing to the run's knowing of it

outside is all but kernel. The figure for a stage of a minute takes the median of
what is outside without the store, which is work that grows with the model.`,
		Example: "  esclab run demo --data /tmp/fresh && esclab bench dag demo --data /tmp/fresh",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runBenchDAG(c.Context(), args[0], asJSON, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) runBenchDAG(ctx context.Context, name string, asJSON bool, out io.Writer) error {
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	run, err := se.lab.FindRun(ctx, name, false)
	if err != nil {
		return err
	}
	cost, err := se.dagCost(ctx, run.ID)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(out, cost)
	}
	cost.print(out)
	return nil
}

// dagCost is what a run's time went into, in seconds.
type dagCost struct {
	Run    string  `json:"run"`
	Wall   float64 `json:"wall"`
	Kernel float64 `json:"kernel"` // of all stages
	Store  float64 `json:"store"`
	Rest   float64 `json:"orchestration"` // before, dispatch, call and after
	// Idle is the part of the wall time in which no stage was computing.
	Idle   float64     `json:"idle"`
	Median float64     `json:"median_orchestration"` // of a stage
	Most   float64     `json:"most_orchestration"`
	Stages []stageCost `json:"stages"`
}

// awaitStage is the activity by which a run has a stage computed; it asks the
// store about all its stages by another.
const awaitStage = "AwaitStage"

// stageCost is what one stage's time went into, in seconds.
type stageCost struct {
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

func (s stageCost) orchestration() float64 { return s.Before + s.Dispatch + s.Call + s.After }

// dagCost reads a run's histories.
func (se *session) dagCost(ctx context.Context, id string) (dagCost, error) {
	cost := dagCost{Run: id}
	events, err := se.history(ctx, id)
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
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.GetActivityType().GetName() == awaitStage {
			var in workflows.StageInput
			if err := decode(a.GetInput(), &in); err != nil {
				return cost, failed(fmt.Errorf("run %s: %w", id, err))
			}
			asked[e.GetEventId()], ready[e.GetEventId()] = in, e.GetEventTime().AsTime()
		}
		a := e.GetActivityTaskCompletedEventAttributes()
		if a == nil || ready[a.GetScheduledEventId()].IsZero() {
			continue
		}
		var result workflows.StageResult
		if err := decode(a.GetResult(), &result); err != nil {
			return cost, failed(fmt.Errorf("run %s: %w", id, err))
		}
		if result.Reused {
			continue
		}
		at := a.GetScheduledEventId()
		s := stageCost{Stage: asked[at].Stage.Name, ready: ready[at], done: e.GetEventTime().AsTime()}
		if err := se.stageCost(ctx, asked[at], &s); err != nil {
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
func (se *session) stageCost(ctx context.Context, in workflows.StageInput, s *stageCost) error {
	events, err := se.history(ctx, in.WorkflowID())
	if err != nil {
		return err
	}
	kernel := int64(0)
	for _, e := range events {
		at := e.GetEventTime().AsTime()
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.GetActivityType().GetName() != "Lookup" {
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
		return failed(fmt.Errorf("stage %s: its workflow %s says nothing about its computing: another run may have taken it over", s.Stage, in.WorkflowID()))
	}
	s.Before = max(s.scheduled.Sub(s.ready).Seconds(), 0) // a run that joined came later
	s.After = s.done.Sub(s.completed).Seconds()
	return nil
}

// sum tells waiting for a slot from being slow to start, and adds up.
func (c *dagCost) sum() {
	slices.SortFunc(c.Stages, func(a, b stageCost) int { return a.started.Compare(b.started) })
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
		c.Kernel, c.Store, c.Rest = c.Kernel+s.Kernel, c.Store+s.Store, c.Rest+s.orchestration()
		rest = append(rest, s.orchestration())
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
	slices.SortFunc(c.Stages, func(a, b stageCost) int { return cmp.Compare(b.orchestration(), a.orchestration()) })
}

// history reads all events of a workflow's newest execution.
func (se *session) history(ctx context.Context, id string) ([]*history.HistoryEvent, error) {
	var events []*history.HistoryEvent
	for e, err := range se.lab.History(ctx, lab.Execution{ID: id}) {
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

func decode(p *commonpb.Payloads, v any) error {
	return converter.GetDefaultDataConverter().FromPayloads(p, v)
}

func (c dagCost) print(out io.Writer) {
	t := newTable(out, table.Row{"stage", "kernel s", "store s", "before ms", "dispatch ms", "call ms", "after ms", "orchestration ms", "of the stage"})
	ms := func(seconds float64) string { return fmt.Sprintf("%.0f", 1000*seconds) }
	for _, s := range c.Stages {
		t.AppendRow(table.Row{s.Stage, fmt.Sprintf("%.2f", s.Kernel), fmt.Sprintf("%.2f", s.Store), ms(s.Before), ms(s.Dispatch), ms(s.Call), ms(s.After),
			ms(s.orchestration()), percent(s.orchestration(), s.Kernel+s.Store+s.orchestration())})
	}
	t.Render()
	fmt.Fprintf(out, "%s: %d stages in %.1f s\n", c.Run, len(c.Stages), c.Wall)
	fmt.Fprintf(out, "kernels %.1f s, store %.2f s, orchestration %.2f s\n", c.Kernel, c.Store, c.Rest)
	fmt.Fprintf(out, "no stage was computing for %.2f s, %s of the wall time\n", c.Idle, percent(c.Idle, c.Wall))
	fmt.Fprintf(out, "orchestration of a stage: median %s ms, most %s ms; of a stage of a minute: %s\n", ms(c.Median), ms(c.Most), percent(c.Median, 60+c.Median))
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*part/whole)
}
