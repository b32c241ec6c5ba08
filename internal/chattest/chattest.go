// Package chattest is a server that speaks the chat completions protocol, for
// tests: it answers a judge's questions by a fixed rule, and fails in the ways
// in which real endpoints fail.
package chattest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is one way to fail.
type Fault int

const (
	None       Fault = iota
	Malformed        // a reply that is no JSON
	OutOfRange       // grades off the scale
	WrongShape       // JSON of another form
	Refused          // the model declines
	CutOff           // the reply ends in the middle, finish_reason length
	Limited          // 429 with Retry-After
	Broken           // 500 with an error object
	Gateway          // 502 with an HTML page
	Hang             // no response at all
	Truncated        // the body ends before its length
	Dropped          // the connection closes
	NoChoice         // a response without a choice

	// Persistent ones, for whole servers.
	Unauthorized // 401
	NoSchema     // 400 unless response_format is absent
	Filtered     // 400, content filter
)

// Passing lists the faults that pass: the same question may be answered next.
func Passing() []Fault {
	return []Fault{Malformed, OutOfRange, WrongShape, Refused, CutOff, Limited, Broken, Gateway, Hang, Truncated, Dropped, NoChoice}
}

// Message is one message of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Request is what a client sent.
type Request struct {
	Model               string          `json:"model"`
	Messages            []Message       `json:"messages"`
	Temperature         *float64        `json:"temperature"`
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	Format              json.RawMessage `json:"response_format"`

	Authorization string `json:"-"`
	Query         string `json:"-"`
}

// Question is what was asked first, without what followed a bad reply. It is the
// same whether the system's text has a message of its own or not.
func (r Request) Question() string {
	var texts []string
	for _, m := range r.Messages {
		texts = append(texts, m.Content)
		if m.Role == "user" {
			break
		}
	}
	return strings.Join(texts, "\n\n")
}

// Response is what a server answers in place of a completion.
type Response struct {
	Status int // 0: 200
	Header map[string]string
	Body   string
}

// Completion is a response of one choice, whose message and finish_reason are
// given as JSON. "GOOD" in the message stands for the right answer, as a JSON
// string.
func Completion(message, finish string) *Response {
	return &Response{Body: `{"object":"chat.completion","choices":[{"index":0,"message":` + message + `,"finish_reason":` + finish + `}]}`}
}

// Server answers. Its fields may be changed between requests with Set.
type Server struct {
	URL string // to be used as base URL

	mu       sync.Mutex
	plan     func(r Request, nth int) Fault
	respond  func(r Request, good string) *Response
	requests []Request
	asked    map[string]int       // requests by question
	waiting  map[string]time.Time // when a limited question may come again
	early    int
	stop     chan struct{}
}

// New starts a server that never fails; it ends with the test.
func New(t testing.TB) *Server {
	s := &Server{asked: map[string]int{}, waiting: map[string]time.Time{}, stop: make(chan struct{})}
	s.Set(nil)
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		close(s.stop)
		server.Close()
	})
	s.URL = server.URL + "/v1"
	return s
}

