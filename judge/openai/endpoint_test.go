package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
)

// inside is what belongs to the program: Go's types and its packages' prefixes.
var inside = regexp.MustCompile(`Go value|json:|net/http|\bopenai\.[a-z]+[ ,]|map\[|\[\]byte|interface|struct|%!|EOF`)

// wellSaid fails where a text shows the program's inside, or is no line.
func wellSaid(t *testing.T, text string) {
	t.Helper()
	if found := inside.FindString(text); found != "" || strings.Contains(text, "\n") {
		t.Errorf("%q shows %q, or more than one line", text, found)
	}
}

func refusal(status int, body string) *chattest.Response {
	return &chattest.Response{Status: status, Body: body}
}

// asksFor says whether a request has a response_format of a type.
func asksFor(r chattest.Request, kind string) bool { return strings.Contains(string(r.Format), kind) }

// Endpoints that know less of the protocol are asked in another manner, and
// answer the same. Many requests are under way when the first is refused.
func TestManners(t *testing.T) {
	const n = 4
	s := chattest.New(t)
	perfect, _ := newClient(t, s, nil)
	want, errs := judgeAll(perfect, n)
	noErrors(t, errs)

	constrained := func(status int, body string) func(chattest.Request) *chattest.Response {
		return func(r chattest.Request) *chattest.Response {
			if len(r.Format) > 0 {
				return refusal(status, body)
			}
			return nil
		}
	}
	roles := func(status int, body string) func(chattest.Request) *chattest.Response {
		return func(r chattest.Request) *chattest.Response {
			if r.Messages[0].Role == "system" {
				return refusal(status, body)
			}
			return nil
		}
	}
	limit := func(status int, body string) func(chattest.Request) *chattest.Response {
		return func(r chattest.Request) *chattest.Response {
			if r.MaxTokens > 0 {
				return refusal(status, body)
			}
			if r.MaxCompletionTokens != maxReply {
				return refusal(400, `{"error":{"message":"no limit"}}`)
			}
			return nil
		}
	}
	manners := map[string]func(chattest.Request) *chattest.Response{
		"limit renamed, OpenAI": limit(400, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`),
		"limit renamed, flat":   limit(422, `{"detail":[{"type":"extra_forbidden","loc":["body","max_tokens"],"msg":"Extra inputs are not permitted","input":1024}]}`),
		"no system, flat":       roles(400, `{"object":"error","message":"System role not supported","type":"BadRequestError","param":null,"code":400}`),
		"no system, template":   roles(500, `{"error":{"code":500,"message":"Conversation roles must alternate user/assistant/user/assistant/...","type":"server_error"}}`),
		"no system, o1":         roles(400, `{"error":{"message":"Unsupported value: 'messages[0].role' does not support 'system' with this model.","type":"invalid_request_error","param":"messages[0].role","code":"unsupported_value"}}`),
		"no system, list":       roles(400, `[{"error":{"code":400,"message":"Developer instruction is not enabled for this model","status":"INVALID_ARGUMENT"}}]`),
		"no format, FastAPI":    constrained(422, `{"detail":[{"type":"extra_forbidden","loc":["body","response_format"],"msg":"Extra inputs are not permitted","input":{"messages":"max_tokens context length"}}]}`),
		"no format, nested":     constrained(422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","response_format"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","code":null}`),
		"no format, in text":    constrained(422, `{"object":"error","message":"{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"response_format\",\"json_schema\"],\"msg\":\"Extra inputs are not permitted\"}]}","code":"1000"}`),
		"no format, string":     constrained(400, `{"error":"'response_format.type' must be 'text'"}`),
		"no format, grammar":    constrained(400, `{"error":{"code":400,"message":"Failed to initialize samplers: failed to parse grammar","type":"invalid_request_error"}}`),
		"no format, broken":     constrained(500, `{"error":{"message":"guided decoding backend failed to compile","type":"internal_server_error"}}`),
		"no format, in a 200":   constrained(200, `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"Unknown name additionalProperties at generation_config.response_schema\"}}"}}}`),
		"no format, of choice":  constrained(200, `{"choices":[{"index":0,"finish_reason":"error","message":{"role":"assistant","content":""},"error":{"code":400,"message":"structured outputs are not available"}}]}`),
		"no schema": func(r chattest.Request) *chattest.Response {
			if asksFor(r, "json_schema") {
				return refusal(400, `{"error":{"message":"This response_format type is unavailable now","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}`)
			}
			return nil
		},
		// Each text's reply, not the endpoint: the next text is asked by the schema again.
		"reply thrown away": func(r chattest.Request) *chattest.Response {
			if asksFor(r, "json_schema") {
				return refusal(400, `{"error":{"message":"Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.","type":"invalid_request_error","code":"json_validate_failed","failed_generation":"x"}}`)
			}
			return nil
		},
	}
	manners["all of them"] = func(r chattest.Request) *chattest.Response {
		for _, name := range []string{"limit renamed, OpenAI", "no system, flat", "no format, string"} {
			if response := manners[name](r); response != nil {
				return response
			}
		}
		return nil
	}
	for name, respond := range manners {
		t.Run(name, func(t *testing.T) {
			s.Respond(func(r chattest.Request, _ string) *chattest.Response { return respond(r) })
			c, cache := newClient(t, s, func(o *Options) { o.Tries = 1 })
			got, errs := judgeAll(c, n)
			noErrors(t, errs)
			if !reflect.DeepEqual(got, want) {
				t.Error("the manner changed a result")
			}
			if len(cache.values) != 4*n {
				t.Errorf("%d replies are kept, want %d", len(cache.values), 4*n)
			}
			// One after the other, nothing more is refused; but of a text.
			before := len(s.Requests())
			if _, err := c.Score(t.Context(), requestOf(n)); err != nil {
				t.Fatal(err)
			}
			more := 1
			if name == "reply thrown away" {
				more = 2
			}
			if sent := len(s.Requests()) - before; sent != more {
				t.Errorf("%d requests for another question, want %d", sent, more)
			}
		})
	}
}

