package storetest

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts/s3"
)

// Proxy stands between a backend and a gateway and does to requests what
// networks and services do. Without faults it passes everything on; requests
// keep the host that they were signed for.
type Proxy struct {
	url     string
	forward http.Handler

	mu       sync.Mutex
	rules    []*rule
	requests []*http.Request // as they came, their bodies consumed
	lists    map[string]recorded
}

// Fault answers a request in place of the service, or hurts what passes.
type Fault func(p *Proxy, w http.ResponseWriter, r *http.Request)

// Match chooses requests.
type Match func(r *http.Request) bool

type rule struct {
	match Match
	left  int // requests to hurt; negative: all
	hits  int
	fault Fault
}

// StartProxy starts a proxy in front of a gateway.
func StartProxy(t testing.TB, g *Gateway) *Proxy {
	t.Helper()
	target, err := url.Parse(g.URL())
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{lists: map[string]recorded{}, forward: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	server := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// Through gives settings for the same bucket by way of the proxy. Retries come
// quickly.
func (p *Proxy) Through(c s3.Config) s3.Config {
	c.Endpoint, c.MaxBackoff = p.url, 5*time.Millisecond
	return c
}

// On lets a fault happen to the next times requests that match; a negative
// number means all. The first rule that matches and has something left counts.
// It returns how often the fault has happened.
func (p *Proxy) On(match Match, times int, f Fault) (hits func() int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &rule{match: match, left: times, fault: f}
	p.rules = append(p.rules, r)
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return r.hits
	}
}

// Heal takes all faults away and forgets what was seen.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.requests, p.lists = nil, nil, map[string]recorded{}
}

// Requests are those that have come since the start, or since Heal.
func (p *Proxy) Requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.requests...)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	fault := Fault(Pass)
	for _, rule := range p.rules {
		if rule.left != 0 && rule.match(r) {
			rule.left, rule.hits, fault = rule.left-1, rule.hits+1, rule.fault
			break
		}
	}
	p.mu.Unlock()
	fault(p, w, r)
}

// Pass hurts nothing.
func Pass(p *Proxy, w http.ResponseWriter, r *http.Request) { p.forward.ServeHTTP(w, r) }

// Any matches every request.
func Any(*http.Request) bool { return true }

// Method matches requests with one of these methods.
func Method(methods ...string) Match {
	return func(r *http.Request) bool {
		for _, m := range methods {
			if r.Method == m {
				return true
			}
		}
		return false
	}
}

// Key matches requests for objects whose key contains part.
func Key(part string) Match {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

// Listing matches requests for lists of objects.
func Listing(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Has("list-type")
}

// Both matches what both match.
func Both(a, b Match) Match { return func(r *http.Request) bool { return a(r) && b(r) } }

// Answer refuses with a status and an error code of S3, as services do.
func Answer(status int, code string) Fault {
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>injected</Message><RequestId>1</RequestId></Error>`, code)
		}
	}
}

// Reset breaks the connection before the service has seen the request.
func Reset(_ *Proxy, _ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

// LoseAnswer lets the service do what it was asked and breaks the connection
// before the client hears of it.
func LoseAnswer(p *Proxy, _ http.ResponseWriter, r *http.Request) {
	p.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// CutRequest breaks the connection to the service, and then to the client,
// after n bytes of the request's body.
func CutRequest(n int64) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, n), failing{}))
		p.forward.ServeHTTP(w, r)
		panic(http.ErrAbortHandler)
	}
}

// CutAnswer breaks the connection after n bytes of the answer's body.
func CutAnswer(n int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		p.forward.ServeHTTP(&cutting{ResponseWriter: w, left: n}, r)
	}
}

// FlipAnswer flips a bit of the answer's body.
func FlipAnswer(at int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		p.forward.ServeHTTP(&flipping{ResponseWriter: w, at: at}, r)
	}
}

// FlipRequest flips a bit of the request's body.
func FlipRequest(at int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			panic(http.ErrAbortHandler)
		}
		body[at%len(body)] ^= 4
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.forward.ServeHTTP(w, r)
	}
}

// Encrypting confirms what is asked of server-side encryption, as a service that
// can does.
func Encrypting(p *Proxy, w http.ResponseWriter, r *http.Request) {
	const header = "X-Amz-Server-Side-Encryption"
	name := r.URL.Path
	if r.URL.Query().Has("uploads") { // the parts inherit what their upload was begun with
		p.mu.Lock()
		p.lists["encryption of "+name] = recorded{header: r.Header.Clone()}
		p.mu.Unlock()
	}
	asked := r.Header.Get(header)
	if r.URL.Query().Has("uploadId") {
		p.mu.Lock()
		asked = p.lists["encryption of "+name].header.Get(header)
		p.mu.Unlock()
	}
	if asked != "" {
		w.Header().Set(header, asked)
	}
	p.forward.ServeHTTP(w, r)
}

// Stale answers a list with what it was when it was first asked for while the
// fault stood: what is written later is not in it, what is deleted still is.
func Stale(p *Proxy, w http.ResponseWriter, r *http.Request) {
	key := r.URL.Path + "?" + r.URL.Query().Get("prefix") + "&" + r.URL.Query().Get("continuation-token")
	p.mu.Lock()
	old, seen := p.lists[key]
	p.mu.Unlock()
	if !seen {
		record := httptest.NewRecorder()
		p.forward.ServeHTTP(record, r)
		old = recorded{record.Code, record.Header().Clone(), record.Body.Bytes()}
		p.mu.Lock()
		p.lists[key] = old
		p.mu.Unlock()
	}
	for name, values := range old.header {
		w.Header()[name] = values
	}
	w.WriteHeader(old.status)
	w.Write(old.body)
}

type recorded struct {
	status int
	header http.Header
	body   []byte
}

// Ahead is a service whose clock is ahead, and which refuses requests that are
// signed more than a minute from its time.
func Ahead(by time.Duration) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(by)
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		if err != nil || signed.Sub(now).Abs() > time.Minute {
			Answer(http.StatusForbidden, "RequestTimeTooSkewed")(p, w, r)
			return
		}
		p.forward.ServeHTTP(w, r)
	}
}

// Unlucky hurts requests at random: on average one in every of them, in one of
// the ways that a service and a network have. What happens to the nth request
// of a method for a key depends on the seed alone, not on what else happens.
func Unlucky(seed uint64, every int) Fault {
	var mu sync.Mutex
	seen := map[string]uint64{}
	ways := []Fault{
		Answer(http.StatusInternalServerError, "InternalError"), Answer(http.StatusServiceUnavailable, "SlowDown"),
		Reset, LoseAnswer, CutRequest(100), CutAnswer(50), FlipAnswer(7), FlipRequest(11), Answer(http.StatusBadGateway, "BadGateway"),
	}
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		name := r.Method + r.URL.Path
		mu.Lock()
		seen[name]++
		n := seen[name]
		mu.Unlock()
		h := fnv.New64a()
		io.WriteString(h, name+strconv.FormatUint(n, 10))
		chance := rand.New(rand.NewPCG(seed, h.Sum64()))
		if chance.IntN(every) != 0 {
			p.forward.ServeHTTP(w, r)
			return
		}
		ways[chance.IntN(len(ways))](p, w, r)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// cutting breaks the connection after some bytes of the body.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// flipping flips a bit of one byte of the body.
type flipping struct {
	http.ResponseWriter
	at int
}

func (f *flipping) Write(p []byte) (int, error) {
	if f.at >= 0 && f.at < len(p) {
		p = bytes.Clone(p)
		p[f.at] ^= 4
	}
	f.at -= len(p)
	return f.ResponseWriter.Write(p)
}
