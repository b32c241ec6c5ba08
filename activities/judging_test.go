package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/chattest"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/workflows"
)

// canary is the API key of these tests: it may turn up nowhere.
const canary = "sk-canary-77aa01"

// lab is a store with a corpus and a generation, and what works on it.
type lab struct {
	a      *Activities
	dir    string
	log    bytes.Buffer
	stages map[string]experiments.Stage
	access experiments.JudgeAccess
	paid   *workflows.Spent // by attempts before
	stop   chan struct{}
}

// judgedReplies is how many replies the tests' stages judge; each is asked
// about twice.
const judgedReplies = 10

func newLab(t *testing.T, s *chattest.Server, sets ...string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), stages: map[string]experiments.Stage{}}
	exp, err := experiments.Load("demo", append([]string{
		"judge.kind=openai", "judge.model=test", "judge.base_url=" + s.URL, "judge.api_key_env=TEST_KEY", fmt.Sprintf("judge.samples=%d", judgedReplies),
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
	backend, err := artifacts.OpenDirectory(filepath.Join(l.dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := artifacts.New(backend, artifacts.Options{CacheDir: filepath.Join(l.dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	l.a = &Activities{Store: store, Log: zerolog.New(&l.log), Scratch: filepath.Join(l.dir, "scratch"), DemoCorpus: democorpus.JSON(),
		JudgeKey: func(_, variable string) (string, error) {
			if variable != "TEST_KEY" {
				return "", errors.New("another variable")
			}
			return canary, nil
		}}
	if _, err := l.run(l.a.Corpus, "corpus"); err != nil {
		t.Fatal(err)
	}
	l.generate(t, "generate/vanilla/base")
	l.generate(t, "generate/vanilla/sft")
	return l
}

// run executes a stage's activity as Temporal would.
func (l *lab) run(activity any, name string) (workflows.StageResult, error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetDisableRegistrationAliasing(true)
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	if l.paid != nil {
		env.SetHeartbeatDetails(workflows.Progress{Spent: l.paid})
	}
	if l.stop != nil {
		env.SetWorkerStopChannel(l.stop)
	}
	in := workflows.StageInput{Stage: l.stages[name], Inputs: map[string]string{}, Judge: l.access, Checkpoint: experiments.Checkpoint{EverySeconds: 1, Keep: 2}}
	for input, stage := range l.stages[name].Inputs {
		in.Inputs[input] = l.stages[stage].Fingerprint
	}
	var result workflows.StageResult
	value, err := env.ExecuteActivity(activity, in)
	if err == nil {
		err = value.Get(&result)
	}
	return result, err
}

// generate commits replies that a model could have written: the gold ones,
// each a place further on.
func (l *lab) generate(t *testing.T, name string) {
	t.Helper()
	ctx := t.Context()
	m, err := l.a.Store.Lookup(ctx, l.stages["corpus"].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	path, err := l.a.Store.LocalFile(ctx, m.Files[fileTest])
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
		other := turns[(i+1)%len(turns)]
		if err := json.NewEncoder(&rows).Encode(prediction{Dialogue: turn.Dialogue, Turn: turn.Index,
			GoldStrategy: turn.Strategy.String(), GoldResponse: turn.Response, Strategy: other.Strategy.String(), Response: other.Response}); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := l.a.Store.PutBytes(ctx, rows.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	lease, err := l.a.Store.Acquire(ctx, l.stages[name].Fingerprint, artifacts.Claim{Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Commit(ctx, artifacts.Manifest{Kind: "generate", Stage: name, Files: map[string]artifacts.Ref{filePredictions: ref}}, nil); err != nil {
		t.Fatal(err)
	}
}

const judgeStage = "judge/vanilla/base"

func (l *lab) judge(t *testing.T) workflows.StageResult {
	t.Helper()
	result, err := l.run(l.a.Judge, judgeStage)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// read decodes a file of the judge stage's artifact.
func (l *lab) rows(t *testing.T) []judged {
	t.Helper()
	m, err := l.a.Store.Lookup(t.Context(), l.stages[judgeStage].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	data, err := l.a.Store.ReadAll(t.Context(), m.Files[fileJudged], 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := decodeRows[judged](data)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// forget removes the stage's artifact, as if it had been made elsewhere.
func (l *lab) forget(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(l.dir, "store", "stages", l.stages[judgeStage].Fingerprint)); err != nil {
		t.Fatal(err)
	}
}

// noCanary looks for the key in every file of the lab and in its log.
func (l *lab) noCanary(t *testing.T, errs ...error) {
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

// The artifact of a judge stage is the same to the byte whatever the endpoint
// did on the way, and making it again asks nothing.
func TestJudgeStageUnderFaults(t *testing.T) {
	s := chattest.New(t)
	perfect := newLab(t, s)
	want := perfect.judge(t)
	rows := perfect.rows(t)
	if len(rows) != judgedReplies || len(s.Requests()) != 2*judgedReplies || want.Metrics["judged"] != judgedReplies {
		t.Fatalf("%d rows, %d requests, %v", len(rows), len(s.Requests()), want.Metrics)
	}
	for _, r := range s.Requests() {
		if r.Authorization != "Bearer "+canary {
			t.Fatalf("authorization %q", r.Authorization)
		}
	}

	s.Set(chattest.Faulty)
	shaky := newLab(t, s)
	got := shaky.judge(t)
	if got.Digest != want.Digest || !reflect.DeepEqual(shaky.rows(t), rows) {
		t.Errorf("faults changed the artifact: %s and %s", got.Digest, want.Digest)
	}
	if n := len(s.Requests()); n < 6*judgedReplies {
		t.Errorf("%d requests: where were the faults?", n)
	}
	shaky.noCanary(t)

	s.Set(nil)
	shaky.forget(t)
	if again := shaky.judge(t); again.Digest != want.Digest || len(s.Requests()) != 0 {
		t.Errorf("again: %s with %d requests", again.Digest, len(s.Requests()))
	}
	// Another stage with the same replies pays nothing either.
	if _, err := shaky.run(shaky.a.Judge, "judge/vanilla/sft"); err != nil || len(s.Requests()) != 0 {
		t.Errorf("%v with %d requests", err, len(s.Requests()))
	}
	// A damaged reply is asked for again, that one alone.
	shaky.forget(t)
	kept, err := filepath.Glob(filepath.Join(shaky.dir, "store", "cache", replySpace, "*", "*"))
	if err != nil || len(kept) != 2*judgedReplies {
		t.Fatalf("%d replies are kept, %v", len(kept), err)
	}
	if err := os.WriteFile(kept[0], []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := shaky.judge(t); again.Digest != want.Digest || len(s.Requests()) != 1 {
		t.Errorf("with a damaged reply: %s with %d requests", again.Digest, len(s.Requests()))
	}
}

// A budget ends the stage by name and for good; the next run goes on from what
// was paid for, and nothing is paid twice.
func TestJudgeBudget(t *testing.T) {
	s := chattest.New(t)
	want := newLab(t, s).judge(t)
	s.Set(nil)
	l := newLab(t, s, "judge.budget.calls=7")
	for round := 1; ; round++ {
		result, err := l.run(l.a.Judge, judgeStage)
		sent := len(s.Requests())
		if err == nil {
			if result.Digest != want.Digest || sent != 2*judgedReplies || round != 3 {
				t.Errorf("%s with %d requests in %d rounds", result.Digest, sent, round)
			}
			return
		}
		l.noCanary(t, err)
		if errorType(err) != workflows.ErrTypeBudget || !strings.Contains(err.Error(), "raise judge.budget or run again") || sent != 7*round {
			t.Fatalf("round %d, %d requests: %v", round, sent, err)
		}
	}
}

// What an attempt before has paid counts for the next one's budget.
func TestJudgeBudgetOverAttempts(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s, "judge.budget.calls=7")
	l.paid = &workflows.Spent{Calls: 5, Tokens: 600}
	if _, err := l.run(l.a.Judge, judgeStage); errorType(err) != workflows.ErrTypeBudget || len(s.Requests()) != 2 {
		t.Errorf("%v with %d requests", err, len(s.Requests()))
	}
}

// A worker that stops in the middle leaves what it paid for to the next.
func TestJudgeStopsAndResumes(t *testing.T) {
	s := chattest.New(t)
	want := newLab(t, s).judge(t)
	l := newLab(t, s, "judge.concurrency=2")
	l.stop = make(chan struct{})
	var seen atomic.Int32
	s.Set(func(chattest.Request, int) chattest.Fault {
		switch n := seen.Add(1); {
		case n == 6:
			close(l.stop)
			return chattest.Hang
		case n > 6:
			return chattest.Hang
		}
		return chattest.None
	})
	if _, err := l.run(l.a.Judge, judgeStage); err == nil || errorType(err) != "" || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("got %v", err)
	}
	s.Set(nil)
	l.stop = nil
	if got := l.judge(t); got.Digest != want.Digest || len(s.Requests()) != 2*judgedReplies-5 {
		t.Errorf("%s with %d requests, want %d", got.Digest, len(s.Requests()), 2*judgedReplies-5)
	}
}

// A reply that the model declines to judge is counted as such, within bounds.
func TestUnjudgedReplies(t *testing.T) {
	s := chattest.New(t)
	all := newLab(t, s)
	all.judge(t)
	rows := all.rows(t)
	asked := s.Requests()[3].Messages[1].Content
	s.Set(func(r chattest.Request, _ int) chattest.Fault {
		if r.Messages[1].Content == asked {
			return chattest.Refused
		}
		return chattest.None
	})
	l := newLab(t, s, "judge.max_unjudged=0.05")
	_, err := l.run(l.a.Judge, judgeStage)
	if errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "1 of 10 replies have no verdict") || !strings.Contains(err.Error(), "the model refused") {
		t.Errorf("got %v", err)
	}
	l.access.MaxUnjudged = 0.1
	result := l.judge(t)
	if result.Metrics["judged"] != judgedReplies-1 || result.Metrics["unjudged"] != 1 {
		t.Errorf("%v", result.Metrics)
	}
	unjudged := 0
	for i, row := range l.rows(t) {
		if row.Problem != "" {
			unjudged++
			if len(row.Findings) > 0 || row.Scores != (judge.Scores{}) {
				t.Errorf("a row without a verdict has one: %+v", row)
			}
		} else if !reflect.DeepEqual(row, rows[i]) {
			t.Errorf("%+v became %+v", rows[i], row)
		}
	}
	if unjudged != 1 {
		t.Errorf("%d replies without a verdict", unjudged)
	}
}

// An endpoint that refuses the key ends the stage at once.
func TestJudgeRefusedKey(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s)
	s.Set(func(chattest.Request, int) chattest.Fault { return chattest.Unauthorized })
	_, err := l.run(l.a.Judge, judgeStage)
	if errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "status 401") {
		t.Errorf("got %v", err)
	}
	l.noCanary(t, err)
	l.access.APIKeyEnv = "OTHER"
	if _, err := l.run(l.a.Judge, judgeStage); errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "another variable") {
		t.Errorf("a key that is not there: %v", err)
	}
}

// The offline judge counts a corpus' words once for all stages.
func TestOfflineJudgeCountsOnce(t *testing.T) {
	l := newLab(t, chattest.New(t), "judge.kind=offline")
	counted := 0
	fit := func() ([]esc.Dialogue, error) { counted++; return nil, nil }
	for _, digest := range []string{"a", "a", "b", "b"} {
		if _, err := l.a.judges.usageOf(digest, fit); err != nil {
			t.Fatal(err)
		}
	}
	if counted != 2 {
		t.Errorf("counted %d times for two corpora", counted)
	}
	if _, err := l.a.judges.usageOf("c", func() ([]esc.Dialogue, error) { return nil, errors.New("gone") }); err == nil {
		t.Error("no error")
	}
	if result := l.judge(t); result.Metrics["judged"] != judgedReplies {
		t.Errorf("%v", result.Metrics)
	}
}

// Mining's labels and pairs are the same under faults.
func TestMiningUnderFaults(t *testing.T) {
	s := chattest.New(t)
	var turns []esc.Turn
	for d := range 6 {
		turns = append(turns, esc.Turn{Dialogue: d, Strategy: esc.Strategies()[d], Response: "That sounds hard.",
			Context: []esc.Message{{Role: esc.UserRole, Content: fmt.Sprintf("I slept %d hours.", d)}}})
	}
	mine := func(plan func(chattest.Request, int) chattest.Fault) ([]esc.Pair, mined) {
		t.Helper()
		s.Set(plan)
		set, err := prompts.Builtin()
		if err != nil {
			t.Fatal(err)
		}
		client, err := openai.New(openai.Options{BaseURL: s.URL, Model: "test", Prompts: set, Repairs: 3, Backoff: 1, Timeout: 500e6})
		if err != nil {
			t.Fatal(err)
		}
		label := func(ctx context.Context, turn esc.Turn, strategy esc.Strategy, response string) (judge.Verdict, error) {
			return client.Label(ctx, judge.Request{Context: turn.Context, Gold: turn.Strategy, Strategy: strategy, Response: response})
		}
		samples := make([]minedSample, 2*len(turns))
		err = each(t.Context(), len(samples), func(n int) (err error) {
			text := fmt.Sprintf("[Question] How do you feel about it, %d?", n)
			samples[n], err = readSample(t.Context(), esc.VM, turns[n/2], n%2, answerText{text: text}, label)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		faulty, err := faultyGold(t.Context(), turnsOfPairs(esc.VM, turns, samples), label)
		if err != nil {
			t.Fatal(err)
		}
		return makePairs(esc.VM, turns, samples, faulty, experiments.MineParams{})
	}
	pairs, found := mine(nil)
	if found.Samples != 12 || len(found.Errors) != esc.NumPsyErrors {
		t.Fatalf("%+v", found)
	}
	if again, foundAgain := mine(chattest.Faulty); !reflect.DeepEqual(again, pairs) || !reflect.DeepEqual(foundAgain, found) {
		t.Errorf("faults changed the pairs: %+v and %+v", found, foundAgain)
	}
	// A sample without a verdict makes no pair, and is counted.
	_, declined := mine(func(r chattest.Request, _ int) chattest.Fault {
		if strings.Contains(r.Messages[1].Content, "about it, 3?") {
			return chattest.Filtered
		}
		return chattest.None
	})
	if declined.Unjudged != 1 || declined.Samples != 12 {
		t.Errorf("%+v", declined)
	}
}

// After an error nothing new begins, what is under way finishes, and the error
// is that of the smallest index.
func TestEach(t *testing.T) {
	var done atomic.Int32
	err := each(t.Context(), 10*sideBySide, func(i int) error {
		if i < sideBySide/2 {
			return fmt.Errorf("%d", i)
		}
		done.Add(1)
		return nil
	})
	if err == nil || err.Error() != "0" || done.Load() > sideBySide {
		t.Errorf("%v, %d done", err, done.Load())
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := each(ctx, 3, func(int) error { t.Error("called"); return nil }); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
