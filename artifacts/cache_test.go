package artifacts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// A large copy is hashed once on a host, by whichever process: again only where it is
// another file, or was written since.
func TestLargeCopyIsVerifiedOnce(t *testing.T) {
	b := openDirectory(t)
	w := newWorld(t, b)
	data := storetest.Bytes(16<<20, 1)
	ref := w.blob(t, string(data))
	gets := 0
	w.get = func(string) error { gets++; return nil }
	other, err := artifacts.New(w.hooks, artifacts.Options{CacheDir: w.cache}) // another process
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	local := func(s *artifacts.Store) string {
		t.Helper()
		read = 0
		path, err := s.LocalFile(artifacts.WithProgress(t.Context(), func(n int) { read += n }), ref)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := local(w.Store)
	if gets != 1 || read != len(data) {
		t.Errorf("fetched %d times, told of %d bytes; want once and all %d", gets, read, len(data))
	}
	for _, s := range []*artifacts.Store{w.Store, other} {
		if local(s) != path || gets != 1 || read != 0 {
			t.Errorf("asked again: fetched %d times, %d bytes read; want neither", gets, read)
		}
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if local(other); gets != 1 || read != len(data) {
		t.Errorf("written since: fetched %d times, %d bytes read; want all of it verified", gets, read)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, storetest.Bytes(16<<20, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	if local(w.Store); gets != 2 {
		t.Errorf("other content: fetched %d times, want once more", gets)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(data) {
		t.Errorf("the copy has %d bytes, %v; want those of the blob", len(got), err)
	}
}

// Of processes that want the same blob one fetches it; the others wait, as long as
// they like.
func TestOneFetchAmongProcesses(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	ref := w.blob(t, "weights")
	var gets atomic.Int64
	began, goOn := make(chan struct{}), make(chan struct{})
	w.get = func(string) error {
		if gets.Add(1) == 1 {
			close(began)
		}
		<-goOn
		return nil
	}
	var wg sync.WaitGroup
	for range 4 {
		s, err := artifacts.New(w.hooks, artifacts.Options{CacheDir: w.cache})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := s.LocalFile(t.Context(), ref); err != nil {
				t.Error(err)
			}
		})
	}
	<-began
	impatient, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := w.LocalFile(impatient, ref); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another fetches it: %v, want the end of the wait", err)
	}
	close(goOn)
	wg.Wait()
	if n := gets.Load(); n != 1 {
		t.Errorf("fetched %d times, want once for all", n)
	}
}

// Above the bound those copies go that were asked for longest ago, none of a day.
func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	var refs []artifacts.Ref
	for i := range 4 {
		refs = append(refs, w.blob(t, fmt.Sprintf("%060d", i)))
	}
	later := time.Duration(0)
	s, err := artifacts.New(w.hooks, artifacts.Options{CacheDir: w.cache, CacheBytes: 130, Now: func() time.Time { return time.Now().Add(later) }})
	if err != nil {
		t.Fatal(err)
	}
	there := func() (names string) {
		for i, ref := range refs {
			if _, err := os.Stat(filepath.Join(w.cache, "sha256", ref.SHA256[:2], ref.SHA256)); err == nil {
				names += fmt.Sprint(i)
			}
		}
		return names
	}
	ask := func(i int, ago time.Duration, want string) {
		t.Helper()
		if _, err := s.LocalFile(t.Context(), refs[i]); err != nil {
			t.Fatal(err)
		}
		if got := there(); got != want {
			t.Errorf("after asking for %d there are %s, want %s", i, got, want)
		}
		if err := os.Chtimes(filepath.Join(w.cache, "locks", refs[i].SHA256), time.Time{}, time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	ask(0, 3*time.Hour, "0")
	ask(1, 2*time.Hour, "01")
	ask(2, time.Hour, "012") // all of today
	later = 30 * time.Hour
	ask(0, 0, "012") // nothing is fetched
	ask(3, 0, "03")  // 1 and 2 were asked for before 0
}

// ranged gives parts of objects, and notes what was asked for.
type ranged struct {
	*hooks
	mu    sync.Mutex
	parts map[int64]int64 // bytes by offset
	short bool            // the next part ends early
}

func (r *ranged) GetRange(ctx context.Context, key string, offset, n int64) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[offset] = n
	whole, err := r.Backend.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, whole, offset); err != nil {
		return nil, err
	}
	if r.short {
		r.short, n = false, n-1
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(whole, n), whole}, nil
}

// A large blob comes in parts; what is not the blob is no copy.
func TestRanges(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	data := storetest.Bytes(40<<20, 1)
	ref := w.blob(t, string(data))
	r := &ranged{hooks: w.hooks, parts: map[int64]int64{}}
	s, err := artifacts.New(r, artifacts.Options{CacheDir: w.cache})
	if err != nil {
		t.Fatal(err)
	}
	r.short = true
	if _, err := s.LocalFile(t.Context(), ref); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a part that ends early: %v, want that it does", err)
	}
	var told atomic.Int64
	path, err := s.LocalFile(artifacts.WithProgress(t.Context(), func(n int) { told.Add(int64(n)) }), ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(data) {
		t.Errorf("the copy has %d bytes, %v; want those of the blob", len(got), err)
	}
	if len(r.parts) != 3 || r.parts[0] != 16<<20 || r.parts[32<<20] != 8<<20 || told.Load() != int64(len(data)) {
		t.Errorf("asked for %v, told of %d bytes; want three parts and all of them", r.parts, told.Load())
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.flip(t, ref.Key, 20<<20)
	_, err = s.LocalFile(t.Context(), ref)
	wantErr(t, err, artifacts.ErrCorrupt)
	storetest.Write(t, w.Backend, ref.Key, data[:39<<20])
	_, err = s.LocalFile(t.Context(), ref)
	wantErr(t, err, artifacts.ErrCorrupt)
	w.delete(t, ref.Key)
	_, err = s.LocalFile(t.Context(), ref)
	wantErr(t, err, artifacts.ErrNotFound)
	wantNoTemp(t, filepath.Join(w.cache, "tmp"))
}
