package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/artifacts/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// TestProcess runs the suite on a versitygw in a process of its own.
func TestProcess(t *testing.T) {
	g := storetest.StartProcess(t, t.TempDir(), "")
	storetest.Run(t, func(t *testing.T) artifacts.Backend { return g.Open(t, g.Config()) })
}

// TestGateway runs it on one inside the test process.
func TestGateway(t *testing.T) {
	g := storetest.StartGateway(t)
	t.Run("WhenRequired", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) artifacts.Backend { return g.Open(t, g.Config()) })
	})
	t.Run("WhenSupportedWithPrefix", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) artifacts.Backend {
			c := g.Config()
			c.Checksums, c.Prefix = "when_supported", "team/esclab"
			return g.Open(t, c)
		})
	})
}

// TestRequests: with when_required no request carries what S3-compatible
// stores are known to reject, and none is larger than a part: an upload's
// memory does not grow with the object.
func TestRequests(t *testing.T) {
	g := storetest.StartGateway(t)
	for _, mode := range []string{"", "when_supported"} {
		var mu sync.Mutex
		largest, checksums := int64(0), false
		p := storetest.StartProxy(t, g)
		p.On(storetest.Any, -1, func(p *storetest.Proxy, w http.ResponseWriter, r *http.Request) {
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
			storetest.Pass(p, w, r)
		})
		c := p.Through(g.Config())
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
	half := bytes.NewReader(storetest.Bytes(20<<20, 1))
	err := b.Put(ctx, "large", io.MultiReader(half, storetest.ReadFunc(func([]byte) (int, error) { cancel(); return 0, ctx.Err() })))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one wrapping %v", err, context.Canceled)
	}
	err = filepath.WalkDir(g.Root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, ".vgwlocks") {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBrokenDownload: a download goes on where it was, a few times; and never
// mixes two versions of an object.
func TestBrokenDownload(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	data := storetest.Bytes(6<<20, 1)
	storetest.Write(t, u.direct, "key", data)
	read := func(breaks int, cut storetest.Fault) ([]byte, error) {
		u.Heal()
		u.On(storetest.Method(http.MethodGet), breaks, cut)
		r, err := u.backend.Get(t.Context(), "key")
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	cut := storetest.CutAnswer(1 << 20)
	if got, err := read(4, cut); err != nil || !bytes.Equal(got, data) {
		t.Errorf("resumed four times: %d bytes, %v; want the %d that were put", len(got), err, len(data))
	}
	if _, err := read(5, cut); err == nil || !strings.Contains(err.Error(), "key in s3://bucket-") {
		t.Errorf("broken for good: %v, want an error that names key and bucket", err)
	}
	if got, err := read(1, func(p *storetest.Proxy, w http.ResponseWriter, r *http.Request) {
		defer storetest.Write(t, u.direct, "key", storetest.Bytes(6<<20, 2))
		cut(p, w, r)
	}); err == nil {
		t.Errorf("an object that was replaced while it was read gave %d bytes", len(got))
	}
}

// TestRetriesAreBounded: an unwell service is asked again, but not for ever.
func TestRetriesAreBounded(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t)) // four attempts
	unavailable := storetest.Answer(http.StatusServiceUnavailable, "ServiceUnavailable")
	u.On(storetest.Any, 3, unavailable)
	if err := u.backend.Put(t.Context(), "key", strings.NewReader("x")); err != nil {
		t.Errorf("put after three failures: %v", err)
	}
	tries := u.On(storetest.Any, -1, unavailable)
	_, err := u.backend.Stat(t.Context(), "key")
	if err == nil || tries() != 4 || !strings.Contains(err.Error(), "stat key in s3://bucket-") {
		t.Errorf("%d tries: %v; want an error after 4 that names key and bucket", tries(), err)
	}
	if errors.Is(err, artifacts.ErrNotFound) {
		t.Error("a service that is down looks like an object that is missing")
	}
}

func TestErrors(t *testing.T) {
	g := storetest.StartGateway(t)
	ctx := t.Context()
	open := func(change func(*s3.Config)) *s3.Backend {
		t.Helper()
		c := g.Config()
		c.MaxAttempts = 1
		change(&c)
		b, err := s3.Open(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	absent := open(func(c *s3.Config) { c.Bucket = "no-such-bucket" })
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
	for _, b := range []*s3.Backend{
		open(func(c *s3.Config) { c.SecretKey = "wrong" }),
		open(func(c *s3.Config) { c.Endpoint = "http://127.0.0.1:1" }),
	} {
		if _, err := b.Get(ctx, "k"); err == nil || errors.Is(err, artifacts.ErrNotFound) || !strings.Contains(err.Error(), "get k in s3://bucket-") {
			t.Errorf("get: %v", err)
		}
	}
	for _, c := range []s3.Config{{}, {Bucket: "b", Checksums: "sometimes"}, {Bucket: "b", PartBytes: 1}, {Bucket: "b", Prefix: "../x"}} {
		if _, err := s3.Open(ctx, c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	quick, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	slow := open(func(c *s3.Config) {
		hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		t.Cleanup(hang.Close)
		c.Endpoint = hang.URL
	})
	if err := second(slow.Stat(quick, "k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want one wrapping %v", err, context.DeadlineExceeded)
	}
}

func second[T any](_ T, err error) error { return err }

func TestParseURI(t *testing.T) {
	for uri, want := range map[string][2]string{
		"s3://models": {"models", ""}, "s3://models/": {"models", ""},
		"s3://models/qwen/0.5b/": {"models", "qwen/0.5b"},
	} {
		if bucket, prefix, err := s3.ParseURI(uri); err != nil || bucket != want[0] || prefix != want[1] {
			t.Errorf("%s: %q, %q, %v", uri, bucket, prefix, err)
		}
	}
	for _, uri := range []string{"", "s3://", "s3:///a", "http://a/b", "s3://a/../b", "s3://a//b"} {
		if _, _, err := s3.ParseURI(uri); err == nil {
			t.Errorf("%q is taken", uri)
		}
	}
}
