package whole

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	for _, f := range []string{path, other} {
		if err := Write(f, Public, []byte("before")); err != nil {
			t.Fatal(err)
		}
	}
	torn := errors.New("torn")
	err := Create(path, Private, func(w io.Writer) error {
		_, _ = w.Write([]byte("hal"))
		if data, err := os.ReadFile(path); err != nil || string(data) != "before" {
			t.Errorf("while it is written, a reader sees %q, %v; want the file of before", data, err)
		}
		return torn
	})
	if data, _ := os.ReadFile(path); !errors.Is(err, torn) || string(data) != "before" {
		t.Errorf("a write that fails gives %v and leaves %q, want the file of before", err, data)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, Private, []byte("after")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != Private {
		t.Errorf("the file has mode %v (%v), want a regular one of %v", info.Mode(), err, Private)
	}
	if data, _ := os.ReadFile(other); string(data) != "before" {
		t.Errorf("what a link led to was written: %q", data)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("%d files, want no temporary one left behind", len(entries))
	}
}
