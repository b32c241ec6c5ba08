package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// chain is a small DAG: a → b → d, a → c → d.
func chain() []experiments.Stage {
	stage := func(name string, inputs ...string) experiments.Stage {
		s := experiments.Stage{Name: name, Kind: experiments.KindScore, Fingerprint: "fp-" + name, Inputs: map[string]string{}}
		for _, in := range inputs {
			s.Inputs[in] = in
		}
		return s
	}
	return []experiments.Stage{stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c")}
}

// emptyStore registers the activities of a store that has nothing in it, and returns
// what runs leave of themselves.
func emptyStore(env *testsuite.TestWorkflowEnvironment) *[]KeptRun {
	kept := &[]KeptRun{}
	env.RegisterActivityWithOptions(func(context.Context, []StageKey) (LookupAllResult, error) {
		return LookupAllResult{}, nil
	}, activityOptions(nameOf(Activities.LookupAll)))
	env.RegisterActivityWithOptions(func(_ context.Context, one KeptRun) error {
		*kept = append(*kept, one)
		return nil
	}, activityOptions(nameOf(Activities.KeepRun)))
	return kept
}

// runWith executes Run with the given behaviour of its stages and returns the
// environment and the order in which stages began.
func runWith(t *testing.T, stages []experiments.Stage, await func(StageInput) (StageResult, error)) (*testsuite.TestWorkflowEnvironment, []string) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	var mu sync.Mutex
	var began []string
	emptyStore(env)
	env.RegisterWorkflowWithOptions(func(_ workflow.Context, in StageInput) (StageResult, error) {
		mu.Lock()
		began = append(began, in.Stage.Name)
		mu.Unlock()
		return await(in)
	}, workflow.RegisterOptions{Name: StageName})
	env.ExecuteWorkflow(Run, RunInput{Experiment: "test", Stages: stages, HeartbeatSeconds: 10})
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow has not completed")
	}
	return env, began
}

func TestRunOrdersStagesByTheirInputs(t *testing.T) {
	env, began := runWith(t, chain(), func(in StageInput) (StageResult, error) {
		for name, fp := range in.Inputs {
			if want := "fp-" + name; fp != want {
				return StageResult{}, fmt.Errorf("input %s has fingerprint %s, want %s", name, fp, want)
			}
		}
		return StageResult{Stage: in.Stage.Name, Digest: "digest-" + in.Stage.Name, Reused: in.Stage.Name == "a"}, nil
	})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(began) != 4 || began[0] != "a" || began[3] != "d" {
		t.Errorf("stages began in the order %v", began)
	}
	var result RunResult
	if err := env.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	if got, ok := result.Result("d"); !ok || got.Digest != "digest-d" {
		t.Errorf("result of d: %+v, %v", got, ok)
	}
	answer, err := env.QueryWorkflow(QueryState)
	if err != nil {
		t.Fatal(err)
	}
	var state RunState
	if err := answer.Get(&state); err != nil {
		t.Fatal(err)
	}
	if state.Stages[0].Status != StageReused || state.Stages[3].Status != StageDone {
		t.Errorf("state: %+v", state.Stages)
	}
}

// The result of a run has the comparison of its systems, before everything else.
func TestRunComparesItsSystems(t *testing.T) {
	stages := demoPlan()
	env, _ := runWith(t, stages, func(in StageInput) (StageResult, error) {
		made := StageResult{Stage: in.Stage.Name}
		if in.Stage.Kind == experiments.KindScore {
			made.Metrics = map[string]float64{"rouge_l": 10 + float64(len(in.Stage.Name))}
		}
		return made, nil
	})
	var result RunResult
	if err := env.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"system            D-1  B-1  F1  R-L    B  Qw  Q",
		"vanilla/sft       –    –    –   27.00  –  –   –",
		"vanilla/dpo       –    –    –   27.00  –  –   –",
		"vanilla/dpo/nsnr  –    –    –   32.00  –  –   –",
		"decoupled/sft     –    –    –   29.00  –  –   –",
		"decoupled/dpo     –    –    –   29.00  –  –   –",
	}
	if len(result.Stages) != len(stages) || !slices.Equal(result.Comparison, want) {
		t.Errorf("of %d stages there are %d results, compared as\n%s\nwant\n%s",
			len(stages), len(result.Stages), strings.Join(result.Comparison, "\n"), strings.Join(want, "\n"))
	}
	raw, err := json.Marshal(result)
	if err != nil || !strings.HasPrefix(string(raw), `{"comparison":[`) {
		t.Errorf("the result is %.40s… (%v), want the comparison first", raw, err)
	}
}

// A failed stage takes down what depends on it and nothing else.
func TestRunGoesOnBesideAFailedStage(t *testing.T) {
	env, began := runWith(t, chain(), func(in StageInput) (StageResult, error) {
		if in.Stage.Name == "b" {
			return StageResult{}, temporal.NewNonRetryableApplicationError("no pair to train on", ErrTypeNoPairs, nil)
		}
		return StageResult{Stage: in.Stage.Name}, nil
	})
	err := env.GetWorkflowError()
	if err == nil || !strings.Contains(err.Error(), "b: no pair to train on") {
		t.Fatalf("error %v does not say which stage failed of what", err)
	}
	if strings.Join(began, "") != "abc" && strings.Join(began, "") != "acb" {
		t.Errorf("began %v, want a, b and c alone", began)
	}
	answer, err := env.QueryWorkflow(QueryState)
	if err != nil {
		t.Fatal(err)
	}
	var state RunState
	if err := answer.Get(&state); err != nil {
		t.Fatal(err)
	}
	want := []StageStatus{StageDone, StageFailed, StageDone, StageSkipped}
	for i, s := range state.Stages {
		if s.Status != want[i] {
			t.Errorf("stage %s is %s, want %s", s.Name, s.Status, want[i])
		}
	}
}

func TestRunRefusesAPlanOutOfOrder(t *testing.T) {
	stages := chain()
	stages[0], stages[3] = stages[3], stages[0]
	env, began := runWith(t, stages, func(StageInput) (StageResult, error) { return StageResult{}, nil })
	if env.GetWorkflowError() == nil || len(began) != 0 {
		t.Errorf("error %v, began %v", env.GetWorkflowError(), began)
	}
}

// A stage of a newer plan ends with an error that says so.
func TestUnknownKindHasNoActivity(t *testing.T) {
	if name, err := activityFor("unheard-of"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an unknown kind has activity %q (%v), want an error that wraps %v", name, err, errors.ErrUnsupported)
	}
}
