package artifacts_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// proxy stands between a backend and the gateway and sees, or disturbs, what
// passes. Requests keep the host they were signed for.
func proxy(t *testing.T, g *storetest.Gateway, handle func(w http.ResponseWriter, r *http.Request, forward http.Handler)) artifacts.S3Config {
	t.Helper()
	target, err := url.Parse(g.URL())
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, forward) }))
	t.Cleanup(server.Close)
	c := g.Config()
	c.Endpoint = server.URL
	return c
}

// TestRequests: with when_required no request carries what S3-compatible
// stores are known to reject, and none is larger than a part: an upload's
// memory does not grow with the object.
func TestRequests(t *testing.T) {
	g := storetest.StartGateway(t)
	for _, mode := range []string{"", "when_supported"} {
		var mu sync.Mutex
		largest, checksums := int64(0), false
		c := proxy(t, g, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			mu.Lock()
			n := r.ContentLength
			if decoded, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err == nil {
				n = decoded
			}
			largest = max(largest, n)
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum") || name == "X-Amz-Trailer" || name == "X-Amz-Sdk-Checksum-Algorithm" {
					checksums = true
				}
			}
			mu.Unlock()
			forward.ServeHTTP(w, r)
		})
		c.Checksums, c.PartBytes = mode, 5<<20
		b := g.Open(t, c)
		data := storetest.Bytes(17<<20, 1)
		storetest.Write(t, b, "large", data)
		storetest.Write(t, b, "small", []byte("small"))
		if err := b.PutIfAbsent(t.Context(), "once", []byte("once")); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(storetest.Read(t, b, "large"), data) {
			t.Error("large object differs")
		}
		if want := mode == "when_supported"; checksums != want {
			t.Errorf("checksums %q: checksum headers sent: %v, want %v", mode, checksums, want)
		}
		if largest != 5<<20 {
			t.Errorf("checksums %q: largest request has %d bytes, want one part", mode, largest)
		}
	}
}

