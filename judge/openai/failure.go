package openai

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what can be done about a failure.
type kind int

const (
	// The same request may get through next, and where none does, the stage is
	// tried again later.
	passing kind = iota
	// So may this one; but whoever fails in this way each time is not going to
	// change, and the stage ends.
	lasting
	unreached // the same, and there is nobody at the address
	final     // asking again does not help
	unfit     // this text cannot be judged: too long, or filtered
	notJSON   // the endpoint has thrown the model's reply away: it was not in the format
	// The endpoint wants to be asked in another manner.
	noFormat
	noMaxTokens
	noSystem
)

// failure is a request that did not get through. Its text holds no key.
type failure struct {
	kind   kind
	text   string
	remedy string
	after  time.Duration // how long the endpoint asks to wait
	free   bool          // nothing was computed, so nothing is charged
	asked  manner
}

func (f failure) String() string { return f.text }

// refusal is the error that ends the stage.
func (f failure) refusal() error {
	return fmt.Errorf("%w: %s: %s", ErrRefused, f.text, cmp.Or(f.remedy, "check judge.model, judge.base_url and the key"))
}

// broken reads why there is no response.
func (c *Client) broken(err error) *failure {
	var sent *url.Error
	if errors.As(err, &sent) {
		err = sent.Err // without the address, which every error names
	}
	f := &failure{text: c.clean(err.Error())}
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.text = fmt.Sprintf("no response within %s", c.o.Timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.text = "the connection broke off"
	case errors.As(err, &certificate):
		f.kind, f.remedy, f.free = final, "have the certificate's authority installed on this machine, or correct judge.base_url", true
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		f.text = "the server does not speak TLS"
		f.kind, f.remedy, f.free = final, "give judge.base_url as http://, or correct its port", true
	case errors.As(err, &name), errors.As(err, &op) && op.Op == "dial":
		f.kind, f.remedy, f.free = unreached, "start the server, or correct judge.base_url, and run again: what is answered is kept", true
	}
	switch answered := c.o.Gate.answered.Load(); {
	case answered && f.kind == unreached:
		f.kind = passing // it was there: it is waited for
	case !answered && f.kind == passing:
		f.kind, f.remedy = lasting, "see the server's log, or correct judge.base_url or judge.timeout_seconds"
	}
	return f
}

// longestWait is how long a stage is tried again for an endpoint that asks to
// wait; a longer wait ends it, and is said.
const longestWait = time.Hour

// read takes the completion out of a response, or what is said instead of one.
func (c *Client) read(response *http.Response, body []byte, asked manner) (completion, *failure) {
	var answer completion
	status := response.StatusCode
	if status >= 300 && status < 400 {
		return answer, &failure{kind: final, free: true, remedy: "give the address of the API itself as judge.base_url",
			text: c.clean(fmt.Sprintf("status %d, a redirect to %q", status, response.Header.Get("Location")))}
	}
	if status >= 400 {
		said := explain(body)
		after := retryAfter(response.Header, time.Now())
		f := classify(status, said, after, asked)
		f.free, f.after = true, after
		f.text = c.clean(fmt.Sprintf("status %d %s %s", status, http.StatusText(status), said))
		if f.kind == passing && f.after > 0 {
			f.text += fmt.Sprintf("; it asks to wait for %s", f.after)
			if f.after > longestWait {
				f.kind, f.remedy = final, "run again then: what is answered is kept"
			}
		}
		return answer, f
	}
	err := json.Unmarshal(body, &answer)
	if err == nil && len(answer.Choices) > 0 && answer.Choices[0].Error == nil {
		return answer, nil
	}
	f := &failure{kind: lasting, asked: asked, text: fmt.Sprintf("status %d without a choice: %s", status, c.clean(string(body)))}
	text := strings.TrimSpace(string(body))
	isAPI := "is judge.base_url the API's address, such as https://api.openai.com/v1?"
	switch said := explain(body); {
	case text == "":
		f.text, f.remedy = fmt.Sprintf("status %d and an empty response", status), isAPI
	case text[0] != '{' && text[0] != '[':
		what := "no JSON"
		if text[0] == '<' {
			what = "a page of HTML"
		} else if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") || strings.HasPrefix(text, "data:") || strings.HasPrefix(text, "event:") {
			what = "a stream of server-sent events, which was not asked for"
		}
		f.kind, f.remedy = final, isAPI
		f.text = fmt.Sprintf("status %d with %s: %s", status, what, c.clean(said.message))
	case said.failed:
		f = classify(said.status, said, 0, asked)
		f.text = c.clean(fmt.Sprintf("status %d with an error: %s", status, said))
	}
	return answer, f
}