// Replies are read however a model wraps its JSON object, without asking again.
func TestRepliesAreRead(t *testing.T) {
	s := chattest.New(t)
	c, _ := newClient(t, s, func(o *Options) { o.Cache = nil })
	want, errs := judgeAll(c, 1)
	noErrors(t, errs)
	around := func(before, after string) func(string) any {
		return func(good string) any { return before + good + after }
	}
	for name, wrap := range map[string]func(good string) any{
		"fence":                   around("```json\n", "\n```"),
		"fence in capitals":       around("```JSON\n", "\n```"),
		"fence of another kind":   around("~~~Json5\r\n", "\r\n~~~\r\n"),
		"fence that is not ended": around("```json\n", "\n"),
		"prose":                   around("Here is my evaluation: ", "\nLet me know if {anything} is unclear."),
		"prose and a fence":       around("Here is my evaluation:\n\n```json\n", "\n```\nI hope this {helps}!"),
		"braces before":           around("The form {reason, score} is: ", ""),
		"byte order mark":         around("\ufeff", ""),
		"thoughts":                around("<think>\nThey want {\"reason\": \"x\"}. {\"fluency\": 3}\n</think>\n\n", ""),
		"thoughts without begin":  around("Let me see, {\"a\": 1} maybe.\n</think>\n", ""),
		"thoughts in capitals":    around("<THINKING>{}</THINKING>", ""),
		"thoughts of Magistral":   around("[THINK]{\"a\":{}}[/THINK]", ""),
		"thoughts of gpt-oss":     around("<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>", ""),
		"said twice":              func(good string) any { return good + "\n\nFinal answer:\n" + good },
		"in a list":               around("[", "]"),
		"as parts": func(good string) any {
			return []any{map[string]any{"type": "thinking", "thinking": []any{map[string]any{"type": "text", "text": "{}"}}}, map[string]any{"type": "text", "text": good}}
		},
		"numbers quoted": func(good string) any {
			return regexp.MustCompile(`("score"|"degree"):(\d)`).ReplaceAllString(good, `$1:"$2"`)
		},
		"keys in capitals": func(good string) any {
			return strings.NewReplacer(`"reason"`, `"Reason"`, `"score"`, `"SCORE"`, `"fluency"`, `"Fluency"`).Replace(good)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.Respond(func(_ chattest.Request, good string) *chattest.Response {
				content, _ := json.Marshal(wrap(good))
				return chattest.Completion(`{"role":"assistant","content":`+string(content)+`}`, `"stop"`)
			})
			got, errs := judgeAll(c, 1)
			noErrors(t, errs)
			if sent := len(s.Requests()); sent != 4 {
				t.Errorf("%d requests for 4 questions", sent)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("read %+v, want %+v", got, want)
			}
		})
	}
}

