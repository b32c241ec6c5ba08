package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// replySpace is where the store keeps the replies of judges.
const replySpace = "judge"

// judges is what the judges of a process have in common: the word counts of
// the last corpus, and a gate for each endpoint, whose limits are an account's.
type judges struct {
	mu     sync.Mutex
	corpus string // digest of the artifact that usage was counted on
	usage  *judge.Usage
	gates  map[gateKey]*openai.Gate
}

type gateKey struct {
	baseURL string
	limits  openai.Limits
}

// usageOf counts a corpus' wording once. Runs side by side on several corpora
// count again when they take turns.
func (j *judges) usageOf(digest string, train func() ([]esc.Dialogue, error)) (*judge.Usage, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.corpus == digest && j.usage != nil {
		return j.usage, nil
	}
	dialogues, err := train()
	if err != nil {
		return nil, err
	}
	j.corpus, j.usage = digest, judge.FitUsage(dialogues)
	return j.usage, nil
}

func (j *judges) gate(baseURL string, limits openai.Limits) *openai.Gate {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := gateKey{baseURL, limits}
	if j.gates == nil {
		j.gates = map[gateKey]*openai.Gate{}
	}
	if j.gates[key] == nil {
		j.gates[key] = openai.NewGate(limits)
	}
	return j.gates[key]
}

// openJudge opens the judge that a stage's parameters name.
func openJudge(ctx context.Context, t *attempt, model experiments.JudgeModel) (judge.Judge, error) {
	if model.Judge != experiments.JudgeOpenAI {
		if _, err := t.input(ctx, "corpus"); err != nil {
			return nil, err
		}
		usage, err := t.a.judges.usageOf(t.inputs["corpus"], func() ([]esc.Dialogue, error) {
			corpus, err := readCorpus(ctx, t, results.FileTrain)
			return corpus[results.FileTrain], err
		})
		if err != nil {
			return nil, err
		}
		return judge.NewOffline(usage), nil
	}
	set, err := promptsOf(model)
	if err != nil {
		return nil, badInput(err)
	}
	access := t.judgeAccess()
	key, err := t.a.JudgeKey(model.BaseURL)
	if err != nil {
		return nil, &permanentError{workflows.ErrTypeJudge, err}
	}
	t.ledger = openai.NewLedger(openai.Budget(access.Budget), openai.Prices{Prompt: access.Price.Input, Completion: access.Price.Output}, openai.Spent(t.paid))
	client, err := openai.New(openai.Options{
		BaseURL: model.BaseURL, Model: model.Model, Key: openai.Key(key), Temperature: model.Temperature, Prompts: set,
		Cache: replyCache{t.a.Store, t.a.Log},
		Gate: t.a.judges.gate(model.BaseURL, openai.Limits{
			Concurrency: access.Concurrency, RequestsPerMinute: access.RequestsPerMinute, TokensPerMinute: access.TokensPerMinute,
		}),
		Ledger:  t.ledger,
		Timeout: time.Duration(access.TimeoutSeconds) * time.Second,
		Repairs: access.Repairs,
		Replied: func() { t.pulse.touch(func(p *workflows.Progress) { p.Spent = t.spent() }) },
	})
	if err != nil {
		return nil, badInput(err)
	}
	if set.Protocol() == prompts.Paper {
		return openai.Paper{Client: client}, nil
	}
	return client, nil
}

// judgeAccess says how the stage's judge is asked.
func (t *attempt) judgeAccess() experiments.JudgeAccess {
	if own := t.in.Stage.JudgeAccess; own != nil {
		return *own
	}
	return t.in.Judge
}

func promptsOf(model experiments.JudgeModel) (prompts.Set, error) {
	protocol := prompts.Protocol(cmp.Or(model.Protocol, experiments.ProtocolJoint))
	if len(model.Prompts) == 0 {
		return prompts.Builtin(protocol)
	}
	return prompts.New(protocol, model.Prompts)
}

// spent is what the judge has cost in all attempts; nil where nothing was paid.
func (t *attempt) spent() *workflows.Spent {
	s := t.paid
	if t.ledger != nil {
		s = workflows.Spent(t.ledger.Spent())
	}
	if s == (workflows.Spent{}) {
		return nil
	}
	return &s
}

// replyCache keeps the judge's replies in the store, shared by all runs.
type replyCache struct {
	store *artifacts.Store
	log   zerolog.Logger
}

func (c replyCache) Get(ctx context.Context, key string) ([]byte, bool, error) {
	value, err := c.store.Reply(ctx, replySpace, key)
	switch {
	case err == nil:
		return value, true, nil
	case errors.Is(err, artifacts.ErrNotFound):
		return nil, false, nil
	case errors.Is(err, artifacts.ErrCorrupt):
		c.log.Warn().Err(err).Msg("a judge's reply is damaged and is asked for again")
		return nil, false, nil
	}
	return nil, false, err
}

func (c replyCache) Put(ctx context.Context, key string, value []byte) ([]byte, error) {
	return c.store.PutReply(ctx, replySpace, key, value)
}

// sideBySide bounds the texts of a stage that are judged at the same time; how
// many of them are asked about is up to the endpoint's gate.
const sideBySide = 64

// each calls f for 0 to n-1, some at a time. After an error it starts no new
// call, but lets those under way finish, since they are paid for. It returns the
// error of the smallest index.
func each(ctx context.Context, n int, f func(i int) error) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	next, failedAt := 0, n
	var failure error
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= n || failure != nil || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range min(sideBySide, n) {
		group.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := f(i); err != nil {
					mu.Lock()
					if i < failedAt {
						failedAt, failure = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if failure == nil {
		return context.Cause(ctx)
	}
	return failure
}

// judgedRows asks a judge about turns, some at a time, and gives the rows that
// ask makes of each, in the turns' order; see makeRows.
func judgedRows[T any](ctx context.Context, t *attempt, phase string, turns []esc.Turn, ask func(ctx context.Context, turn esc.Turn) ([]T, error)) (*rowFile[T], error) {
	return makeRows(ctx, t, phase, 1, turns, func(ctx context.Context, turns []esc.Turn, done func(int)) ([]T, error) {
		ofTurn := make([][]T, len(turns))
		var counting sync.Mutex
		err := each(ctx, len(turns), func(i int) (err error) {
			if ofTurn[i], err = ask(ctx, turns[i]); err != nil {
				return fmt.Errorf("dialogue %d, turn %d: %w", turns[i].Dialogue, turns[i].Index, err)
			}
			counting.Lock()
			defer counting.Unlock()
			done(0)
			return nil
		})
		return slices.Concat(ofTurn...), err
	})
}

// tooFewVerdicts fails a stage if too many of its n texts have no verdict.
func tooFewVerdicts(t *attempt, unjudged, n int, what, example string) error {
	if unjudged == 0 || float64(unjudged) <= t.judgeAccess().MaxUnjudged*float64(n) {
		return nil
	}
	return &permanentError{workflows.ErrTypeJudge, fmt.Errorf("%d of %d %s have no verdict, more than judge.max_unjudged %g allows (%s): take another model or other prompts, or raise it",
		unjudged, n, what, t.judgeAccess().MaxUnjudged, example)}
}
