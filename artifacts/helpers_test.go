package artifacts_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// hooks is a backend whose operations can be watched and disturbed.
type hooks struct {
	artifacts.Backend
	puts   atomic.Int64
	put    func(key string)                                                          // before Put
	absent func(ctx context.Context, key string, data []byte) (done bool, err error) // instead of PutIfAbsent
	get    func(key string) error                                                    // before Get
}

func (h *hooks) Put(ctx context.Context, key string, r io.Reader) error {
	h.puts.Add(1)
	if h.put != nil {
		h.put(key)
	}
	return h.Backend.Put(ctx, key, r)
}

func (h *hooks) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if h.absent != nil {
		if done, err := h.absent(ctx, key, data); done {
			return err
		}
	}
	return h.Backend.PutIfAbsent(ctx, key, data)
}

func (h *hooks) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if h.get != nil {
		if err := h.get(key); err != nil {
			return nil, err
		}
	}
	return h.Backend.Get(ctx, key)
}

// world is a store with everything a test may want to reach behind it.
type world struct {
	*artifacts.Store
	*hooks
	cache string
	now   time.Time
}

func newWorld(t *testing.T, b artifacts.Backend) *world {
	t.Helper()
	w := &world{hooks: &hooks{Backend: b}, cache: t.TempDir(), now: time.Unix(1_700_000_000, 0)}
	s, err := artifacts.New(w.hooks, artifacts.Options{CacheDir: w.cache, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	w.Store = s
	return w
}

// eachBackend runs a test of the store on every backend.
func eachBackend(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("Directory", func(t *testing.T) { test(t, newWorld(t, openDirectory(t))) })
	t.Run("S3", func(t *testing.T) {
		g := storetest.StartGateway(t)
		test(t, newWorld(t, g.Open(t, g.Config())))
	})
}

func fingerprint(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }

func (w *world) acquire(t *testing.T, c artifacts.Claim) *artifacts.Lease {
	t.Helper()
	if c.Owner == "" {
		c.Owner = "owner"
	}
	l, err := w.Acquire(t.Context(), fingerprint("stage"), c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (w *world) blob(t *testing.T, content string) artifacts.Ref {
	t.Helper()
	ref, err := w.PutFunc(t.Context(), artifacts.BytesFile([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// whole says whether a stage has the artifact that was committed, with all its
// blobs.
func whole(ctx context.Context, s *artifacts.Store, committed artifacts.ArtifactRef) error {
	m, err := s.Lookup(ctx, committed.Fingerprint)
	if err == nil && m.Ref() != committed {
		err = fmt.Errorf("the artifact is %+v, %+v was committed", m.Ref(), committed)
	}
	if err == nil {
		err = s.Verify(ctx, m)
	}
	return err
}

// flip changes one bit of a stored object.
func (w *world) flip(t *testing.T, key string, at int) {
	t.Helper()
	data := storetest.Read(t, w.Backend, key)
	data[at] ^= 4
	storetest.Write(t, w.Backend, key, data)
}

func (w *world) delete(t *testing.T, key string) {
	t.Helper()
	if err := w.Backend.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want one wrapping %v", err, want)
	}
}

// wantNoTemp checks that nothing half-written is left in a directory.
func wantNoTemp(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
	}
}
