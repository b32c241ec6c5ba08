package lab

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/workflows"
)

// Execution is one execution of a run's or a sweep's workflow.
type Execution struct {
	ID      string // workflow ID
	RunID   string // of the execution; "" stands for the newest
	Status  enums.WorkflowExecutionStatus
	Started time.Time
	// Kept tells that Temporal has forgotten it: what it has left in the store is all
	// that there is.
	Kept bool
	// Joined tells that it was under way already when it was to be started.
	Joined bool
}

// pageSize is how many executions one answer of Temporal has.
const pageSize = 1000

// AllRuns is the query for every run.
func AllRuns() string { return ofType(workflows.RunName) }

// AttributeIs is a query for the workflows of a type (workflows.RunName, …) whose search
// attribute has a value.
func (c *Client) AttributeIs(workflowType string, attribute temporal.SearchAttributeKeyKeyword, value string) string {
	name, ok := c.facts().AttributeNamed(attribute.GetName())
	if !ok { // the service says that it has none
		name = attribute.GetName()
	}
	return ofType(workflowType) + " AND " + workflows.Is(name, value)
}

func ofType(workflowType string) string { return workflows.Is("WorkflowType", workflowType) }

const stillRunning = " AND ExecutionStatus = 'Running'"

// List gives the executions that a query finds, the newest first. It asks for
// them page by page, as far as the caller goes; an error ends it.
func (c *Client) List(ctx context.Context, query string) iter.Seq2[Execution, error] {
	return func(yield func(Execution, error) bool) {
		request := &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: pageSize}
		for {
			page, err := c.Temporal.ListWorkflow(ctx, request)
			if err != nil {
				yield(Execution{}, unreachable("list workflows: %w", err))
				return
			}
			for _, e := range page.GetExecutions() {
				of := e.GetExecution()
				if !yield(Execution{ID: of.GetWorkflowId(), RunID: of.GetRunId(), Status: e.GetStatus(), Started: e.GetStartTime().AsTime()}, nil) {
					return
				}
			}
			if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
				return
			}
		}
	}
}

// Runs lists the runs, the newest first, those that Temporal has forgotten last;
// with running, those that have not ended.
func (c *Client) Runs(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	return c.filled(ctx, c.runs(ctx, running))
}

func (c *Client) runs(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	if running {
		return c.List(ctx, AllRuns()+stillRunning)
	}
	return c.withKept(ctx, c.List(ctx, AllRuns()), "run")
}

// Sweeps lists the sweeps as Runs lists the runs. A sweep that has continued as
// new is listed once.
func (c *Client) Sweeps(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	return c.filled(ctx, c.sweeps(ctx, running))
}

func (c *Client) sweeps(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	if running {
		return c.List(ctx, ofType(workflows.SweepName)+stillRunning)
	}
	return c.withKept(ctx, c.List(ctx, ofType(workflows.SweepName)+" AND ExecutionStatus != 'ContinuedAsNew'"), "sweep")
}

// find gives the execution that a name means: the newest of those whose workflow
// ID, with or without its kind, or whose experiment or sweep it is, else the newest
// whose ID it begins; "" means the newest of all. Where the caller is going to
// change what is found, a beginning has to mean one alone.
func find(all iter.Seq2[Execution, error], name string, change bool) (Execution, bool, error) {
	var begun []Execution
	for e, err := range all {
		if err != nil {
			return e, false, err
		}
		_, short, _ := strings.Cut(e.ID, "/")
		switch {
		case name == "" || name == e.ID || name == short || name == workflows.NamedIn(e.ID):
			return e, true, nil
		case strings.HasPrefix(e.ID, name) || strings.HasPrefix(short, name):
			begun = append(begun, e)
		}
	}
	if len(begun) == 0 {
		return Execution{}, false, nil
	}
	for _, e := range begun {
		if change && e.ID != begun[0].ID {
			return e, false, fmt.Errorf("%q begins the names of %s and %s: write more of the one that is meant", name, begun[0].ID, e.ID)
		}
	}
	return begun[0], true, nil
}

// FindRun gives a run by its workflow ID, with or without its "run/", the newest of
// an experiment of that name, or the newest whose ID begins so; "" means the newest
// of all. With running, only runs that have not ended count, and one alone may be
// meant.
func (c *Client) FindRun(ctx context.Context, name string, running bool) (Execution, error) {
	e, found, err := find(c.runs(ctx, running), name, running)
	switch {
	case err != nil:
		return e, err
	case found:
		return c.fill(ctx, e)
	case running:
		return e, fmt.Errorf("no run %q is under way: esclab status --all lists the runs", name)
	case name == "":
		return e, errors.New("there is no run yet: start one with esclab run")
	}
	return e, fmt.Errorf("there is no run %q: esclab status --all lists them", name)
}

// FindSweep gives a sweep as FindRun gives a run.
func (c *Client) FindSweep(ctx context.Context, name string, running bool) (Execution, error) {
	e, found, err := find(c.sweeps(ctx, running), name, running)
	switch {
	case err != nil:
		return e, err
	case found:
		return c.fill(ctx, e)
	case running:
		return e, fmt.Errorf("no sweep %q is under way: esclab sweep list lists the sweeps", name)
	case name == "":
		return e, errors.New("there is no sweep yet: start one with esclab sweep FILE")
	}
	return e, fmt.Errorf("there is no sweep %q: esclab sweep list lists them", name)
}