// TestAbortedUpload: a large upload that is cut short leaves no parts.
func TestAbortedUpload(t *testing.T) {
	g := storetest.StartGateway(t)
	b := g.Open(t, g.Config())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := io.MultiReader(bytes.NewReader(storetest.Bytes(20<<20, 1)), readerFunc(func([]byte) (int, error) { cancel(); return 0, ctx.Err() }))
	wantErr(t, b.Put(ctx, "large", r), context.Canceled)
	err := filepath.WalkDir(g.Root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, ".vgwlocks") {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestBrokenDownload: a download goes on where it was, a few times; and never
// mixes two versions of an object.
func TestBrokenDownload(t *testing.T) {
	g := storetest.StartGateway(t)
	var breaks int
	var broken func()
	c := proxy(t, g, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Method != http.MethodGet || breaks == 0 {
			forward.ServeHTTP(w, r)
			return
		}
		breaks--
		if broken != nil {
			defer broken()
		}
		forward.ServeHTTP(&cutWriter{ResponseWriter: w, left: 1 << 20}, r)
	})
	b := g.Open(t, c)
	data := storetest.Bytes(6<<20, 1)
	storetest.Write(t, b, "key", data)
	read := func() ([]byte, error) {
		r, err := b.Get(t.Context(), "key")
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	breaks = 4
	if got, err := read(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("resumed: %d bytes, %v", len(got), err)
	}
	breaks = 5
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "key in s3://bucket-") {
		t.Errorf("broken for good: %v", err)
	}
	breaks = 1
	direct := c
	direct.Endpoint = g.URL()
	behind := g.Open(t, direct)
	broken = func() { storetest.Write(t, behind, "key", storetest.Bytes(6<<20, 2)) }
	if got, err := read(); err == nil {
		t.Errorf("an object that was replaced while it was read gave %d bytes", len(got))
	}
}

// cutWriter breaks the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// TestLostAnswer: the service takes a conditional write, but its answer is
// lost. The SDK's retry then says that the object exists; the lease is ours.
func TestLostAnswer(t *testing.T) {
	g := storetest.StartGateway(t)
	lost := 0
	c := proxy(t, g, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Header.Get("If-None-Match") != "" && lost == 0 {
			lost++
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	})
	w := newWorld(t, g.Open(t, c))
	l := w.acquire(t, artifacts.Claim{})
	if lost != 1 || l.Token() != 1 {
		t.Errorf("token %d after %d lost answers", l.Token(), lost)
	}
	lost = 0
	if ref, err := l.Commit(t.Context(), w.manifest(t, "weights"), nil); err != nil || lost != 1 {
		t.Errorf("commit: %+v, %v", ref, err)
	}
}

// TestRetriesAreBounded: an unwell service is asked again, but not for ever.
func TestRetriesAreBounded(t *testing.T) {
	g := storetest.StartGateway(t)
	fail, tries := 0, 0
	c := proxy(t, g, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		tries++
		if fail > 0 {
			fail--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	})
	c.MaxAttempts = 3
	b := g.Open(t, c)
	fail, tries = 2, 0
	if err := b.Put(t.Context(), "key", strings.NewReader("x")); err != nil || tries != 3 {
		t.Errorf("%d tries: %v", tries, err)
	}
	fail, tries = 1000, 0
	_, err := b.Stat(t.Context(), "key")
	if err == nil || tries != 3 || !strings.Contains(err.Error(), "stat key in s3://bucket-") {
		t.Errorf("%d tries: %v", tries, err)
	}
	if errors.Is(err, artifacts.ErrNotFound) {
		t.Error("a service that is down looks like an object that is missing")
	}
}

func TestS3Errors(t *testing.T) {
	g := storetest.StartGateway(t)
	ctx := t.Context()
	good := g.Open(t, g.Config())
	if err := good.EnsureBucket(ctx); err != nil { // it is there already
		t.Error(err)
	}
	open := func(change func(*artifacts.S3Config)) *artifacts.S3 {
		t.Helper()
		c := g.Config()
		c.MaxAttempts = 1
		change(&c)
		b, err := artifacts.OpenS3(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	absent := open(func(c *artifacts.S3Config) { c.Bucket = "no-such-bucket" })
	for name, err := range map[string]error{
		"put":           absent.Put(ctx, "some/key", strings.NewReader("x")),
		"put if absent": absent.PutIfAbsent(ctx, "some/key", nil),
		"get":           second(absent.Get(ctx, "some/key")),
	} {
		if err == nil || errors.Is(err, artifacts.ErrNotFound) || !strings.Contains(err.Error(), "no-such-bucket") ||
			!strings.Contains(err.Error(), "some/key") || !strings.Contains(err.Error(), "create it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range []*artifacts.S3{
		open(func(c *artifacts.S3Config) { c.SecretKey = "wrong" }),
		open(func(c *artifacts.S3Config) { c.Endpoint = "http://127.0.0.1:1" }),
	} {
		if err := b.EnsureBucket(ctx); err == nil || !strings.Contains(err.Error(), "check endpoint, credentials") {
			t.Errorf("bucket: %v", err)
		}
		if _, err := b.Get(ctx, "k"); err == nil || errors.Is(err, artifacts.ErrNotFound) || !strings.Contains(err.Error(), "get k in s3://bucket-") {
			t.Errorf("get: %v", err)
		}
	}
	for _, c := range []artifacts.S3Config{{}, {Bucket: "b", Checksums: "sometimes"}, {Bucket: "b", PartBytes: 1}, {Bucket: "b", Prefix: "../x"}} {
		if _, err := artifacts.OpenS3(ctx, c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	quick, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	slow := open(func(c *artifacts.S3Config) {
		hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		t.Cleanup(hang.Close)
		c.Endpoint = hang.URL
	})
	wantErr(t, second(slow.Stat(quick, "k")), context.DeadlineExceeded)
}

func second[T any](_ T, err error) error { return err }