// What is no answer is told to the model and, in the end, to the user in words
// of the reply, not of the program.
func TestRepliesAreRefused(t *testing.T) {
	long := func(score string) string {
		return fmt.Sprintf(`{"fluency":{"reason":"x","score":%s},"professionalism":{"reason":"x","score":3},"empathy":{"reason":"x","score":3},"helpfulness":{"reason":"x","score":3}}`, score)
	}
	content := func(s string) string {
		data, _ := json.Marshal(s)
		return `{"role":"assistant","content":` + string(data) + `}`
	}
	s := chattest.New(t)
	for _, c := range []struct{ name, message, finish, says string }{
		{"empty", `{"role":"assistant","content":""}`, `"stop"`, "the reply is empty (finish_reason stop)"},
		{"null beside thoughts", `{"role":"assistant","content":null,"reasoning_content":GOOD}`, `"stop"`, "the reply is empty (finish_reason stop); a reasoning model?"},
		{"white space beside thoughts", `{"role":"assistant","content":"\n\n","reasoning":GOOD}`, `"length"`, "the reply is empty (finish_reason length); a reasoning model?"},
		{"no content", `{"role":"assistant"}`, `null`, "the reply is empty"},
		{"thoughts alone", content("<think>Let me see. " + long("3") + " would be"), `"stop"`, "ends while the model is thinking"},
		{"thoughts cut off", content("<think>Let me"), `"length"`, "while the model was thinking"},
		{"cut off", content(`{"fluency":{"reason":"a sen`), `"length"`, "cut off for its length"},
		{"ends in the middle", content(`{"fluency":{"reason":"x","score":3},"profess`), `"stop"`, "it ends in the middle"},
		{"prose", content("Four out of five."), `"stop"`, "there is none"},
		{"broken", content(`{fluency: 3}`), `"stop"`, "invalid character"},
		{"two objects", content(long("3") + "\nOr rather:\n" + long("4")), `"stop"`, "several different JSON objects"},
		{"text for an object", content(strings.Replace(long("3"), `{"reason":"x","score":3}`, `"good"`, 1)), `"stop"`, `fluency is "good"; it is an object`},
		{"a word for a number", content(long(`"high"`)), `"stop"`, `fluency.score is "high"; it is a whole number from 0 to 5`},
		{"a fraction", content(long(`3.5`)), `"stop"`, `fluency.score is 3.5; it is`},
		{"out of range", content(long(`6`)), `"stop"`, `fluency.score is 6; it is`},
		{"a list for a number", content(long(`[3]`)), `"stop"`, `fluency.score is [3]; it is`},
		{"a number for a reason", content(strings.Replace(long("3"), `"x"`, `7`, 1)), `"stop"`, `fluency.reason is 7; it is text`},
		{"null", content(long(`null`)), `"stop"`, `fluency.score is missing`},
		{"another key", content(strings.Replace(long("3"), `"reason"`, `"why":"x","reason"`, 1)), `"stop"`, `fluency has keys besides reason, score`},
		{"a key twice", content(strings.Replace(long("3"), `"reason"`, `"Reason":"y","reason"`, 1)), `"stop"`, `fluency.reason is there twice`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Respond(func(chattest.Request, string) *chattest.Response { return chattest.Completion(c.message, c.finish) })
			client, _ := newClient(t, s, func(o *Options) { o.Repairs = 1 })
			_, err := client.Score(t.Context(), requestOf(1))
			if !errors.Is(err, judge.ErrUnusable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want that %q", err, c.says)
			}
			wellSaid(t, fmt.Sprint(err))
			sent := s.Requests()
			if len(sent) != 2 || !strings.Contains(sent[1].Messages[3].Content, c.says) {
				t.Fatalf("%d requests; the model has to be told that %q", len(sent), c.says)
			}
			wellSaid(t, sent[1].Messages[3].Content)
		})
	}
}

