package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/esclab/esclab/judge"
)

// ErrRefused: the endpoint does not serve requests like ours, and asking again
// would not help: a wrong key, an unknown model, an account without money.
var ErrRefused = errors.New("the judge's endpoint refuses")

// How a reply's form is asked for, from the strictest down. An endpoint that
// says it does not know one is asked by the next; the prompt describes the form
// in any case.
const (
	formatSchema int32 = iota // response_format json_schema
	formatObject              // response_format json_object
	formatPlain               // none
)

// reply is a response that got through. problem says why its content cannot
// count, "" where it may.
type reply struct {
	content, problem string
	tokens           int
}

// send puts messages to the model, and again where the endpoint or the network
// failed, until one gets through.
func (c *Client) send(ctx context.Context, q question, messages []message) (reply, error) {
	var last failure
	for try := 0; try < c.o.Tries; {
		if try > 0 {
			if err := c.pause(ctx, last, try); err != nil {
				return reply{}, err
			}
		}
		r, failed, err := c.try(ctx, q, messages)
		if err != nil {
			return reply{}, err
		}
		if failed == nil {
			c.o.Replied()
			return r, nil
		}
		switch {
		case failed.unfit: // this text alone
			return reply{}, fmt.Errorf("%w: %s", judge.ErrUnusable, failed)
		case failed.format && failed.asked < formatPlain:
			c.format.CompareAndSwap(failed.asked, failed.asked+1)
			continue
		case failed.renamed && c.renamed.CompareAndSwap(false, true):
			continue
		case failed.final:
			return reply{}, fmt.Errorf("%w: %s: check judge.model, judge.base_url and the key", ErrRefused, failed)
		}
		last = *failed
		try++
	}
	return reply{}, fmt.Errorf("openai judge: no reply from %s after %d tries, the last: %s", c.o.BaseURL, c.o.Tries, last)
}

