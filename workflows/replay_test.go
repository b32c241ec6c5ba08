package workflows

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// histories are recorded from esclab itself, of each release and of the code
// as it is (make histories). What a release has started has to end under the
// code that follows it, so its histories stay here and are replayed for ever.
const histories = "testdata/histories"

// named are the workflows by the names under which they are registered.
func named() map[string]any { return Registered() }

// replay replays a history's file under the given workflows.
func replay(path string, with map[string]any) error {
	r := worker.NewWorkflowReplayer()
	for name, fn := range with {
		r.RegisterWorkflowWithOptions(fn, workflow.RegisterOptions{Name: name})
	}
	return r.ReplayWorkflowHistoryFromJSONFile(nil, path)
}

func recorded(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(histories, "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in %s (%v): make histories records them", histories, err)
	}
	return files
}

func readHistory(t *testing.T, path string) *history.History {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatalf("cannot read history %s: %v", path, err)
	}
	return h
}

// TestReplay replays every recorded history: a change after which a workflow
// would take another path than it has taken fails here, not in a night.
func TestReplay(t *testing.T) {
	for _, path := range recorded(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			if err := replay(path, named()); err != nil {
				t.Errorf("%v\nthe code takes another path than the history: declare the change with workflow.GetVersion, so that what is running stays on the old one", err)
			}
		})
	}
}

// TestHistoriesCoverEveryType: each workflow type is recorded, also failed and
// cancelled where it can be.
func TestHistoriesCoverEveryType(t *testing.T) {
	files := strings.Join(recorded(t), "\n")
	for name := range named() {
		if !strings.Contains(files, "/"+strings.ToLower(name)+"-") {
			t.Errorf("no history of workflow type %s: make histories", name)
		}
	}
	for _, what := range []string{"run-whole-completed", "run-reuse-completed", "run-fail-failed", "run-cancel-canceled", "stage-found-completed", "stage-sft-failed", "stage-base-canceled",
		"sweep-micro-sweep-failed", "sweep-again-continuedasnew", "nightly-nightly-completed", "compare-shown-completed"} {
		if !strings.Contains(files, "/"+what+".json") {
			t.Errorf("no history %s: make histories", what)
		}
	}
}

// TestHistoriesNameActivities: every activity that a history names is one that
// workers register, so that what waits for it goes on.
func TestHistoriesNameActivities(t *testing.T) {
	registered := map[string]bool{}
	for method := range reflect.TypeFor[Activities]().Methods() {
		registered[method.Name] = true
	}
	for _, kind := range experiments.Kinds() {
		registered[kind.Activity()] = true
	}
	named := 0
	for _, path := range recorded(t) {
		for _, event := range readHistory(t, path).Events {
			a := event.GetActivityTaskScheduledEventAttributes()
			if a == nil {
				continue
			}
			if named++; !registered[a.ActivityType.Name] {
				t.Errorf("%s names activity %s, which no worker registers", path, a.ActivityType.Name)
			}
		}
	}
	if named == 0 {
		t.Error("the histories name no activity at all")
	}
}

// TestReplayFails shows that the replay notices what it is there for: each of
// these variants of a workflow takes another path than the recorded one.
func TestReplayFails(t *testing.T) {
	for name, v := range map[string]struct {
		history string
		with    map[string]any
	}{
		// Of the histories from before stages were children of runs: these activities
		// have numbers that their order gives.
		"a stage that does not look into the store": {"awaited/stage-sft-completed", map[string]any{StageName: func(ctx workflow.Context, in StageInput) (StageResult, error) {
			activity, err := activityFor(in.Stage.Kind)
			if err != nil {
				return StageResult{}, err
			}
			var result StageResult
			err = workflow.ExecuteActivity(computeOptions(ctx, in), activity, in).Get(ctx, &result)
			return result, err
		}}},
		"a stage that waits first": {"*/stage-sft-completed", map[string]any{StageName: func(ctx workflow.Context, in StageInput) (StageResult, error) {
			if err := workflow.Sleep(ctx, time.Minute); err != nil {
				return StageResult{}, err
			}
			return Stage(ctx, in)
		}}},
		"a stage that looks first": {"unreleased/stage-sft-completed", map[string]any{StageName: func(ctx workflow.Context, in StageInput) (StageResult, error) {
			if _, err := lookup(ctx, in); err != nil {
				return StageResult{}, err
			}
			return Stage(ctx, in)
		}}},
		"a run in another order": {"awaited/run-whole-completed", map[string]any{RunName: func(ctx workflow.Context, in RunInput) (RunResult, error) {
			for i := range in.Stages {
				in.Stages[i].Inputs = nil // all at once
			}
			return Run(ctx, in)
		}}},
		"a run that leaves a stage out": {"*/run-whole-completed", map[string]any{RunName: func(ctx workflow.Context, in RunInput) (RunResult, error) {
			in.Stages = in.Stages[:len(in.Stages)-1]
			return Run(ctx, in)
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(histories, v.history+".json"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no history %s (%v)", v.history, err)
			}
			for _, path := range files {
				if err := replay(path, v.with); err == nil {
					t.Errorf("%s replays under changed code", path)
				}
			}
		})
	}
}

// TestHistoriesHoldNoContent: what passes through Temporal is parameters,
// digests and numbers. No utterance of the sample corpus stands in a history,
// and none names the machine that it was recorded on.
func TestHistoriesHoldNoContent(t *testing.T) {
	for _, path := range recorded(t) {
		text := readHistory(t, path).String()
		for _, never := range []string{"I feel", "hopeless", "/" + "home/", "/" + "tmp/", "/" + "root/"} {
			if i := strings.Index(text, never); i >= 0 {
				t.Errorf("%s holds %q: …%.120s…", path, never, text[max(0, i-40):])
			}
		}
	}
}
