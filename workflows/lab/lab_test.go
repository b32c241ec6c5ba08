package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// visibility answers lists with so many executions, the newest first, of which
// the last has an ID of its own.
func visibility(n int, last string) *mocks.Client {
	c := &mocks.Client{}
	c.On("ListWorkflow", mock.Anything, mock.Anything).Return(func(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
		first := len(r.GetNextPageToken()) // of this page; a token is as long as its place
		page := &workflowservice.ListWorkflowExecutionsResponse{}
		for i := first; i < min(first+int(r.GetPageSize()), n); i++ {
			id := fmt.Sprintf("run/other/%012d", i)
			if i == n-1 {
				id = last
			}
			page.Executions = append(page.Executions, &workflowpb.WorkflowExecutionInfo{
				Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: fmt.Sprint(i)}, Status: enums.WORKFLOW_EXECUTION_STATUS_RUNNING,
			})
		}
		if next := first + len(page.Executions); next < n {
			page.NextPageToken = make([]byte, next)
		}
		return page, nil
	})
	return c
}

// What is older than a page of Temporal's answers is listed and found, too.
func TestListsPageThroughEverything(t *testing.T) {
	const n = 2*pageSize + 7
	v := visibility(n, "run/demo/0da221080876")
	c := &Client{Temporal: v, Store: storetest.OpenStore(t, t.TempDir())}
	for name, all := range map[string]func(context.Context, bool) int{
		"runs":   func(ctx context.Context, running bool) int { return count(t, c.Runs(ctx, running)) },
		"sweeps": func(ctx context.Context, running bool) int { return count(t, c.Sweeps(ctx, running)) },
	} {
		for _, running := range []bool{false, true} {
			if got := all(t.Context(), running); got != n {
				t.Errorf("%s, running %v: %d listed, there are %d", name, running, got, n)
			}
		}
	}
	for _, name := range []string{"demo", "run/demo/0da221080876", "demo/0da221080876", "dem", "demo/0da", "run/dem"} {
		e, err := c.FindRun(t.Context(), name, false)
		if err != nil || e.ID != "run/demo/0da221080876" || e.RunID != fmt.Sprint(n-1) || e.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			t.Errorf("run %q is %+v, %v; want the oldest one", name, e, err)
		}
	}

	if _, err := c.FindRun(t.Context(), "oth", true); err == nil || !strings.Contains(err.Error(), "run/other/000000000000 and run/other/000000000001") {
		t.Errorf("a beginning of many runs, to change one: %v; want that it is not clear", err)
	}
	if e, err := c.FindRun(t.Context(), "oth", false); err != nil || e.RunID != "0" {
		t.Errorf("a beginning of many runs: %+v, %v; want the newest", e, err)
	}

	calls := len(v.Calls)
	if e, err := c.FindRun(t.Context(), "", false); err != nil || e.RunID != "0" {
		t.Errorf("the newest run is %+v, %v", e, err)
	}
	if asked := len(v.Calls) - calls; asked != 1 {
		t.Errorf("%d pages were read for the newest run, want 1", asked)
	}
}

