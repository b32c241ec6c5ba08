package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/prompts"
)

// canary is the key of all tests; it may turn up nowhere but in the header.
const canary = "sk-canary-5f1d0c"

// memory is a cache in a map.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (m *memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	return v, ok, nil
}

func (m *memory) Put(_ context.Context, key string, value []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	if first, ok := m.values[key]; ok {
		return first, nil
	}
	m.values[key] = value
	return value, nil
}

func newClient(t *testing.T, s *chattest.Server, change func(*Options)) (*Client, *memory) {
	t.Helper()
	set, err := prompts.Builtin(prompts.Joint)
	if err != nil {
		t.Fatal(err)
	}
	cache := &memory{}
	o := Options{
		BaseURL: s.URL, Model: "test", Key: canary, Prompts: set, Cache: cache, Gate: NewGate(Limits{Concurrency: 8}),
		Timeout: 300 * time.Millisecond, Repairs: 3, Backoff: time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, cache
}

func requestOf(i int) judge.Request {
	return judge.Request{
		Context:  []esc.Message{{Role: esc.UserRole, Content: fmt.Sprintf("I lost %d nights of sleep.", i)}},
		Gold:     esc.NoStrategy,
		Strategy: esc.Strategies()[i%len(esc.Strategies())],
		Response: fmt.Sprintf("That sounds hard. Since %d?", i),
	}
}

// result is all that a judge says of one sample.
type result struct {
	Verdict    judge.Verdict
	Scores     judge.Scores
	Preference judge.Preference
}

// judgeAll judges n samples side by side.
func judgeAll(c *Client, n int) ([]result, []error) {
	results, errs := make([]result, n), make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			r, ctx := requestOf(i), context.Background()
			var err [3]error
			results[i].Verdict, err[0] = c.Label(ctx, r)
			results[i].Scores, err[1] = c.Score(ctx, r)
			results[i].Preference, err[2] = c.Prefer(ctx, judge.Comparison{Context: r.Context, First: r.Response, Second: "ok"})
			errs[i] = errors.Join(err[:]...)
		})
	}
	group.Wait()
	return results, errs
}

func noErrors(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
	}
}

// noCanary fails where the key stands in a text.
func noCanary(t *testing.T, what string, text string) {
	t.Helper()
	if strings.Contains(text, canary) {
		t.Errorf("the key stands in %s: %s", what, text)
	}
}

// A server that fails in every way that passes gives the results of a perfect
// one, and what was asked once is not asked again.
func TestFaultsChangeNothing(t *testing.T) {
	const n = 12
	s := chattest.New(t)
	perfect, cache := newClient(t, s, nil)
	want, errs := judgeAll(perfect, n)
	noErrors(t, errs)
	if got := len(s.Requests()); got != 4*n {
		t.Fatalf("%d requests for %d questions", got, 4*n)
	}
	found := map[esc.PsyError]int{}
	for _, r := range want {
		for _, e := range r.Verdict.Errors() {
			found[e]++
		}
	}
	if len(found) != esc.NumPsyErrors {
		t.Fatalf("the test's verdicts are too alike: %v", found)
	}

	s.Set(chattest.Faulty)
	shaky, shakyCache := newClient(t, s, nil)
	got, errs := judgeAll(shaky, n)
	noErrors(t, errs)
	if !reflect.DeepEqual(got, want) {
		t.Error("faults changed a result")
	}
	// A broken line may look the same to the server twice, never less.
	if sent := len(s.Requests()); sent < 3*4*n {
		t.Errorf("%d requests; two faults before each of %d answers make %d", sent, 4*n, 3*4*n)
	}
	if s.Early() > 0 {
		t.Errorf("%d requests came before Retry-After had passed", s.Early())
	}
	for key, value := range shakyCache.values {
		noCanary(t, "the cache", string(value))
		var a, b kept
		if json.Unmarshal(value, &a) != nil || json.Unmarshal(cache.values[key], &b) != nil || string(a.Reply) != string(b.Reply) {
			t.Fatalf("the caches differ at %s", key)
		}
	}
	if len(shakyCache.values) != len(cache.values) {
		t.Errorf("%d and %d replies are kept", len(shakyCache.values), len(cache.values))
	}

	s.Set(nil)
	again, _ := newClient(t, s, func(o *Options) { o.Cache = shakyCache })
	got, errs = judgeAll(again, n)
	noErrors(t, errs)
	if !reflect.DeepEqual(got, want) || len(s.Requests()) != 0 {
		t.Errorf("the second time sent %d requests", len(s.Requests()))
	}
}

