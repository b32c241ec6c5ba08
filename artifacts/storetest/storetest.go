// Package storetest checks implementations of artifacts.Backend: one suite for
// all of them, an S3 gateway in the test process to run it against, and a backend
// on a directory for tests that need no service.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/esclab/esclab/artifacts"
)

// Run checks every promise of artifacts.Backend that can be observed from
// outside. open returns an empty backend.
func Run(t *testing.T, open func(t *testing.T) artifacts.Backend) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, artifacts.Backend)
	}{
		{"PutGet", testPutGet},
		{"Replace", testReplace},
		{"LargeObject", testLarge},
		{"FailingReader", testFailingReader},
		{"PutIfAbsent", testPutIfAbsent},
		{"PutIfAbsentRace", testPutIfAbsentRace},
		{"NotFound", testNotFound},
		{"List", testList},
		{"Delete", testDelete},
		{"DeleteRacesPut", testDeleteRacesPut},
		{"AtomicReplace", testAtomicReplace},
		{"InvalidKeys", testInvalidKeys},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Read returns the content of key.
func Read(t testing.TB, b artifacts.Backend, key string) []byte {
	t.Helper()
	r, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return data
}

// Write stores data under key, whatever is there.
func Write(t testing.TB, b artifacts.Backend, key string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader(data)); err != nil {
		t.Fatalf("put: %v", err)
	}
}

// Keys returns all keys below prefix, sorted.
func Keys(t testing.TB, b artifacts.Backend, prefix string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return keys
}

// Bytes returns n reproducible bytes that do not compress.
func Bytes(n int, seed uint64) []byte {
	data := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(data)
	return data
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want one wrapping %v", err, want)
	}
}

func wantKeys(t *testing.T, b artifacts.Backend, prefix string, want ...string) {
	t.Helper()
	if got := Keys(t, b, prefix); !slices.Equal(got, want) {
		t.Errorf("keys below %q: %q, want %q", prefix, got, want)
	}
}

func testPutGet(t *testing.T, b artifacts.Backend) {
	for i, key := range []string{"a", "d/b", "d/e/c-1_2.json", "d/e/a=b+c@d,e%2Ff", "stages/0/x"} {
		for _, n := range []int{0, 1, 100_000} {
			data := Bytes(n, uint64(i))
			Write(t, b, key, data)
			if got := Read(t, b, key); !bytes.Equal(got, data) {
				t.Errorf("%s: got %d bytes that differ from the %d put", key, len(got), n)
			}
			o, err := b.Stat(t.Context(), key)
			if err != nil || o.Key != key || o.Bytes != int64(n) || o.ModTime.IsZero() {
				t.Errorf("stat %s: %+v, %v; want %d bytes", key, o, err, n)
			}
		}
	}
	if b.Location() == "" {
		t.Error("no location")
	}
}

func testReplace(t *testing.T, b artifacts.Backend) {
	Write(t, b, "d/key", Bytes(1000, 1))
	Write(t, b, "d/key", []byte("short"))
	if got := Read(t, b, "d/key"); string(got) != "short" {
		t.Errorf("after replacing: %q", got)
	}
	wantKeys(t, b, "", "d/key")
}