// What an endpoint says reaches the user, whatever its layout, and tells apart
// what concerns one text, what asking again mends and what it does not.
func TestEndpointErrors(t *testing.T) {
	day := time.Now().Add(26 * time.Hour).UTC().Format(http.TimeFormat)
	html := map[string]string{"Content-Type": "text/html; charset=utf-8"}
	s := chattest.New(t)
	for _, c := range []struct {
		name     string
		response chattest.Response
		is       error // nil: the stage is tried again
		says     string
		sent     int
	}{
		{"flat", chattest.Response{Status: 400, Body: `{"object":"error","message":"The model gpt-9 does not exist.","type":"NotFoundError","code":404}`}, ErrRefused, "The model gpt-9 does not exist.", 1},
		{"detail as text", chattest.Response{Status: 403, Body: `{"detail":"Not enough permissions"}`}, ErrRefused, "Not enough permissions", 1},
		{"detail as a list", chattest.Response{Status: 422, Body: `{"detail":[{"loc":["body","model"],"msg":"field required","type":"missing","input":{"x":"context length"}}]}`}, ErrRefused, "body.model: field required", 1},
		{"error as text", chattest.Response{Status: 400, Body: `{"error":"model 'x' not loaded"}`}, ErrRefused, "model 'x' not loaded", 1},
		{"list", chattest.Response{Status: 400, Body: `[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]`}, ErrRefused, "API key not valid.", 1},
		{"capitals", chattest.Response{Status: 403, Body: `{"Message":"User is not authorized"}`}, ErrRefused, "User is not authorized", 1},
		{"plain text", chattest.Response{Status: 404, Body: "404 page not found"}, ErrRefused, "404 page not found", 1},
		{"page", chattest.Response{Status: 404, Header: html, Body: "<html><head><style>a{}</style></head><body><h1>Not here</h1></body></html>"}, ErrRefused, "Not Found Not here", 1},
		{"unknown keys", chattest.Response{Status: 400, Body: `{"fault":{"faultstring":"Invalid ApiKey"}}`}, ErrRefused, "Invalid ApiKey", 1},
		{"redirect", chattest.Response{Status: 302, Header: map[string]string{"Location": "https://login.example/"}}, ErrRefused, "https://login.example/", 1},
		{"temperature", chattest.Response{Status: 400, Body: `{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","param":"temperature","code":"unsupported_value"}}`}, ErrRefused, "set judge.temperature", 1},
		{"no money", chattest.Response{Status: 402, Body: `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`}, ErrRefused, "put money on the account", 1},
		{"no quota", chattest.Response{Status: 429, Body: `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`}, ErrRefused, "exceeded your current quota", 1},

		{"too long", chattest.Response{Status: 400, Body: `{"error":{"message":"This model's maximum context length is 512 tokens.","code":"context_length_exceeded"}}`}, judge.ErrUnusable, "maximum context length is 512", 1},
		{"too long, llama.cpp", chattest.Response{Status: 500, Body: `{"error":{"code":500,"message":"the request exceeds the available context size.","type":"exceed_context_size_error","n_ctx":256}}`}, judge.ErrUnusable, "available context size", 1},
		{"too long, Gemini", chattest.Response{Status: 400, Body: `[{"error":{"code":400,"message":"The input token count (582632) exceeds the maximum number of tokens allowed (131072).","status":"INVALID_ARGUMENT"}}]`}, judge.ErrUnusable, "input token count", 1},
		{"too long, in a 200", chattest.Response{Body: `{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}`}, judge.ErrUnusable, "context length of only 4096", 1},
		{"too long for the limit", chattest.Response{Status: 429, Body: `{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 900, Requested 1200.","code":"rate_limit_exceeded"}}`}, judge.ErrUnusable, "Request too large", 1},
		{"filtered", chattest.Response{Status: 400, Body: `{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content.","type":"data_inspection_failed"}}`}, judge.ErrUnusable, "inappropriate content", 1},

		{"busy", chattest.Response{Status: 503, Body: `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`}, nil, "Loading model", 3},
		{"busy, in a 200", chattest.Response{Body: `{"id":"x","choices":null,"error":{"message":"ResourceExhausted: 16 workers","code":429}}`}, nil, "ResourceExhausted", 3},
		{"in a minute", chattest.Response{Status: 429, Header: map[string]string{"Retry-After": "60"}, Body: `{"error":{"message":"requests per day (RPD)"}}`}, nil, "it asks to wait for 1m0s", 1},
		{"in a day", chattest.Response{Status: 429, Header: map[string]string{"Retry-After": "86400"}, Body: `{"error":{"message":"slow down"}}`}, ErrRefused, "it asks to wait for 24h0m0s", 1},
		{"on a date", chattest.Response{Status: 503, Header: map[string]string{"Retry-After": day}}, ErrRefused, "it asks to wait for 25h59m", 1},
		{"in milliseconds", chattest.Response{Status: 429, Header: map[string]string{"Retry-After-Ms": "86400000"}}, ErrRefused, "it asks to wait for 24h0m0s", 1},
		{"the day's allowance", chattest.Response{Status: 429, Body: `{"error":{"message":"Rate limit exceeded: free-models-per-day.","code":429}}`}, ErrRefused, "run again when", 1},

		{"a page for an answer", chattest.Response{Header: html, Body: "<html>login</html>"}, ErrRefused, "is judge.base_url the API's address", 1},
		{"events for an answer", chattest.Response{Header: map[string]string{"Content-Type": "text/event-stream"}, Body: "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"}, ErrRefused, "server-sent events", 1},
		{"text for an answer", chattest.Response{Body: "Ollama is running"}, ErrRefused, "no JSON: Ollama is running", 1},
		{"nothing for an answer", chattest.Response{}, ErrRefused, "an empty response", 3},
		{"something else for an answer", chattest.Response{Body: `{"models":[]}`}, ErrRefused, "without a choice", 3},
		{"an odd answer", chattest.Response{Body: `{"choices":"none"}`}, ErrRefused, "without a choice", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Respond(func(chattest.Request, string) *chattest.Response { return &c.response })
			client, cache := newClient(t, s, func(o *Options) { o.Tries, o.MaxWait = 3, 30*time.Second })
			_, err := client.Score(t.Context(), requestOf(1))
			for _, named := range []error{judge.ErrUnusable, ErrRefused, ErrBudget} {
				if errors.Is(err, named) != (named == c.is) {
					t.Errorf("%v is %v: %v", err, named, errors.Is(err, named))
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want that %q", err, c.says)
			}
			wellSaid(t, fmt.Sprint(err))
			if sent := len(s.Requests()); sent != c.sent {
				t.Errorf("%d requests, want %d", sent, c.sent)
			}
			if len(cache.values) > 0 {
				t.Error("something is kept")
			}
		})
	}
}

