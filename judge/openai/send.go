package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/esclab/esclab/judge"
)

// ErrRefused: the endpoint does not serve requests like ours, and asking again
// would not help: a wrong key, an unknown model, an account without money, an
// address at which nothing speaks the protocol.
var ErrRefused = errors.New("the judge's endpoint refuses")

// How a reply's form is asked for, from the strictest down. An endpoint that
// says it does not know one is asked by the next; the prompt describes the form
// in any case.
type format int

const (
	formatSchema format = iota // response_format json_schema
	formatObject               // response_format json_object
	formatPlain                // none
)

// manner is how questions are sent: what endpoints differ in. It changes no
// question, and is found out as they refuse.
type manner struct {
	format  format
	renamed bool // the limit of the reply is called max_completion_tokens
	merged  bool // the system's text stands before the user's: there is no such role
}

// request is the body of a request of the chat completions protocol.
type request struct {
	Model               string    `json:"model"`
	Messages            []message `json:"messages"`
	Temperature         float64   `json:"temperature"`
	MaxTokens           int       `json:"max_tokens,omitempty"`
	MaxCompletionTokens int       `json:"max_completion_tokens,omitempty"`
	ResponseFormat      any       `json:"response_format,omitempty"`
}

func (m manner) request(q question, messages []message) request {
	r := request{Model: q.Model, Messages: messages, Temperature: q.Temperature}
	if m.merged && len(messages) > 1 && messages[0].Role == "system" {
		first := message{messages[1].Role, messages[0].Content + "\n\n" + messages[1].Content}
		r.Messages = append([]message{first}, messages[2:]...)
	}
	if m.renamed {
		r.MaxCompletionTokens = q.MaxTokens
	} else {
		r.MaxTokens = q.MaxTokens
	}
	switch m.format {
	case formatSchema:
		r.ResponseFormat = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": q.Task, "strict": true, "schema": q.Schema}}
	case formatObject:
		r.ResponseFormat = map[string]any{"type": "json_object"}
	}
	return r
}

// adapt learns from a refusal how to ask, and says whether it was one of that
// kind. Requests side by side are refused for the same reason, each in the
// manner in which it was sent itself.
func (c *Client) adapt(f *failure) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.kind {
	case noFormat:
		c.manner.format = max(c.manner.format, f.asked.format+1)
	case noMaxTokens:
		c.manner.renamed = true
	case noSystem:
		c.manner.merged = true
	default:
		return false
	}
	return true
}

// lonelyTries bounds the tries at an address that has never been reached: it is
// more likely wrong than its server away.
const lonelyTries = 4

// send puts messages to the model, and again where the endpoint or the network
// failed, until one gets through.
func (c *Client) send(ctx context.Context, q question, messages []message) (reply, error) {
	var last failure
	loosest := formatSchema // what this question has come down to
	try, tries := 0, c.o.Tries
	for try < tries {
		if try > 0 {
			if err := c.pause(ctx, last, try); err != nil {
				return reply{}, err
			}
		}
		c.mu.Lock()
		asked := c.manner
		c.mu.Unlock()
		asked.format = max(asked.format, loosest)
		r, failed, err := c.try(ctx, q, messages, asked)
		if err != nil {
			return reply{}, err
		}
		if failed == nil {
			c.o.Gate.answered.Store(true)
			c.o.Replied()
			return r, nil
		}
		switch {
		case failed.kind == unfit:
			return reply{}, fmt.Errorf("%w: %s", judge.ErrUnusable, failed)
		case failed.kind == notJSON: // of this text alone
			loosest = asked.format + 1
			continue
		case c.adapt(failed):
			continue
		case failed.kind == final:
			return reply{}, failed.refusal()
		case failed.kind == unreached:
			tries = min(tries, lonelyTries)
		}
		last = *failed
		try++
	}
	last.text = fmt.Sprintf("%s (the last of %d tries at %s)", last.text, try, c.o.BaseURL)
	if last.kind != passing {
		return reply{}, last.refusal()
	}
	return reply{}, fmt.Errorf("openai judge: %s", last.text)
}

// pause waits before another try: as long as the endpoint asks for, or a random
// share of a time that doubles, so that those who failed together do not come
// back together.
func (c *Client) pause(ctx context.Context, last failure, try int) error {
	ceiling := min(c.o.MaxWait, c.o.Backoff<<min(try-1, 16))
	wait := time.Duration(rand.Int64N(int64(ceiling) + 1))
	if last.after > 0 {
		if last.after > c.o.MaxWait {
			return fmt.Errorf("openai judge: %s; what is answered is kept", last.text)
		}
		wait = last.after + time.Duration(rand.Int64N(int64(c.o.Backoff)+1))
		c.o.Gate.Pause(last.after)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// try sends one request. A failure may be tried again, an error may not.
func (c *Client) try(ctx context.Context, q question, messages []message, asked manner) (reply, *failure, error) {
	estimate := Usage{Prompt: promptTokens(messages), Completion: q.MaxTokens}
	bill, err := c.o.Ledger.reserve(ctx, estimate)
	if err != nil {
		return reply{}, nil, err
	}
	leave, err := c.o.Gate.enter(ctx, estimate.Prompt+estimate.Completion)
	if err != nil {
		bill.cancel()
		return reply{}, nil, err
	}
	defer leave()

	requestCtx, stop := context.WithTimeout(ctx, c.o.Timeout)
	defer stop()
	answer, failed := c.post(requestCtx, asked, asked.request(q, messages))
	if failed != nil {
		if failed.free {
			bill.settle(Usage{})
		} else {
			// Nobody knows what the endpoint did before the line broke.
			bill.settle(estimate)
		}
		if ctx.Err() != nil {
			return reply{}, nil, context.Cause(ctx)
		}
		return reply{}, failed, nil
	}
	r := c.reply(answer.Choices[0], q.MaxTokens)
	used := Usage{answer.Usage.PromptTokens, answer.Usage.CompletionTokens}
	if used.Prompt <= 0 { // an endpoint that does not count
		used = Usage{estimate.Prompt, 1 + len(r.content)/4}
	}
	bill.settle(used)
	r.tokens = used.Prompt + used.Completion
	return r, nil, nil
}

// post sends a request and reads the response.
func (c *Client) post(ctx context.Context, asked manner, r request) (completion, *failure) {
	var none completion
	data, err := json.Marshal(r)
	if err != nil {
		return none, c.broken(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(data))
	if err != nil {
		return none, c.broken(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if c.o.Key != "" {
		request.Header.Set("Authorization", "Bearer "+string(c.o.Key))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return none, c.broken(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return none, c.broken(err)
	case len(body) > maxBody:
		return none, &failure{kind: lasting, text: fmt.Sprintf("the response has more than %d bytes", maxBody)}
	}
	return c.read(response, body, asked)
}

// promptTokens is a cautious count: English has more than three bytes a token.
func promptTokens(messages []message) int {
	n := 0
	for _, m := range messages {
		n += 8 + len(m.Content)/3
	}
	return n
}

// redact takes the key out of what an endpoint says.
func (c *Client) redact(s string) string {
	if c.o.Key == "" {
		return s
	}
	return strings.ReplaceAll(s, string(c.o.Key), c.o.Key.String())
}

// clean makes a short line of what may go into errors and logs.
func (c *Client) clean(s string) string {
	return cut(strings.Join(strings.Fields(c.redact(s)), " "), 300)
}
