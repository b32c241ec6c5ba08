package artifacts_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func TestRunFiles(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		runs := []string{"../../etc", "demo", "sweep/2 é", "%2F"}
		for _, run := range runs {
			for _, name := range []string{"report/table 1.md", "plan.json"} {
				for _, content := range []string{"old", run + name} {
					ref, err := w.PutRunFile(ctx, run, name, []byte(content))
					if err != nil {
						t.Fatal(err)
					}
					if data, err := w.ReadAll(ctx, ref, 100); err != nil || string(data) != content {
						t.Errorf("by reference: %q, %v", data, err)
					}
				}
				if data, err := w.GetRunFile(ctx, run, name); err != nil || string(data) != run+name {
					t.Errorf("%s %s: %q, %v", run, name, data, err)
				}
			}
			if files, err := w.ListRunFiles(ctx, run); err != nil || !slices.Equal(files, []string{"plan.json", "report/table 1.md"}) {
				t.Errorf("files of %s: %q, %v", run, files, err)
			}
		}
		slices.Sort(runs)
		if got, err := w.ListRuns(ctx); err != nil || !slices.Equal(got, runs) {
			t.Errorf("runs %q, %v", got, err)
		}
		for _, key := range storetest.Keys(t, w.Backend, "") {
			if !strings.HasPrefix(key, "runs/") || artifacts.ValidKey(key) != nil {
				t.Errorf("key %q", key)
			}
		}
		_, err := w.GetRunFile(ctx, "demo", "none")
		wantErr(t, err, artifacts.ErrNotFound)
		w.flip(t, "runs/demo/plan.json", 1)
		_, err = w.GetRunFile(ctx, "demo", "plan.json")
		wantErr(t, err, artifacts.ErrCorrupt)
		w.delete(t, "runs/demo/report/table%201.md.sha256")
		_, err = w.GetRunFile(ctx, "demo", "report/table 1.md")
		wantErr(t, err, artifacts.ErrCorrupt)
	})
}

func TestRunFileNames(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	for _, c := range [][2]string{{"", "a"}, {"run", ""}, {"run", "../up"}, {"run", "a/../../b"}, {"run", "/abs"}, {"run", "a//b"}, {"run", "a/."}, {"run", "a.sha256"}} {
		_, err := w.PutRunFile(t.Context(), c[0], c[1], nil)
		wantErr(t, err, artifacts.ErrInvalidKey)
		_, err = w.GetRunFile(t.Context(), c[0], c[1])
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
	if keys := storetest.Keys(t, w.Backend, ""); len(keys) != 0 {
		t.Errorf("stored %q", keys)
	}
}