// pause waits before another try: as long as the endpoint asks for, or a random
// share of a time that doubles, so that those who failed together do not come
// back together.
func (c *Client) pause(ctx context.Context, last failure, try int) error {
	ceiling := min(c.o.MaxWait, c.o.Backoff<<min(try-1, 16))
	wait := time.Duration(rand.Int64N(int64(ceiling) + 1))
	if last.after > 0 {
		if last.after > c.o.MaxWait {
			return fmt.Errorf("openai judge: %s asks to wait for %s: %s; run again then, what is done is kept", c.o.BaseURL, last.after, last)
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
func (c *Client) try(ctx context.Context, q question, messages []message) (reply, *failure, error) {
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

	format := c.format.Load()
	requestCtx, stop := context.WithTimeout(ctx, c.o.Timeout)
	defer stop()
	var response *http.Response
	completion, err := c.completions.New(requestCtx, c.params(q, messages, format), option.WithResponseInto(&response))
	if err == nil && len(completion.Choices) == 0 {
		err = errors.New("the response has no choice")
	}
	if err != nil {
		failed := c.failure(err, response)
		failed.asked = format
		if failed.status >= 400 {
			bill.settle(Usage{}) // what is refused is not charged
		} else {
			// Nobody knows what the endpoint did before the line broke.
			bill.settle(estimate)
		}
		if ctx.Err() != nil {
			return reply{}, nil, context.Cause(ctx)
		}
		return reply{}, failed, nil
	}
	first := completion.Choices[0]
	used := Usage{int(completion.Usage.PromptTokens), int(completion.Usage.CompletionTokens)}
	if used.Prompt <= 0 { // an endpoint that does not count
		used = Usage{estimate.Prompt, 1 + len(first.Message.Content)/4}
	}
	bill.settle(used)
	r := reply{content: c.redact(first.Message.Content), tokens: used.Prompt + used.Completion}
	switch {
	case first.Message.Refusal != "":
		r.problem = "the model refused: " + cut(c.redact(first.Message.Refusal), 160)
	case first.FinishReason == "length":
		r.problem = "it was cut off for its length; keep the reasons short"
	case first.FinishReason == "content_filter":
		r.problem = "it was cut off by the endpoint's content filter"
	}
	return r, nil, nil
}

func (c *Client) params(q question, messages []message, format int32) sdk.ChatCompletionNewParams {
	p := sdk.ChatCompletionNewParams{Model: q.Model, Temperature: param.NewOpt(q.Temperature)}
	for _, m := range messages {
		switch m.Role {
		case "system":
			p.Messages = append(p.Messages, sdk.SystemMessage(m.Content))
		case "assistant":
			p.Messages = append(p.Messages, sdk.AssistantMessage(m.Content))
		default:
			p.Messages = append(p.Messages, sdk.UserMessage(m.Content))
		}
	}
	if c.renamed.Load() {
		p.MaxCompletionTokens = param.NewOpt(int64(q.MaxTokens))
	} else {
		p.MaxTokens = param.NewOpt(int64(q.MaxTokens))
	}
	switch format {
	case formatSchema:
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
			Name: q.Task, Strict: param.NewOpt(true), Schema: q.Schema,
		}}
	case formatObject:
		p.ResponseFormat.OfJSONObject = &shared.ResponseFormatJSONObjectParam{}
	}
	return p
}

// failure is a request that did not get through. Its text holds no key.
type failure struct {
	text   string
	status int           // of the response, 0: there was none, or it was no error
	after  time.Duration // how long the endpoint asks to wait

	final   bool // trying again does not help
	unfit   bool // this text cannot be judged: too long, or filtered
	format  bool // the endpoint does not know the response format that was asked
	renamed bool // the endpoint wants max_completion_tokens

	asked int32 // the response format
}

func (f failure) String() string { return f.text }

// failure reads what went wrong. The SDK's error does not go on: it carries
// the request with its headers.
func (c *Client) failure(err error, response *http.Response) *failure {
	f := &failure{text: c.clean(err.Error())}
	if response != nil {
		f.status = response.StatusCode
	}
	if errors.Is(err, context.DeadlineExceeded) {
		f.text = fmt.Sprintf("no response within %s", c.o.Timeout)
	}
	if f.status < 300 {
		f.status = 0
		return f
	}
	message, code := "", ""
	var api *sdk.Error
	if errors.As(err, &api) {
		message, code = api.Message, api.Code
		if message == "" {
			message = api.RawJSON()
		}
	}
	f.text = c.clean(strings.TrimSpace(fmt.Sprintf("status %d %s %s %s", f.status, http.StatusText(f.status), code, message)))
	f.after = retryAfter(response.Header, time.Now())
	said := strings.ToLower(code + " " + message)
	mentions := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	switch s := f.status; {
	case s == http.StatusTooManyRequests:
		f.final = mentions("insufficient_quota")
	case s == http.StatusRequestTimeout, s == http.StatusConflict, s == http.StatusTooEarly, s >= 500:
	case mentions("content_filter", "content management policy", "context_length_exceeded", "maximum context length"):
		f.unfit = true
	case (s == http.StatusBadRequest || s == http.StatusUnprocessableEntity) && mentions("max_completion_tokens"):
		f.renamed, f.final = true, true
	case (s == http.StatusBadRequest || s == http.StatusUnprocessableEntity) && mentions("response_format", "json_schema", "json_object", "guided", "structured output"):
		f.format, f.final = true, true
	default:
		f.final = true
	}
	return f
}

// retryAfter reads how long an endpoint asks to wait: in milliseconds, in
// seconds, or until a date (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms, 1e10) * float64(time.Millisecond))
	}
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 1e7) * float64(time.Second))
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
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

// boundedTransport refuses bodies that do not end.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err == nil {
		response.Body = &boundedBody{response.Body, maxBody}
	}
	return response, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the response has more than %d bytes", maxBody)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