// Set says how the server fails: plan gives the fault of the nth request
// (from 0) for a question. nil: never. The counts begin anew.
func (s *Server) Set(plan func(r Request, nth int) Fault) {
	if plan == nil {
		plan = func(Request, int) Fault { return None }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan, s.respond, s.requests, s.asked, s.early = plan, nil, nil, map[string]int{}, 0
}

// Respond makes the server write responses of its own: f gives that to a
// request, of which good is the right answer, or nil for the usual one.
func (s *Server) Respond(f func(r Request, good string) *Response) {
	s.Set(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = f
}

// Faulty makes each question fail in two ways before it is answered; all
// passing faults come up, by the question's digest.
func Faulty(r Request, nth int) Fault {
	if nth >= 2 {
		return None
	}
	all := Passing()
	h := hash(r.Question())
	return all[(h+uint64(nth)*(1+h%uint64(len(all)-1)))%uint64(len(all))]
}

// Requests returns what has been received.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Early counts the requests that came before Retry-After had passed.
func (s *Server) Early() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early
}

func hash(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:])
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	var in Request
	if r.URL.Path != "/v1/chat/completions" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Messages) == 0 {
		fail(w, http.StatusBadRequest, "invalid_request", fmt.Sprintf("cannot read the request: %v", err))
		return
	}
	in.Authorization, in.Query = r.Header.Get("Authorization"), r.URL.RawQuery
	q := in.Question()
	s.mu.Lock()
	nth := s.asked[q]
	s.asked[q]++
	s.requests = append(s.requests, in)
	if time.Now().Before(s.waiting[q]) {
		s.early++
	}
	fault := s.plan(in, nth)
	if fault == Limited {
		s.waiting[q] = time.Now().Add(time.Second)
	}
	respond := s.respond
	s.mu.Unlock()

	content := answer(in)
	if respond != nil {
		if response := respond(in, content); response != nil {
			w.Header().Set("Content-Type", "application/json")
			for key, value := range response.Header {
				w.Header().Set(key, value)
			}
			w.WriteHeader(cmp.Or(response.Status, http.StatusOK))
			good, _ := json.Marshal(content)
			fmt.Fprint(w, strings.ReplaceAll(response.Body, "GOOD", string(good)))
			return
		}
	}
	switch fault {
	case Malformed:
		content = "I think the scores are: fluency 4 {"
	case OutOfRange:
		content = strings.NewReplacer(`"score":`, `"score":1`, `"degree":`, `"degree":7`, `"error":"`, `"error":"no_`, `"tie"`, `"both"`, `"first"`, `"both"`, `"second"`, `"both"`).Replace(content)
	case WrongShape:
		content = `{"verdict":"fine","confidence":0.9}`
	case CutOff:
		reply(w, content[:len(content)/2], "", "length")
		return
	case Refused:
		reply(w, "", "I'm sorry, I cannot help with that.", "stop")
		return
	case Limited:
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusTooManyRequests, "rate_limit_exceeded", "slow down, "+in.Authorization)
		return
	case Broken:
		fail(w, http.StatusInternalServerError, "server_error", "something broke for "+in.Authorization)
		return
	case Gateway:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintf(w, "<html>bad gateway, %s</html>", in.Authorization)
		return
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.stop:
		}
		return
	case Truncated:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100000")
		fmt.Fprint(w, `{"id":"x","choices":[{"message":{"content":"{\"flu`)
		return
	case Dropped:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
		return
	case NoChoice:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"x","object":"chat.completion","choices":[]}`)
		return
	case Unauthorized:
		fail(w, http.StatusUnauthorized, "invalid_api_key", "Incorrect API key provided: "+strings.TrimPrefix(in.Authorization, "Bearer "))
		return
	case NoSchema:
		if len(in.Format) > 0 {
			fail(w, http.StatusBadRequest, "invalid_request", "'response_format' of this type is not supported with this model")
			return
		}
		content = "```json\n" + content + "\n```"
	case Filtered:
		fail(w, http.StatusBadRequest, "content_filter", "The response was filtered due to the prompt triggering our content management policy")
		return
	}
	reply(w, content, "", "stop")
}

func reply(w http.ResponseWriter, content, refusal, finish string) {
	message := map[string]any{"role": "assistant", "content": content}
	if refusal != "" {
		message["refusal"] = refusal
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chat-1", "object": "chat.completion", "created": 1, "model": "test",
		"choices": []any{map[string]any{"index": 0, "finish_reason": finish, "message": message}},
		"usage":   map[string]int{"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
	})
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": code, "code": code, "param": nil}})
}

// errorNames are the classes that the joint protocol grades, in their order.
var errorNames = []string{"strategy_mismatch", "lack_of_empathy", "early_emotion_shift", "template_response", "emotion_misread"}

// answer grades by the digest of the question: any rule will do, as long as
// the same question always has the same answer.
func answer(r Request) string {
	system, h := r.Messages[0].Content, hash(r.Question())
	grade := func(names []string, key string, most uint64) string {
		all := map[string]any{}
		for i, name := range names {
			all[name] = map[string]any{"reason": fmt.Sprintf("because of %s", name), key: h >> (7 * i) % (most + 1)}
		}
		data, _ := json.Marshal(all)
		return string(data)
	}
	label := func(n uint64, classes []string) map[string]any {
		class := append([]string{"none"}, classes...)[n%uint64(1+len(classes))]
		return map[string]any{"reason": "because of " + class, "error": class}
	}
	one := func(v any) string {
		data, _ := json.Marshal(v)
		return string(data)
	}
	switch {
	case strings.Contains(system, `"preferred"`):
		return one(map[string]string{"reason": "it is better", "preferred": []string{"first", "second", "tie"}[h%3]})
	case strings.Contains(system, `"degree"`):
		return grade(errorNames, "degree", 2)
	case strings.Contains(system, `{"reference": LABEL`):
		return one(map[string]any{"reference": label(h, errorNames[1:4]), "reply": label(h>>7, errorNames[1:4])})
	case strings.Contains(system, `"error": one of "none"`):
		return one(label(h, errorNames))
	case strings.Contains(system, `{"reason": "one short sentence", "score"`) && !strings.Contains(system, "a key for each"):
		return one(map[string]any{"reason": "because", "score": h % 6})
	default:
		return grade([]string{"fluency", "professionalism", "empathy", "helpfulness"}, "score", 5)
	}
}