// Where nobody is, the stage ends; an endpoint that has answered is waited for.
func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + listener.Addr().String() + "/v1"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	plain := chattest.New(t)
	private := httptest.NewTLSServer(http.NotFoundHandler())
	defer private.Close()
	for name, c := range map[string]struct {
		url, says string
		calls     int
	}{
		"dead port":           {dead, "connection refused", lonelyTries},
		"no such host":        {"http://judge.invalid/v1", "judge.invalid", lonelyTries},
		"TLS to plain HTTP":   {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS", 1},
		"unknown certificate": {private.URL, "certificate", 1},
	} {
		client, _ := newClient(t, plain, func(o *Options) { o.BaseURL, o.Tries, o.Timeout = c.url, 8, 10*time.Second })
		_, err := client.Score(t.Context(), requestOf(1))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "judge.base_url") {
			t.Errorf("%s: got %v, want that %q and what to do", name, err, c.says)
		}
		wellSaid(t, fmt.Sprint(err))
		if spent := client.o.Ledger.Spent(); spent.Calls != c.calls || spent.Tokens != 0 {
			t.Errorf("%s: spent %+v, want %d calls and no tokens", name, spent, c.calls)
		}
	}
	client, _ := newClient(t, plain, func(o *Options) { o.Tries = 6 })
	if _, err := client.Score(t.Context(), requestOf(1)); err != nil {
		t.Fatal(err)
	}
	client.url = dead + "/chat/completions"
	if _, err := client.Score(t.Context(), requestOf(2)); err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "6 tries") {
		t.Errorf("the endpoint has answered and is away: got %v, want that it is tried again", err)
	}
}

// The query of a base URL goes with every request, and the path is kept.
func TestBaseURL(t *testing.T) {
	s := chattest.New(t)
	for suffix, query := range map[string]string{
		"": "", "/": "", "?api-version=2024-02-01": "api-version=2024-02-01", "/?a=1&b=%2Fx": "a=1&b=%2Fx", "//": "",
	} {
		c, _ := newClient(t, s, func(o *Options) { o.BaseURL = s.URL + suffix })
		s.Set(nil)
		if _, err := c.Score(t.Context(), requestOf(1)); err != nil {
			t.Fatalf("base URL with %q: %v", suffix, err)
		}
		if got := s.Requests()[0].Query; got != query {
			t.Errorf("base URL with %q: the query is %q, want %q", suffix, got, query)
		}
	}
}
