package activities

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// canary is the API key of these tests: it may turn up nowhere.
const canary = "sk-canary-77aa01"

// testLab is a store with a corpus and a generation, and what works on it.
type testLab struct {
	a      *Activities
	dir    string
	log    bytes.Buffer
	stages map[string]experiments.Stage
	access experiments.JudgeAccess
	paid   *workflows.Spent // by attempts before
	stop   chan struct{}
	every  int // steps between two checkpoints
}

// judgedReplies is how many replies the tests' stages judge; each is asked
// about twice.
const judgedReplies = 10

func newLab(t *testing.T, s *chattest.Server, sets ...string) *testLab {
	t.Helper()
	l := &testLab{dir: t.TempDir(), stages: map[string]experiments.Stage{}}
	exp, err := experiments.Load("demo", append([]string{
		"judge.kind=openai", "judge.model=test", "judge.base_url=" + s.URL, fmt.Sprintf("judge.samples=%d", judgedReplies),
		"judge.concurrency=32", "judge.timeout_seconds=1", "judge.repairs=3",
	}, sets...)...)
	if err != nil {
		t.Fatal(err)
	}
	l.access = exp.Judge.JudgeAccess
	sources, err := experiments.SourceDigests(exp, experiments.OS(democorpus.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	planned, err := experiments.Plan(exp, sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range planned {
		l.stages[stage.Name] = stage
	}
	store := storetest.OpenStore(t, l.dir)
	l.a = &Activities{Store: store, Log: zerolog.New(&l.log), Scratch: filepath.Join(l.dir, "scratch"), DemoCorpus: democorpus.JSON(),
		JudgeKey: func(baseURL string) (string, error) {
			if baseURL != s.URL {
				return "", errors.New("another endpoint")
			}
			return canary, nil
		}}
	if _, err := l.run("corpus"); err != nil {
		t.Fatal(err)
	}
	l.generate(t, "generate/vanilla/base", 1)
	l.generate(t, "generate/vanilla/sft", 1)
	l.generate(t, "generate/decoupled/sft", 2)
	return l
}

// run executes a stage as Temporal would.
func (l *testLab) run(name string) (workflows.StageResult, error) {
	return l.runActivity(l.a.Stages()[l.stages[name].Kind], name)
}

// runActivity executes an activity on a stage as Temporal would.
func (l *testLab) runActivity(of workflows.StageActivity, name string) (workflows.StageResult, error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivityWithOptions(of, activity.RegisterOptions{Name: "Stage"})
	if l.paid != nil {
		env.SetHeartbeatDetails(workflows.Progress{Spent: l.paid})
	}
	if l.stop != nil {
		env.SetWorkerStopChannel(l.stop)
	}
	in := workflows.StageInput{Stage: l.stages[name], Inputs: map[string]string{}, Judge: l.access, Checkpoint: experiments.Checkpoint{EverySteps: l.every, EverySeconds: 1, Keep: 2}}
	for input, stage := range l.stages[name].Inputs {
		in.Inputs[input] = l.stages[stage].Fingerprint
	}
	var result workflows.StageResult
	value, err := env.ExecuteActivity("Stage", in)
	if err == nil {
		err = value.Get(&result)
	}
	return result, err
}

// generate commits replies that a model could have written: the gold ones,
// each some places further on.
func (l *testLab) generate(t *testing.T, name string, places int) {
	t.Helper()
	ctx := t.Context()
	m, err := l.a.Store.Lookup(ctx, l.stages["corpus"].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	path, err := l.a.Store.LocalFile(ctx, m.Files[results.FileTest])
	if err != nil {
		t.Fatal(err)
	}
	dialogues, err := esc.ReadFile(path, esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	turns := esc.AllTurns(dialogues)
	var rows bytes.Buffer
	for i, turn := range turns {
		other := turns[(i+places)%len(turns)]
		if err := json.NewEncoder(&rows).Encode(results.Prediction{Place: turn.Place(),
			GoldStrategy: turn.Strategy.String(), GoldResponse: turn.Response, Strategy: other.Strategy.String(), Response: other.Response}); err != nil {
			t.Fatal(err)
		}
	}
	l.commit(t, name, results.FilePredictions, rows.Bytes())
}

// commit makes a stage's artifact of one file.
func (l *testLab) commit(t *testing.T, name, file string, data []byte) {
	t.Helper()
	ref, err := l.a.Store.PutFunc(t.Context(), artifacts.BytesFile(data))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := l.a.Store.Acquire(t.Context(), l.stages[name].Fingerprint, artifacts.Claim{Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	m := artifacts.Manifest{Kind: string(l.stages[name].Kind), Stage: name, Params: l.stages[name].Params, Files: map[string]artifacts.Ref{file: ref}}
	if _, err := lease.Commit(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
}

const judgeStage = "judge/vanilla/base"

func (l *testLab) judge(t *testing.T) workflows.StageResult {
	t.Helper()
	result, err := l.run(judgeStage)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// rows decodes the verdicts of the judge stage's artifact.
func (l *testLab) rows(t *testing.T) []results.Judged {
	t.Helper()
	return decoded[results.Judged](t, l.read(t, judgeStage, results.FileJudged))
}

// read gives a file of a stage's artifact.
func (l *testLab) read(t *testing.T, stage, file string) []byte {
	t.Helper()
	from, err := results.Open(t.Context(), l.a.Store, l.stages[stage].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	data, err := from.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decoded[T any](t *testing.T, data []byte) []T {
	t.Helper()
	rows, err := results.DecodeRows[T](data)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// forget removes the judge stage's artifact, as if it had been made elsewhere.
func (l *testLab) forget(t *testing.T) {
	t.Helper()
	l.forgetStage(t, judgeStage)
}

func (l *testLab) forgetStage(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(l.dir, "store", "stages", l.stages[name].Fingerprint)); err != nil {
		t.Fatal(err)
	}
}

// noCanary looks for the key in every file of the lab and in its log.
func (l *testLab) noCanary(t *testing.T, errs ...error) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("the key stands in %s", path)
		}
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("looked at %d files, %v", files, err)
	}
	if strings.Contains(l.log.String(), canary) {
		t.Error("the key stands in the log")
	}
	for _, err := range errs {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
			t.Errorf("the key stands in an error: %v", err)
		}
	}
}

func errorType(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.NonRetryable() {
		return app.Type()
	}
	return ""
}