// Each fault by itself.
func TestEachFault(t *testing.T) {
	s := chattest.New(t)
	c, _ := newClient(t, s, func(o *Options) { o.Cache = nil })
	want, err := c.Score(t.Context(), requestOf(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range chattest.Passing() {
		s.Set(func(_ chattest.Request, nth int) chattest.Fault {
			if nth == 0 {
				return fault
			}
			return chattest.None
		})
		got, err := c.Score(t.Context(), requestOf(1))
		if err != nil || got != want {
			t.Errorf("fault %d: %+v, %v", fault, got, err)
		}
		if sent := s.Requests(); len(sent) < 2 {
			t.Errorf("fault %d: %d requests", fault, len(sent))
		} else if repaired := len(sent[len(sent)-1].Messages) == 4; repaired != (fault <= chattest.CutOff) {
			t.Errorf("fault %d: the question was repeated with %d messages", fault, len(sent[len(sent)-1].Messages))
		}
	}
}

// What cannot be had is said to be so, without the key and without a verdict.
func TestPersistentFaults(t *testing.T) {
	for _, c := range []struct {
		fault chattest.Fault
		is    error // nil: none of the named ones
		says  string
		calls int
	}{
		{chattest.Malformed, judge.ErrUnusable, "asked 4 times", 4},
		{chattest.OutOfRange, judge.ErrUnusable, "it is a whole number from 0 to 5", 4},
		{chattest.Refused, judge.ErrUnusable, "the model refused", 4},
		{chattest.Filtered, judge.ErrUnusable, "content_filter", 1},
		{chattest.Unauthorized, ErrRefused, "check judge.model, judge.base_url and the key", 1},
		{chattest.Broken, nil, "something broke", 3},
		{chattest.Gateway, nil, "status 502", 3},
		{chattest.Hang, ErrRefused, "no response within", 3},
		{chattest.Truncated, ErrRefused, "the last of 3 tries", 3},
	} {
		s := chattest.New(t)
		s.Set(func(chattest.Request, int) chattest.Fault { return c.fault })
		client, cache := newClient(t, s, func(o *Options) { o.Tries = 3 })
		_, err := client.Score(t.Context(), requestOf(1))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("fault %d: %v, want %q", c.fault, err, c.says)
			continue
		}
		for _, named := range []error{judge.ErrUnusable, ErrRefused, ErrBudget} {
			if errors.Is(err, named) != (named == c.is) {
				t.Errorf("fault %d: %v is %v: %v", c.fault, err, named, errors.Is(err, named))
			}
		}
		if got := client.o.Ledger.Spent().Calls; got != c.calls {
			t.Errorf("fault %d: %d calls, want %d", c.fault, got, c.calls)
		}
		if len(cache.values) != 0 {
			t.Errorf("fault %d: something is kept", c.fault)
		}
		noCanary(t, "an error", fmt.Sprintf("%v %+v %#v", err, err, err))
		noCanary(t, "the options", fmt.Sprintf("%v %+v %#v", client.o.Key, client.o.Key, client.o.Key))
		if sent := s.Requests(); sent[0].Authorization != "Bearer "+canary {
			t.Errorf("authorization %q", sent[0].Authorization)
		}
	}
}

// An endpoint that asks for too long a wait is not waited for, and one that
// asks for none is not hurried.
func TestRetryAfterIsBounded(t *testing.T) {
	s := chattest.New(t)
	s.Set(func(chattest.Request, int) chattest.Fault { return chattest.Limited })
	c, _ := newClient(t, s, func(o *Options) { o.MaxWait = 500 * time.Millisecond })
	if _, err := c.Score(t.Context(), requestOf(1)); err == nil || !strings.Contains(err.Error(), "asks to wait for 1s") {
		t.Errorf("got %v", err)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "0.5": 500 * time.Millisecond, "soon": 0, "-1": 0,
		"Wed, 01 Jan 2025 00:00:09 GMT": 9 * time.Second, "Wed, 01 Jan 2020 00:00:00 GMT": 0,
	} {
		if got := retryAfter(map[string][]string{"Retry-After": {value}}, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", value, got, want)
		}
	}
}

// An endpoint without structured output is found out once and asked without.
func TestFormatFallsBack(t *testing.T) {
	s := chattest.New(t)
	c, cache := newClient(t, s, nil)
	want, errs := judgeAll(c, 3)
	noErrors(t, errs)
	s.Set(func(chattest.Request, int) chattest.Fault { return chattest.NoSchema })
	plain, plainCache := newClient(t, s, nil)
	if _, err := plain.Score(t.Context(), requestOf(0)); err != nil {
		t.Fatal(err)
	}
	got, errs := judgeAll(plain, 3)
	noErrors(t, errs)
	if !reflect.DeepEqual(got, want) {
		t.Error("without structured output the results differ")
	}
	if n := len(s.Requests()); n != 3*4+2 {
		t.Errorf("%d requests, want two to find out", n)
	}
	for key := range plainCache.values {
		if cache.values[key] == nil {
			t.Error("the way of asking is part of the key")
		}
	}
}

// The budget holds with many requests side by side; what was answered before it
// was spent is kept, and a new one goes on from there.
func TestBudget(t *testing.T) {
	const n = 20
	s := chattest.New(t)
	perfect, _ := newClient(t, s, nil)
	want, errs := judgeAll(perfect, n)
	noErrors(t, errs)

	for name, b := range map[string]Budget{"calls": {Calls: 30}, "tokens": {Tokens: 6000}, "money": {Money: 0.004}} {
		t.Run(name, func(t *testing.T) {
			s.Set(nil)
			cache := &memory{}
			rounds := 0
			for {
				if rounds++; rounds > 30 {
					t.Fatal("the budget is never enough")
				}
				before := len(s.Requests())
				ledger := NewLedger(b, Prices{Prompt: 0.4, Completion: 1.6}, Spent{})
				c, _ := newClient(t, s, func(o *Options) { o.Cache, o.Ledger = cache, ledger })
				got, errs := judgeAll(c, n)
				spent := ledger.Spent()
				if why := b.exceeds(spent); why != "" {
					t.Fatalf("spent %+v: more than %s", spent, why)
				}
				if sent := len(s.Requests()) - before; sent != spent.Calls || spent.Tokens != 120*sent {
					t.Fatalf("%d requests, spent %+v", sent, spent)
				}
				stopped := false
				for _, err := range errs {
					if err != nil && !errors.Is(err, ErrBudget) {
						t.Fatal(err)
					}
					stopped = stopped || err != nil
				}
				if !stopped {
					if !reflect.DeepEqual(got, want) {
						t.Error("the results differ")
					}
					break
				}
				if spent.Calls == 0 {
					t.Fatal("a round without progress")
				}
			}
			if sent := len(s.Requests()); sent != 4*n || rounds < 2 {
				t.Errorf("%d requests for %d questions in %d rounds", sent, 4*n, rounds)
			}
		})
	}
	// What an attempt before has spent counts.
	c, _ := newClient(t, s, func(o *Options) { o.Ledger = NewLedger(Budget{Calls: 3}, Prices{}, Spent{Calls: 3}) })
	if _, err := c.Score(t.Context(), requestOf(1)); !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), "3 calls") {
		t.Errorf("got %v", err)
	}
}

