package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows"
)

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
	if _, err := shaky.run("judge/vanilla/sft"); err != nil || len(s.Requests()) != 0 {
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
		result, err := l.run(judgeStage)
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
	if _, err := l.run(judgeStage); errorType(err) != workflows.ErrTypeBudget || len(s.Requests()) != 2 {
		t.Errorf("%v with %d requests", err, len(s.Requests()))
	}
}

// A worker that stops in the middle leaves what it paid for to the next.
func TestJudgeStopsAndResumes(t *testing.T) {
	s := chattest.New(t)
	want := newLab(t, s).judge(t)
	// One at a time: a reply that is on its way when the worker stops is lost,
	// and with two it would be chance whether there is one.
	l := newLab(t, s, "judge.concurrency=1")
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
	if _, err := l.run(judgeStage); err == nil || errorType(err) != "" || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("got %v, want an error that is tried again since the worker is stopping", err)
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
	_, err := l.run(judgeStage)
	if errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "1 of 10 replies have no verdict") || !strings.Contains(err.Error(), "the model refused") {
		t.Errorf("got %v, want an error of type Judge that counts and quotes what has no verdict", err)
	}
	l.access.MaxUnjudged = 0.1
	result := l.judge(t)
	if result.Metrics["judged"] != judgedReplies-1 || result.Metrics["unjudged"] != 1 {
		t.Errorf("the metrics are %v, want one reply without a verdict and the others judged", result.Metrics)
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

	s.Set(func(chattest.Request, int) chattest.Fault { return chattest.Refused })
	none := newLab(t, s, "judge.max_unjudged=1").judge(t)
	if _, scored := none.Metrics["empathy"]; scored || none.Metrics["judged"] != 0 || none.Metrics["unjudged"] != judgedReplies {
		t.Errorf("the metrics are %v, want %d replies without a verdict and no score of them", none.Metrics, judgedReplies)
	}
}

// An endpoint that refuses the key ends the stage at once.
func TestJudgeRefusedKey(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s)
	s.Set(func(chattest.Request, int) chattest.Fault { return chattest.Unauthorized })
	_, err := l.run(judgeStage)
	if errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "status 401") {
		t.Errorf("got %v, want an error of type Judge with the status", err)
	}
	l.noCanary(t, err)
	asked := len(s.Requests())
	l.a.JudgeKey = func(string) (string, error) { return "", errors.New("not listed") }
	if _, err := l.run(judgeStage); errorType(err) != workflows.ErrTypeJudge || !strings.Contains(err.Error(), "not listed") || len(s.Requests()) != asked {
		t.Errorf("an endpoint that this worker may not ask: %v after %d requests, want an error of type Judge and none", err, len(s.Requests())-asked)
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
		t.Errorf("the metrics are %v, want every reply judged", result.Metrics)
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
	mine := func(plan func(chattest.Request, int) chattest.Fault) ([]esc.Pair, results.Mined) {
		t.Helper()
		s.Set(plan)
		set, err := prompts.Builtin(prompts.Joint)
		if err != nil {
			t.Fatal(err)
		}
		client, err := openai.New(openai.Options{BaseURL: s.URL, Model: "test", Prompts: set, Repairs: 3, Backoff: 1, Timeout: 500e6})
		if err != nil {
			t.Fatal(err)
		}
		label := &labeller{client}
		samples := make([]results.MinedSample, 2*len(turns))
		err = each(t.Context(), len(samples), func(n int) (err error) {
			text := fmt.Sprintf("[Question] How do you feel about it, %d?", n)
			samples[n], err = readSample(t.Context(), esc.VM, turns[n/2], n%2, models.Answer{Text: text}, label)
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
		t.Fatalf("mined is %+v, want 12 samples and every error counted", found)
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
		t.Errorf("mined is %+v, want one of 12 samples without a verdict", declined)
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
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}