// What endpoints say, in lower case. Each list is of one meaning.
var (
	saysTooLong = []string{"context_length", "context length", "context_window", "context window", "context size", "context_size",
		"too many tokens", "token count", "maximum number of tokens", "prompt is too long", "prompt too long", "input is too long", "input length",
		"maximum model length", "max_new_tokens", "reduce the length", "request too large", "string_above_max_length"}
	saysFiltered = []string{"content_filter", "content filter", "content management policy", "content_policy", "usage policy", "data_inspection", "datainspection",
		"content exists risk", "flagged", "moderation", "prohibited_content"}
	saysNotJSON  = []string{"json_validate_failed", "failed to generate json", "failed_generation", "failed to validate json"}
	saysNoFormat = []string{"response_format", "response format", "responseformat", "response_schema", "responseschema", "json_schema", "json schema",
		"json_object", "json mode", "json_mode", "guided", "structured output", "structured_output", "structured-output", "grammar", "outlines"}
	saysNoSystem = []string{"system role", "role system", "role: system", "'system'", `"system"`, "system message", "system prompt", "system instruction",
		"developer instruction", "roles must alternate", "only user and assistant roles", "messages[0].role"}
	saysUnknown = []string{"unsupported", "not supported", "unrecognized", "unknown", "unexpected", "not permitted", "extra_forbidden", "deprecated", "not allowed"}
	saysBroke   = []string{"insufficient_quota", "insufficient balance", "insufficient_balance", "insufficient credit", "insufficient_credit", "credit balance is too low"}
	saysDaily   = []string{"per-day", "per day", "perday", "daily"}
)

// classify says what can be done about what an endpoint says, and about a
// status, which is 0 where the words alone are there.
func classify(status int, said explanation, after time.Duration, asked manner) *failure {
	f := &failure{asked: asked, kind: final}
	words := strings.ToLower(said.String())
	mentions := func(list ...string) bool {
		return slices.ContainsFunc(list, func(w string) bool { return strings.Contains(words, w) })
	}
	switch {
	case mentions(saysBroke...):
		f.remedy = "put money on the account, or take another judge"
	case status == http.StatusTooManyRequests && after == 0 && mentions(saysDaily...):
		f.remedy = "run again when the day's allowance is renewed: what is answered is kept"
	case status == http.StatusTooManyRequests && !mentions("request too large"):
		f.kind = passing
	case status == http.StatusUnauthorized:
	case mentions(saysTooLong...), mentions(saysFiltered...) && status < 500, status == http.StatusRequestEntityTooLarge:
		f.kind = unfit
	case asked.format < formatPlain && mentions(saysNotJSON...):
		f.kind = notJSON
	case !asked.renamed && (mentions("max_completion_tokens") || mentions("max_tokens") && mentions(saysUnknown...)):
		f.kind = noMaxTokens
	case asked.format < formatPlain && mentions(saysNoFormat...):
		f.kind = noFormat
	case !asked.merged && mentions(saysNoSystem...):
		f.kind = noSystem
	case status == 0:
		f.kind = lasting
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status >= 500:
		f.kind = passing
	case mentions("temperature"):
		f.remedy = "set judge.temperature to what the model takes"
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
