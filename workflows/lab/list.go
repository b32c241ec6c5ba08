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
}

// pageSize is how many executions one answer of Temporal has.
const pageSize = 1000

// AllRuns is the query for every run.
func AllRuns() string { return ofType(workflows.RunName) }

// AttributeIs is a query for the workflows of a type (workflows.RunName, …) whose search
// attribute has a value.
func AttributeIs(workflowType string, attribute temporal.SearchAttributeKeyKeyword, value string) string {
	return fmt.Sprintf("%s AND %s = '%s'", ofType(workflowType), attribute.GetName(), strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value))
}

func ofType(workflowType string) string { return fmt.Sprintf("WorkflowType = '%s'", workflowType) }

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
				if !yield(Execution{of.GetWorkflowId(), of.GetRunId(), e.GetStatus(), e.GetStartTime().AsTime()}, nil) {
					return
				}
			}
			if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
				return
			}
		}
	}
}

// Runs lists the runs, the newest first; with running, those that have not
// ended.
func (c *Client) Runs(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	query := AllRuns()
	if running {
		query += stillRunning
	}
	return c.List(ctx, query)
}

// Sweeps lists the sweeps, the newest first; with running, those that have not
// ended. A sweep that has continued as new is listed once.
func (c *Client) Sweeps(ctx context.Context, running bool) iter.Seq2[Execution, error] {
	query := ofType(workflows.SweepName)
	if running {
		query += stillRunning
	} else {
		query += " AND ExecutionStatus != 'ContinuedAsNew'"
	}
	return c.List(ctx, query)
}

// find gives the first execution that a name means: a workflow ID, or the name
// of the experiment or the sweep; "" means any.
func find(all iter.Seq2[Execution, error], name string) (Execution, bool, error) {
	for e, err := range all {
		if err != nil {
			return e, false, err
		}
		if name == "" || e.ID == name || workflows.NamedIn(e.ID) == name {
			return e, true, nil
		}
	}
	return Execution{}, false, nil
}

// FindRun gives a run by its workflow ID, with or without its "run/", or the
// newest of an experiment of that name; "" means the newest of all. With
// running, only runs that have not ended count.
func (c *Client) FindRun(ctx context.Context, name string, running bool) (Execution, error) {
	if parts := strings.Split(name, "/"); len(parts) == 2 && len(parts[1]) == 12 {
		name = "run/" + name
	}
	e, found, err := find(c.Runs(ctx, running), name)
	switch {
	case err != nil || found:
		return e, err
	case running:
		return e, fmt.Errorf("no run %q is under way: esclab status --all lists the runs", name)
	case name == "":
		return e, errors.New("there is no run yet: start one with esclab run")
	}
	return e, fmt.Errorf("there is no run %q: esclab status --all lists them", name)
}

// FindSweep gives a sweep by its workflow ID, or the newest of its name; ""
// means the newest of all. With running, only sweeps that have not ended count.
func (c *Client) FindSweep(ctx context.Context, name string, running bool) (Execution, error) {
	e, found, err := find(c.Sweeps(ctx, running), name)
	switch {
	case err != nil || found:
		return e, err
	case running:
		return e, fmt.Errorf("no sweep %q is under way: esclab sweep list lists the sweeps", name)
	case name == "":
		return e, errors.New("there is no sweep yet: start one with esclab sweep FILE")
	}
	return e, fmt.Errorf("there is no sweep %q: esclab sweep list lists them", name)
}