func count(t *testing.T, all func(func(Execution, error) bool)) int {
	t.Helper()
	n := 0
	for _, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A name that means nothing is an error of the request, a server that does not
// answer one of the lab.
func TestFindErrors(t *testing.T) {
	none := &Client{Temporal: visibility(0, ""), Store: storetest.OpenStore(t, t.TempDir())}
	var ofLab *Error
	for what, find := range map[string]func() (Execution, error){
		`there is no run "x"`:           func() (Execution, error) { return none.FindRun(t.Context(), "x", false) },
		`no run "x" is under way`:       func() (Execution, error) { return none.FindRun(t.Context(), "x", true) },
		"there is no run yet":           func() (Execution, error) { return none.FindRun(t.Context(), "", false) },
		`there is no sweep "x"`:         func() (Execution, error) { return none.FindSweep(t.Context(), "x", false) },
		`no sweep "x" is under way`:     func() (Execution, error) { return none.FindSweep(t.Context(), "x", true) },
		"there is no sweep yet: start ": func() (Execution, error) { return none.FindSweep(t.Context(), "", false) },
	} {
		if _, err := find(); err == nil || !strings.Contains(err.Error(), what) || errors.As(err, &ofLab) {
			t.Errorf("got %v, want an error of the request with %q", err, what)
		}
	}
	m := &mocks.Client{}
	m.On("ListWorkflow", mock.Anything, mock.Anything).Return(nil, errors.New("no route"))
	if _, err := (&Client{Temporal: m}).FindRun(t.Context(), "x", false); !errors.As(err, &ofLab) || !ofLab.Unreachable {
		t.Errorf("got %v, want an error that says that the lab is unreachable", err)
	}
}

func TestAttributeIs(t *testing.T) {
	for name, attributes := range map[string][]string{"Sweep": nil, "lab_Sweep": {"Seed=lab_Seed", "Sweep=lab_Sweep"}} {
		got := (&Client{Attributes: attributes}).AttributeIs(workflows.RunName, workflows.AttrSweep, `it's a \`)
		if want := `WorkflowType = 'Run' AND ` + name + ` = 'it\'s a \\'`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// withHistory is a client of a workflow whose history has these events.
func withHistory(events ...*history.HistoryEvent) *Client {
	left := events
	i := &mocks.HistoryEventIterator{}
	i.On("HasNext").Return(func() bool { return len(left) > 0 })
	i.On("Next").Return(func() (*history.HistoryEvent, error) {
		e := left[0]
		left = left[1:]
		return e, nil
	})
	m := &mocks.Client{}
	m.On("GetWorkflowHistory", mock.Anything, mock.Anything, mock.Anything, false, mock.Anything).Return(i)
	return &Client{Temporal: m}
}

func startedEvent(t *testing.T, in any) *history.HistoryEvent {
	t.Helper()
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(in)
	if err != nil {
		t.Fatal(err)
	}
	return &history.HistoryEvent{Attributes: &history.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &history.WorkflowExecutionStartedEventAttributes{Input: payloads},
	}}
}

func TestInput(t *testing.T) {
	in := workflows.RunInput{Experiment: "demo", Stages: []experiments.Stage{{Name: "corpus"}}}
	var got workflows.RunInput
	if err := withHistory(startedEvent(t, in), &history.HistoryEvent{}).Input(t.Context(), Execution{ID: "run/demo/1"}, &got); err != nil || got.Experiment != "demo" || len(got.Stages) != 1 {
		t.Errorf("got %+v, %v; want what the run was started with", got, err)
	}
	var ofLab *Error
	if err := withHistory().Input(t.Context(), Execution{ID: "run/demo/1"}, &got); !errors.As(err, &ofLab) || !strings.Contains(err.Error(), "run/demo/1 has no history") {
		t.Errorf("got %v, want that there is no history", err)
	}
	if err := withHistory(startedEvent(t, "text")).Input(t.Context(), Execution{ID: "run/demo/1"}, &got); err == nil || !strings.Contains(err.Error(), "what it was started with") {
		t.Errorf("got %v, want that the input cannot be read", err)
	}
}

// The stages of a run that was started are those of its history; of a run that
// was not, those that the preset plans, with fields set or without.
func TestLayoutOf(t *testing.T) {
	host := experiments.OS([]byte("[]"))
	started := withHistory(startedEvent(t, workflows.RunInput{Experiment: "demo", Stages: []experiments.Stage{{Name: "corpus"}, {Name: "dpo/sp@1"}, {Name: "dpo/sp@2"}}}))
	started.Temporal.(*mocks.Client).On("ListWorkflow", mock.Anything, mock.Anything).Return(&workflowservice.ListWorkflowExecutionsResponse{
		Executions: []*workflowpb.WorkflowExecutionInfo{{Execution: &commonpb.WorkflowExecution{WorkflowId: "run/demo/1"}}},
	}, nil)
	l, err := started.LayoutOf(t.Context(), "demo", nil, host)
	if err != nil || l.Name != "demo" || len(l.Stages) != 3 {
		t.Fatalf("got %+v, %v; want the three stages of the run's history", l, err)
	}
	if s, ok := l.Stage("dpo/sp"); !ok || s.Name != "dpo/sp@1" {
		t.Errorf("dpo/sp is %q, %v; want the first seed's", s.Name, ok)
	}
	if s, ok := l.Stage("dpo/sp@2"); !ok || s.Name != "dpo/sp@2" {
		t.Errorf("dpo/sp@2 is %q, %v", s.Name, ok)
	}

	none := &Client{Temporal: visibility(0, ""), Store: storetest.OpenStore(t, t.TempDir())}
	for name, set := range map[string][]string{"a preset": nil, "with fields set": {"name=mine"}} {
		l, err := none.LayoutOf(t.Context(), "demo", set, host)
		if err != nil || len(l.Of(experiments.KindReport)) != 1 {
			t.Fatalf("%s: %+v, %v; want the preset's plan", name, l, err)
		}
		mine, _ := l.Stage("mine/sp")
		corpus, _ := l.Stage("corpus")
		if in := l.Inputs(mine); in["corpus"] != corpus.Fingerprint || corpus.Fingerprint == "" {
			t.Errorf("%s: the inputs of mine/sp are %v, want the corpus %s among them", name, in, corpus.Fingerprint)
		}
	}
	if _, err := none.LayoutOf(t.Context(), "run/demo/1", nil, host); err == nil {
		t.Error("a run's ID that nobody has is planned")
	}
}

// Following ends with the workflow, or with the context and not the workflow.
func TestFollow(t *testing.T) {
	run := &mocks.WorkflowRun{}
	run.On("Get", mock.Anything, mock.Anything).Return(func(_ context.Context, result any) error {
		*result.(*workflows.RunResult) = workflows.RunResult{Stages: []workflows.StageResult{{Stage: "corpus"}}}
		return temporal.NewApplicationError("stage dpo/sp: no pairs", workflows.ErrTypeNoPairs)
	}).Once()
	m := &mocks.Client{}
	m.On("GetWorkflow", mock.Anything, "run/demo/1", "").Return(run)
	m.On("QueryWorkflow", mock.Anything, "run/demo/1", "", workflows.QueryState).Return(answer(t, workflows.RunState{Experiment: "demo"}), nil)
	c := &Client{Temporal: m}
	shown := 0
	result, err := c.FollowRun(t.Context(), Execution{ID: "run/demo/1"}, func(v RunView) {
		if shown++; v.Experiment != "demo" || v.Run != "run/demo/1" {
			t.Errorf("shown is %+v, want the run's state", v)
		}
	})
	if err == nil || err.Error() != "stage dpo/sp: no pairs" || len(result.Stages) != 1 {
		t.Errorf("got %+v, %v; want the result and what the run failed of", result, err)
	}
	if shown != 1 {
		t.Errorf("the state was shown %d times, want once at the end", shown)
	}

	ctx, cancel := context.WithCancel(t.Context())
	run.On("Get", mock.Anything, mock.Anything).Return(func(ctx context.Context, _ any) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if _, err := c.FollowRun(ctx, Execution{ID: "run/demo/1"}, func(RunView) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	m.AssertNotCalled(t, "CancelWorkflow", mock.Anything, mock.Anything, mock.Anything)
}

func answer(t *testing.T, state any) converter.EncodedValue {
	t.Helper()
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(state)
	if err != nil {
		t.Fatal(err)
	}
	return client.NewValue(payloads)
}

// A run and a sweep are started under the identity of what they compute, with
// the facts of the client that starts them.
func TestStart(t *testing.T) {
	host := experiments.OS([]byte("[]"))
	var options client.StartWorkflowOptions
	var in any
	m := &mocks.Client{}
	m.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
		options, in = o, args[0]
		run := &mocks.WorkflowRun{}
		run.On("GetID").Return(o.ID)
		run.On("GetRunID").Return("first")
		return run, nil
	})
	c := &Client{Temporal: m, Store: storetest.OpenStore(t, t.TempDir()), Queues: workflows.Queues{Control: "control"}, HeartbeatSeconds: 30, Revision: "r", Attributes: []string{"Seed"},
		Origin: workflows.Origin{User: "anna", Host: "box"}}

	p, err := experiments.Prepare("demo", nil, host)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.StartRun(t.Context(), p)
	if run, ok := in.(workflows.RunInput); err != nil || !ok || e.ID != run.WorkflowID() || run.Facts.Revision != "r" || run.HeartbeatSeconds != 30 {
		t.Errorf("started %+v as %+v, %v", in, e, err)
	}
	if by := options.Memo["origin"]; options.TaskQueue != "control" || by != c.Origin {
		t.Errorf("started with %+v, want the queue and a memo of who starts it", options)
	}

	s, err := experiments.PrepareSweep("demo-sweep", nil, host)
	if err != nil {
		t.Fatal(err)
	}
	e, err = c.StartSweep(t.Context(), s)
	sweep, ok := in.(workflows.SweepInput)
	if err != nil || !ok || e.ID != workflows.SweepWorkflowID(s.Plan) || sweep.Plan.Cells != len(s.Plan.Cells) || sweep.Facts.Revision != "r" {
		t.Fatalf("started %+v as %+v, %v", in, e, err)
	}
	if plan, err := ReadSweepPlan(t.Context(), c.Store, sweep.Plan); err != nil || plan.Identity() != s.Plan.Identity() {
		t.Errorf("the plan in the store is another: %v", err)
	}
	sweep.Plan.SHA256 = strings.Repeat("0", 64)
	var unusable *PlanError
	if _, err := ReadSweepPlan(t.Context(), c.Store, sweep.Plan); !errors.As(err, &unusable) {
		t.Errorf("got %v, want that the plan is not the one that is asked for", err)
	}
}

// What is under way already is joined, and said to be.
func TestStartJoins(t *testing.T) {
	m := &mocks.Client{}
	m.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil, serviceerror.NewWorkflowExecutionAlreadyStarted("there", "", "second"))
	p, err := experiments.Prepare("demo", nil, experiments.OS([]byte("[]")))
	if err != nil {
		t.Fatal(err)
	}
	e, err := (&Client{Temporal: m}).StartRun(t.Context(), p)
	if err != nil || !e.Joined || e.RunID != "second" || workflows.NamedIn(e.ID) != "demo" {
		t.Errorf("got %+v, %v; want the run that is under way", e, err)
	}
}

func TestCellNamed(t *testing.T) {
	plan := experiments.SweepPlan{Name: "grid", Cells: []experiments.PlannedCell{{Cell: experiments.Cell{Name: "beta-0.1"}}, {Cell: experiments.Cell{Name: "beta-0.2"}}}}
	for _, name := range []string{"beta-0.2", experiments.CellExperiment("grid", "beta-0.2")} {
		if cell, err := cellNamed(plan, name); err != nil || cell != 1 {
			t.Errorf("%q is cell %d, %v; want 1", name, cell, err)
		}
	}
	if _, err := cellNamed(plan, "beta"); err == nil || !strings.Contains(err.Error(), "it has beta-0.1, beta-0.2") {
		t.Errorf("got %v, want the cells that are like it", err)
	}
}

// A command to a sweep that has ended says so.
func TestEndedSweep(t *testing.T) {
	m := &mocks.Client{}
	m.On("CancelWorkflow", mock.Anything, "sweep/grid/1", "").Return(serviceerror.NewNotFound("gone"))
	var ofLab *Error
	if err := (&Client{Temporal: m}).CancelSweep(t.Context(), "sweep/grid/1"); !errors.As(err, &ofLab) || ofLab.Unreachable || !strings.Contains(err.Error(), "sweep/grid/1 has ended") {
		t.Errorf("got %v, want that the sweep has ended", err)
	}
}

func TestForecast(t *testing.T) {
	p, err := experiments.PrepareSweep("demo-sweep", nil, experiments.OS([]byte("[]")))
	if err != nil {
		t.Fatal(err)
	}
	uses, cached := map[string]int{}, map[string]bool{}
	inCells := 0
	for cell := range p.Plan.Cells {
		_, stages, err := p.Plan.Stages(cell)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stages {
			inCells++
			uses[s.Fingerprint]++
			cached[s.Fingerprint] = s.Kind == experiments.KindCorpus
		}
	}
	got, err := forecast(p, uses, cached, experiments.NewEstimator(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := StageCounts{InCells: inCells, Distinct: len(uses), Cached: 1}
	if got.Stages != want || got.Estimate.Unknown != len(uses)-1 || got.ID != workflows.SweepWorkflowID(p.Plan) {
		t.Errorf("stages %+v, %d of unknown time; want %+v, all but one", got.Stages, got.Estimate.Unknown, want)
	}
	fresh := 0
	for i, cell := range got.Cells {
		fresh += cell.New
		if cell.Cached != 1 || cell.Own == 0 || cell.Own >= cell.Stages {
			t.Errorf("cell %d is %+v: want one cached stage, and stages that it shares and that are its own", i, cell)
		}
	}
	if fresh != len(uses)-1 {
		t.Errorf("%d stages are to run first in some cell, want each of the %d once", fresh, len(uses)-1)
	}
}

// The progress of a stage is what its running activity last reported.
func TestReadProgress(t *testing.T) {
	details, err := converter.GetDefaultDataConverter().ToPayloads(workflows.Progress{Phase: "train", Step: 3, Steps: 9})
	if err != nil {
		t.Fatal(err)
	}
	m := &mocks.Client{}
	m.On("DescribeWorkflowExecution", mock.Anything, "stage/dpo/1", "").Return(&workflowservice.DescribeWorkflowExecutionResponse{
		PendingActivities: []*workflowpb.PendingActivityInfo{{HeartbeatDetails: details, Attempt: 2}},
	}, nil)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if p, err := ReadProgress(ctx, m, "stage/dpo/1"); err != nil || p.Phase != "train" || p.Step != 3 || p.Attempt != 2 {
		t.Errorf("got %+v, %v; want step 3 of the second attempt", p, err)
	}
}