// The gate lets no more through at a time than it may.
func TestConcurrency(t *testing.T) {
	s := chattest.New(t)
	var mu sync.Mutex
	now, most := 0, 0
	c, _ := newClient(t, s, func(o *Options) {
		o.Gate = NewGate(Limits{Concurrency: 2})
	})
	s.Set(func(chattest.Request, int) chattest.Fault {
		// Called under the server's lock: count those that are in the gate.
		mu.Lock()
		defer mu.Unlock()
		now = len(c.o.Gate.slots)
		most = max(most, now)
		return chattest.None
	})
	_, errs := judgeAll(c, 10)
	noErrors(t, errs)
	if most != 2 {
		t.Errorf("up to %d requests at a time, want 2", most)
	}
}

// A cancelled question ends at once with its cause, whatever it waits for.
func TestCancel(t *testing.T) {
	s := chattest.New(t)
	cause := errors.New("enough")
	for _, fault := range []chattest.Fault{chattest.Hang, chattest.Limited} {
		s.Set(func(chattest.Request, int) chattest.Fault { return fault })
		ctx, cancel := context.WithCancelCause(t.Context())
		c, _ := newClient(t, s, func(o *Options) { o.Timeout = time.Hour })
		time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		if _, err := c.Score(ctx, requestOf(1)); !errors.Is(err, cause) {
			t.Errorf("fault %d: %v", fault, err)
		}
	}
}

// What is asked: temperature 0, the schema, and the sample in its place.
func TestRequests(t *testing.T) {
	s := chattest.New(t)
	c, _ := newClient(t, s, nil)
	r := requestOf(2)
	if _, err := c.Label(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got := s.Requests()[0]
	if got.Model != "test" || got.Temperature == nil || *got.Temperature != 0 || got.MaxTokens != maxReply {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(string(got.Format), `"json_schema"`) || !strings.Contains(string(got.Format), `"strict":true`) {
		t.Errorf("format %s", got.Format)
	}
	user := got.Messages[1].Content
	for _, part := range []string{"Seeker: I lost 2 nights of sleep.", r.Response, r.Strategy.String()} {
		if !strings.Contains(user, part) {
			t.Errorf("%q is not in %s", part, user)
		}
	}
	if strings.Contains(got.Messages[0].Content+user, "{{") {
		t.Error("a placeholder is left")
	}
}
