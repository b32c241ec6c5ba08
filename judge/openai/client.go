// Package openai is the judge that asks a language model, at any endpoint that
// speaks the chat completions protocol: OpenAI's, vLLM's, Ollama's.
//
// A question is asked until its answer has the form that was asked for, within
// bounds; what was answered once is taken from the cache. Everything that can
// go wrong on the way (limits, faults of the network and the server, replies
// out of form) costs time and calls, but changes no result.
package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/prompts"
)

// Key is an API key. It prints as "***".
type Key string

func (k Key) String() string {
	if k == "" {
		return ""
	}
	return "***"
}

// GoString keeps the key out of %#v.
func (k Key) GoString() string { return `"` + k.String() + `"` }

// MarshalText keeps the key out of JSON and logs.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Options say whom to ask, how and within which bounds.
type Options struct {
	BaseURL     string  // such as https://api.openai.com/v1
	Model       string  // by the endpoint's name
	Key         Key     // empty: no authorization is sent
	Temperature float64 // 0: the likeliest reply
	Prompts     prompts.Set

	Cache  judge.Cache // nil: nothing is kept
	Gate   *Gate       // shared by all that ask the same endpoint; nil: one of its own, without limits
	Ledger *Ledger     // nil: no budget

	Timeout time.Duration // of one request, 0: two minutes
	Repairs int           // how often a reply out of form is asked for again
	Tries   int           // requests until one gets through, 0: eight
	Backoff time.Duration // before the second try, doubled from there on, 0: one second
	// MaxWait bounds a single wait, the endpoint's Retry-After included; a
	// longer one ends the request. 0: five minutes.
	MaxWait time.Duration

	// Replied is called after each request that got through; nil: nobody is told.
	Replied func()
}

// Client asks one model, by the joint protocol; Paper asks by the paper's. It is
// safe for concurrent use.
type Client struct {
	o      Options
	url    string
	http   *http.Client
	digest string // of the prompts
	flight singleflight.Group

	mu     sync.Mutex
	manner manner // in which the endpoint is known to answer
}

var _ judge.Judge = (*Client)(nil)

// New returns a client; it asks nothing yet.
func New(o Options) (*Client, error) {
	if o.Model == "" || o.BaseURL == "" {
		return nil, errors.New("openai judge: no model or no base URL")
	}
	if o.Gate == nil {
		o.Gate = NewGate(Limits{})
	}
	if o.Ledger == nil {
		o.Ledger = NewLedger(Budget{}, Prices{}, Spent{})
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Tries == 0 {
		o.Tries = 8
	}
	if o.Backoff == 0 {
		o.Backoff = time.Second
	}
	if o.MaxWait == 0 {
		o.MaxWait = 5 * time.Minute
	}
	if o.Replied == nil {
		o.Replied = func() {}
	}
	u, err := url.Parse(o.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("openai judge: base URL: %w", err)
	}
	return &Client{o: o, url: u.JoinPath("chat", "completions").String(), digest: o.Prompts.Digest(), http: &http.Client{
		Transport: o.Gate.transport,
		// A redirect would carry the dialogue to somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name is the model with the digest of its prompts.
func (c *Client) Name() string { return Name(c.o.Model, c.o.Prompts) }

// Name is how a judge that asks a model with these prompts is called.
func Name(model string, set prompts.Set) string {
	protocol := ""
	if set.Protocol() == prompts.Paper {
		protocol = "the paper's protocol, "
	}
	return fmt.Sprintf("%s (%sprompts %.8s)", model, protocol, set.Digest())
}

// Label implements judge.Judge. With a gold strategy in the request the
// strategies are compared, and the model is asked about the other classes alone.
func (c *Client) Label(ctx context.Context, r judge.Request) (judge.Verdict, error) {
	found, err := ask(ctx, c, errorsTask, map[string]string{
		"context": esc.Transcript(r.Context), "strategy": strategyName(r.Strategy), "response": r.Response,
	})
	if err != nil {
		return judge.Verdict{}, err
	}
	return verdict(found, r), nil
}

// Score implements judge.Judge.
func (c *Client) Score(ctx context.Context, r judge.Request) (judge.Scores, error) {
	return ask(ctx, c, scoresTask, map[string]string{
		"context": esc.Transcript(r.Context), "strategy": strategyName(r.Strategy), "response": r.Response,
	})
}

// Prefer implements judge.Judge.
func (c *Client) Prefer(ctx context.Context, pair judge.Comparison) (judge.Preference, error) {
	var p judge.Preference
	context := esc.Transcript(pair.Context)
	for i, order := range [2][2]string{{pair.First, pair.Second}, {pair.Second, pair.First}} {
		choice, err := ask(ctx, c, preferenceTask, map[string]string{"context": context, "first": order[0], "second": order[1]})
		if err != nil {
			return judge.Preference{}, err
		}
		share := choice.share
		if i == 1 {
			share = 1 - share
		}
		p.First += share / 2
		p.Reasons[i] = choice.reason
	}
	return p, nil
}