// testLarge covers a multipart upload whose last part is not full, from a
// reader that is not seekable and gives little at a time.
func testLarge(t *testing.T, b artifacts.Backend) {
	data := Bytes(19<<20+12345, 7)
	if err := b.Put(t.Context(), "large", iotest.HalfReader(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if got := Read(t, b, "large"); !bytes.Equal(got, data) {
		t.Errorf("got %d bytes that differ from the %d put", len(got), len(data))
	}
}

// testFailingReader stands for a full disk or a lost source: whatever the size,
// nothing is stored and nothing that was there is touched.
func testFailingReader(t *testing.T, b artifacts.Backend) {
	broken := errors.New("no space left on device")
	Write(t, b, "d/old", []byte("old"))
	for _, n := range []int{0, 10, 20 << 20} {
		for _, key := range []string{"d/new", "d/old"} {
			r := io.MultiReader(bytes.NewReader(Bytes(n, 1)), iotest.ErrReader(broken))
			wantErr(t, b.Put(t.Context(), key, r), broken)
		}
	}
	wantKeys(t, b, "", "d/old")
	if got := Read(t, b, "d/old"); string(got) != "old" {
		t.Errorf("after failed puts: %q", got)
	}
	_, err := b.Stat(t.Context(), "d/new")
	wantErr(t, err, artifacts.ErrNotFound)
}

func testPutIfAbsent(t *testing.T, b artifacts.Backend) {
	if err := b.PutIfAbsent(t.Context(), "d/once", []byte("first")); err != nil {
		t.Fatal(err)
	}
	wantErr(t, b.PutIfAbsent(t.Context(), "d/once", []byte("second")), artifacts.ErrExists)
	if got := Read(t, b, "d/once"); string(got) != "first" {
		t.Errorf("got %q", got)
	}
	Write(t, b, "d/put", []byte("put"))
	wantErr(t, b.PutIfAbsent(t.Context(), "d/put", nil), artifacts.ErrExists)
	if err := b.Delete(t.Context(), "d/once"); err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(t.Context(), "d/once", []byte("third")); err != nil {
		t.Errorf("after deleting: %v", err)
	}
	wantKeys(t, b, "", "d/once", "d/put")
}

func testPutIfAbsentRace(t *testing.T, b artifacts.Backend) {
	const writers = 8
	for round := range 5 {
		key := fmt.Sprintf("race/%d", round)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() { errs[w] = b.PutIfAbsent(t.Context(), key, fmt.Appendf(nil, "writer %d", w)) })
		}
		wg.Wait()
		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = w
			case err == nil:
				t.Errorf("round %d: writers %d and %d both succeeded", round, winner, w)
			default:
				wantErr(t, err, artifacts.ErrExists)
			}
		}
		if got, want := string(Read(t, b, key)), fmt.Sprintf("writer %d", winner); got != want {
			t.Errorf("round %d: content %q, want %q", round, got, want)
		}
	}
}

func testNotFound(t *testing.T, b artifacts.Backend) {
	Write(t, b, "dir/file", nil)
	for _, key := range []string{"none", "none/none", "dir", "dir/none"} {
		_, err := b.Get(t.Context(), key)
		wantErr(t, err, artifacts.ErrNotFound)
		_, err = b.Stat(t.Context(), key)
		wantErr(t, err, artifacts.ErrNotFound)
	}
}

