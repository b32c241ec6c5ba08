package artifacts_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/esclab/esclab/artifacts"
)

func TestFiles(t *testing.T) {
	b := openDirectory(t)
	for _, key := range []string{"config.json", "model.safetensors", "below/other.json"} {
		if err := b.Put(t.Context(), key, strings.NewReader("content of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	files := artifacts.Files(t.Context(), b)
	if err := fstest.TestFS(files, "config.json", "model.safetensors"); err != nil {
		t.Error(err)
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil || len(entries) != 2 {
		t.Errorf("entries %v, %v; want the two files without a slash", entries, err)
	}
	for _, name := range []string{"absent", "below/other.json", ".hidden", "../x"} {
		if _, err := files.Open(name); err == nil {
			t.Errorf("%s opens", name)
		}
	}
	if _, err := files.Open("absent"); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}
