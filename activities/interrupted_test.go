package activities

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/tfevents"
)

// interruptedSave is a backend that stops the worker within a stage's nth save of
// a checkpoint, which then fails.
type interruptedSave struct {
	artifacts.Backend
	prefix string
	left   int
	stop   chan struct{}
}

func (b *interruptedSave) Put(ctx context.Context, key string, r io.Reader) error {
	if strings.HasPrefix(key, b.prefix) && strings.HasSuffix(key, "/"+stateFile) {
		if b.left--; b.left == 0 {
			close(b.stop)
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return b.Backend.Put(ctx, key, r)
}

// A training whose worker stops while a checkpoint is being saved has saved every
// step that it has made when it ends.
func TestInterruptedSave(t *testing.T) {
	l := tinyLab(t, "checkpoint.every_steps=1")
	l.stop = make(chan struct{})
	fingerprint := l.stages["base"].Fingerprint
	backend := &interruptedSave{storetest.OpenDirectory(t, l.dir+"/store"), "stages/" + fingerprint, 2, l.stop}
	store, err := artifacts.New(backend, artifacts.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l.a.Store = store
	l.every = 1
	l.a.DataDir = l.dir
	if _, err := l.run("base"); err == nil || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("the training ended with %v, want that the worker is stopping", err)
	}
	c, _, err := l.a.Store.LatestCheckpoint(t.Context(), fingerprint)
	if err != nil || c.Step != 2 {
		t.Errorf("step %d is saved (%v), want 2: the save that was interrupted was of that step", c.Step, err)
	}

	// The attempt that goes on appends to the training's curves.
	l.stop = nil
	result, err := l.run("base")
	if err != nil {
		t.Fatal(err)
	}
	record, err := results.Open(t.Context(), l.a.Store, fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := results.ReadRows[results.Step](record, results.FileMetrics)
	if err != nil {
		t.Fatal(err)
	}
	if want := results.Sparkline(steps); result.Sparkline != want || want == "" {
		t.Errorf("the result draws the loss as %q, want that of all steps, %q", result.Sparkline, want)
	}
	f, err := os.Open(filepath.Join(l.dir, LogsDir, "unnamed", "base", fingerprint[:12], tfevents.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got, want []string
	if _, err := tfevents.Read(f, func(e tfevents.Event) {
		for _, s := range e.Scalars {
			got = append(got, fmt.Sprintf("%d %s %.4g", e.Step, s.Tag, s.Value))
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		for _, s := range tfevents.Of(step) {
			want = append(want, fmt.Sprintf("%d %s %.4g", step.Step, s.Tag, float32(s.Value)))
		}
	}
	if len(steps) < 3 || !slices.Equal(got, want) {
		t.Errorf("of %d steps the event file has\n%s\nwant each step of the record once\n%s", len(steps), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A training that goes on elsewhere takes the kernels that the first machine has chosen by timing.
func TestCheckpointCarriesChoices(t *testing.T) {
	l := tinyLab(t, "checkpoint.every_steps=1")
	l.every = 1
	machine := func() string { // one of the type "h200"
		engine, err := lm.EngineOptions{}.Open("go")
		if err != nil {
			t.Fatal(err)
		}
		engine.ChoicesDir = filepath.Join(t.TempDir(), "plugin-h200")
		if err := os.MkdirAll(engine.ChoicesDir, 0o700); err != nil {
			t.Fatal(err)
		}
		l.a.engines.open = map[experiments.Engine]*lm.Engine{"go": engine}
		return engine.ChoicesDir
	}
	choose := func(dir, kernel, choice string) {
		if err := os.WriteFile(filepath.Join(dir, kernel), []byte(choice), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := machine()
	choose(first, "gemm", "split-k 4")
	choose(first, "softmax", "rows 8")
	l.stop = make(chan struct{})
	fingerprint, store := l.stages["base"].Fingerprint, l.a.Store
	backend := &interruptedSave{storetest.OpenDirectory(t, l.dir+"/store"), "stages/" + fingerprint, 2, l.stop}
	var err error
	if l.a.Store, err = artifacts.New(backend, artifacts.Options{CacheDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.run("base"); err == nil || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("the training ended with %v, want that the worker is stopping", err)
	}

	second := machine()
	choose(second, "softmax", "rows 16")
	l.a.Store, l.stop = store, nil
	if _, err := l.run("base"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(second, "gemm")); err != nil || string(got) != "split-k 4" {
		t.Errorf("the second machine's kernel is %q (%v), want the first one's", got, err)
	}
	if !strings.Contains(l.log.String(), `"kernels":1`) {
		t.Errorf("the log does not say that one kernel was chosen differently:\n%s", l.log.String())
	}
}
