package stack_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esclab/esclab/workers/stack/connect"
)

// Whatever a data directory is called, everything lies in it, and is found there
// by the next stack.
func TestDataDirectoryNames(t *testing.T) {
	for _, name := range []string{
		"what?mode=memory#1 of my labs", "100% %41%2f;a&b=c+d,e:f@g", `back\slash "quoted" [*] $HOME ~`, "日本 ünïcode\ntwo lines",
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, name)
			for _, round := range []string{"first", "second"} {
				s := start(t, options(dir))
				if round == "first" {
					put(t, s.S3(), "kept", "bytes")
				}
				if check := connect.CheckTemporal(t.Context(), resolve(t, dir).Temporal, options(dir).SearchAttributes); check.Status != connect.OK {
					t.Errorf("%s stack: %+v", round, check)
				}
				if got := read(t, s.S3(), "kept"); got != "bytes" {
					t.Errorf("%s stack: the object holds %q", round, got)
				}
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			if beside := names(t, parent); !slices.Equal(beside, []string{name}) {
				t.Errorf("beside the data directory lie %q", beside)
			}
			for _, file := range []string{"temporal.db", "s3", "s3-credentials", "logs", "lock"} {
				if !slices.Contains(names(t, dir), file) {
					t.Errorf("%s is not in the data directory: %q", file, names(t, dir))
				}
			}
			if info, err := os.Stat(filepath.Join(dir, "temporal.db")); err != nil || info.Size() < 4096 {
				t.Errorf("the database: %v, %v; want that it holds a schema", info, err)
			}
		})
	}
}

// names lists a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
