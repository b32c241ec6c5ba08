package artifacts_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func TestBlobRoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		data := storetest.Bytes(300_000, 1)
		sum := fingerprint(string(data))
		want := artifacts.Ref{Key: "blobs/sha256/" + sum[:2] + "/" + sum, SHA256: sum, Bytes: 300_000}
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, put := range map[string]func() (artifacts.Ref, error){
			"PutFunc": func() (artifacts.Ref, error) { return w.PutFunc(ctx, artifacts.BytesFile(data)) },
			"PutFunc, a byte at a time": func() (artifacts.Ref, error) {
				return w.PutFunc(ctx, func(out io.Writer) error {
					_, err := io.Copy(out, iotest.OneByteReader(bytes.NewReader(data)))
					return err
				})
			},
			"PutFile": func() (artifacts.Ref, error) { return w.PutFile(ctx, path) },
		} {
			if got, err := put(); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
			}
		}
		if n := w.puts.Load(); n != 1 {
			t.Errorf("the same content was sent %d times", n)
		}
		if got, err := w.ReadAll(ctx, want, 300_000); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if _, err := w.ReadAll(ctx, want, 299_999); err == nil {
			t.Error("a blob above the limit was read")
		}
		wantNoTemp(t, filepath.Join(w.cache, "tmp"))
		if _, err := w.PutFile(ctx, path+"-none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("putting no file: %v", err)
		}
	})
}

// TestDamagedBlob damages a stored blob in every way and checks that each way
// of reading says so, and that putting the content again repairs it.
func TestDamagedBlob(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		data := storetest.Bytes(100_000, 2)
		ref, err := w.PutFunc(ctx, artifacts.BytesFile(data))
		if err != nil {
			t.Fatal(err)
		}
		for name, damaged := range map[string][]byte{
			"first bit":  append([]byte{data[0] ^ 1}, data[1:]...),
			"last bit":   append(bytes.Clone(data[:99_999]), data[99_999]^128),
			"truncated":  data[:50_000],
			"empty":      nil,
			"one longer": append(bytes.Clone(data), 0),
			"much more":  bytes.Repeat(data, 3),
		} {
			storetest.Write(t, w.Backend, ref.Key, damaged)
			_, err := w.ReadAll(ctx, ref, 1<<20)
			if wantErr(t, err, artifacts.ErrCorrupt); err == nil || !strings.Contains(err.Error(), ref.Key) {
				t.Errorf("%s: the error does not name the key: %v", name, err)
			}
			_, err = w.LocalFile(ctx, ref)
			wantErr(t, err, artifacts.ErrCorrupt)
			wantErr(t, w.VerifyRef(ctx, ref), artifacts.ErrCorrupt)
			if again, err := w.PutFunc(ctx, artifacts.BytesFile(data)); err != nil || again != ref {
				t.Fatalf("%s: repair: %+v, %v", name, again, err)
			}
			if err := w.VerifyRef(ctx, ref); err != nil {
				t.Errorf("%s: after the repair: %v", name, err)
			}
		}
		w.delete(t, ref.Key)
		_, err = w.Open(ctx, ref)
		wantErr(t, err, artifacts.ErrNotFound)
		_, err = w.LocalFile(ctx, ref)
		wantErr(t, err, artifacts.ErrNotFound)
		wantNoTemp(t, filepath.Join(w.cache, "tmp"))
	})
}

func TestLocalFile(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	ref := w.blob(t, "weights")
	gets := 0
	w.get = func(string) error { gets++; return nil }
	local := func() string {
		t.Helper()
		path, err := w.LocalFile(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil || string(data) != "weights" {
			t.Fatalf("local copy: %q, %v", data, err)
		}
		return path
	}
	path := local()
	local()
	if gets != 1 {
		t.Errorf("fetched %d times, want once", gets)
	}
	for _, bad := range []string{"weightz", "", "weights and more"} {
		if err := os.Remove(path); err != nil { // the copy itself is read-only
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		local()
	}
	if gets != 4 {
		t.Errorf("fetched %d times, want once more per corrupt copy", gets)
	}
	var wg sync.WaitGroup
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.get = nil
	for range 8 {
		wg.Go(func() {
			if p, err := w.LocalFile(t.Context(), ref); err != nil || p != path {
				t.Errorf("local copy %s, %v; want %s, fetched again", p, err, path)
			}
		})
	}
	wg.Wait()
	wantNoTemp(t, filepath.Join(w.cache, "tmp"))
}

func TestConcurrentPuts(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		data := storetest.Bytes(2<<20, 3)
		var wg sync.WaitGroup
		refs := make([]artifacts.Ref, 8)
		for i := range refs {
			wg.Go(func() {
				var err error
				if refs[i], err = w.PutFunc(t.Context(), artifacts.BytesFile(data)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, ref := range refs {
			if ref != refs[0] {
				t.Errorf("%+v and %+v", refs[0], ref)
			}
		}
		if err := w.VerifyRef(t.Context(), refs[0]); err != nil {
			t.Error(err)
		}
		if keys := storetest.Keys(t, w.Backend, ""); len(keys) != 1 {
			t.Errorf("stored %q", keys)
		}
	})
}

func TestPutLeavesNothingBehind(t *testing.T) {
	d := openDirectory(t)
	w := newWorld(t, d)
	full := errors.New("no space left on device")
	_, err := w.PutFunc(t.Context(), func(out io.Writer) error {
		_, err := io.WriteString(out, "half")
		return errors.Join(err, full)
	})
	wantErr(t, err, full)
	wantErr(t, d.Put(t.Context(), "a/b", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(full))), full)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.PutFunc(ctx, artifacts.BytesFile([]byte("x")))
	wantErr(t, err, context.Canceled)

	// A file that changes between the two times it is read.
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.put = func(string) { os.WriteFile(path, []byte("after!"), 0o600) }
	_, err = w.PutFile(t.Context(), path)
	wantErr(t, err, artifacts.ErrCorrupt)

	if keys := storetest.Keys(t, d, ""); len(keys) != 0 {
		t.Errorf("stored %q", keys)
	}
	wantNoTemp(t, filepath.Join(w.cache, "tmp"))
	wantNoTemp(t, filepath.Join(d.Location(), ".tmp"))
}

// TestStaleTemporaryFiles: what killed processes left goes, what is being
// written stays.
func TestStaleTemporaryFiles(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "cache", "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]int{"old": -25, "new": -1} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ageFile(path, age); err != nil {
			t.Fatal(err)
		}
	}
	storetest.OpenStore(t, root)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); !slices.Equal(left, []string{filepath.Join(dir, "new")}) {
		t.Errorf("left: %q, want only the file that is young", left)
	}
}

func TestRefsAreChecked(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	good := w.blob(t, "x")
	for _, change := range []func(*artifacts.Ref){
		func(r *artifacts.Ref) { r.Key = "../../etc/passwd" },
		func(r *artifacts.Ref) { r.SHA256 = "../" + r.SHA256[3:] },
		func(r *artifacts.Ref) { r.SHA256 = strings.ToUpper(r.SHA256) },
		func(r *artifacts.Ref) { r.SHA256 = "" },
		func(r *artifacts.Ref) { *r = artifacts.Ref{} },
	} {
		ref := good
		change(&ref)
		_, err := w.Open(t.Context(), ref)
		wantErr(t, err, artifacts.ErrInvalidKey)
		_, err = w.LocalFile(t.Context(), ref)
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
}