func testList(t *testing.T, b artifacts.Backend) {
	wantKeys(t, b, "")
	wantKeys(t, b, "none/")
	all := []string{"a-b/x", "a/b/c", "a/b/d", "a/e", "ab/f", "z"}
	for i, key := range all {
		Write(t, b, key, make([]byte, i))
	}
	wantKeys(t, b, "", all...)
	wantKeys(t, b, "a/", "a/b/c", "a/b/d", "a/e")
	wantKeys(t, b, "a/b/", "a/b/c", "a/b/d")
	for o, err := range b.List(t.Context(), "a/b/") {
		if want := int64(slices.Index(all, o.Key)); err != nil || o.Bytes != want || o.ModTime.IsZero() {
			t.Errorf("%+v, %v; want %d bytes", o, err, want)
		}
		break // a consumer may stop early
	}
	for _, err := range b.List(t.Context(), "a") {
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
	if testing.Short() {
		return
	}
	var wg sync.WaitGroup
	for w := range 8 { // more than one page of S3
		wg.Go(func() {
			for i := w; i < 1100; i += 8 {
				if err := b.PutIfAbsent(t.Context(), fmt.Sprintf("many/%04d", i), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(Keys(t, b, "many/")); got != 1100 {
		t.Errorf("listed %d of 1100", got)
	}
}

func testDelete(t *testing.T, b artifacts.Backend) {
	Write(t, b, "d/e/a", []byte("a"))
	Write(t, b, "d/b", []byte("b"))
	for range 2 {
		if err := b.Delete(t.Context(), "d/e/a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), "never/there"); err != nil {
		t.Errorf("deleting nothing: %v", err)
	}
	wantKeys(t, b, "", "d/b")
	// The directory that Delete emptied can be a key now, and again a directory.
	Write(t, b, "d/e", []byte("e"))
	if err := b.Delete(t.Context(), "d/e"); err != nil {
		t.Fatal(err)
	}
	Write(t, b, "d/e/a", []byte("again"))
	wantKeys(t, b, "", "d/b", "d/e/a")
}

// testDeleteRacesPut deletes the last object of a directory while another is
// put into it: the put must not fail for want of the directory.
func testDeleteRacesPut(t *testing.T, b artifacts.Backend) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			key := fmt.Sprintf("p/q/%d", w)
			for range 15 {
				if err := b.PutIfAbsent(t.Context(), key, []byte(key)); err != nil {
					t.Error(err)
				}
				if err := b.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantKeys(t, b, "")
}

// testAtomicReplace reads an object while it is replaced: each read sees one of
// the versions, whole.
func testAtomicReplace(t *testing.T, b artifacts.Backend) {
	const size = 1 << 20
	versions := [][]byte{bytes.Repeat([]byte{'x'}, size), bytes.Repeat([]byte{'y'}, size+1)}
	Write(t, b, "v", versions[0])
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 10 {
			if err := b.Put(t.Context(), "v", bytes.NewReader(versions[i%2])); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		got := Read(t, b, "v")
		if !bytes.Equal(got, versions[0]) && !bytes.Equal(got, versions[1]) {
			t.Errorf("read %d bytes that are no version", len(got))
		}
	}
	wg.Wait()
}

func testInvalidKeys(t *testing.T, b artifacts.Backend) {
	Write(t, b, "ok", nil)
	for _, key := range []string{"", "/", "/abs", "a/", "a//b", ".", "..", "../up", "a/../../up", "a/./b", ".hidden", "a/.tmp/b", "a\\b", "a b", "a\x00b", "ü", "a\nb"} {
		wantErr(t, b.Put(t.Context(), key, bytes.NewReader(nil)), artifacts.ErrInvalidKey)
		wantErr(t, b.PutIfAbsent(t.Context(), key, nil), artifacts.ErrInvalidKey)
		wantErr(t, b.Delete(t.Context(), key), artifacts.ErrInvalidKey)
		_, err := b.Get(t.Context(), key)
		wantErr(t, err, artifacts.ErrInvalidKey)
		_, err = b.Stat(t.Context(), key)
		wantErr(t, err, artifacts.ErrInvalidKey)
		for _, err := range b.List(t.Context(), key+"/") {
			wantErr(t, err, artifacts.ErrInvalidKey)
		}
	}
	wantKeys(t, b, "", "ok")
}

func testCancelled(t *testing.T, b artifacts.Backend) {
	Write(t, b, "old", Bytes(100, 1))
	ctx, cancel := context.WithCancel(t.Context())
	// Cancelled in the middle of a multipart upload.
	data := bytes.NewReader(Bytes(30<<20, 2))
	r := io.MultiReader(io.LimitReader(data, 25<<20), ReadFunc(func([]byte) (int, error) { cancel(); return 0, nil }), data)
	wantErr(t, b.Put(ctx, "new", r), context.Canceled)
	wantErr(t, b.PutIfAbsent(ctx, "new", nil), context.Canceled)
	wantErr(t, b.Delete(ctx, "old"), context.Canceled)
	_, err := b.Get(ctx, "old")
	wantErr(t, err, context.Canceled)
	_, err = b.Stat(ctx, "old")
	wantErr(t, err, context.Canceled)
	listed := false
	for _, err := range b.List(ctx, "") {
		wantErr(t, err, context.Canceled)
		listed = true
	}
	if !listed {
		t.Error("a cancelled list ended without an error")
	}
	wantKeys(t, b, "", "old")
}

// ReadFunc is a reader that is a function.
type ReadFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f ReadFunc) Read(p []byte) (int, error) { return f(p) }
