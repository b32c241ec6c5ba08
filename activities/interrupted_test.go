package activities

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
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
	if _, err := l.run("base"); err == nil || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("the training ended with %v, want that the worker is stopping", err)
	}
	c, _, err := l.a.Store.LatestCheckpoint(t.Context(), fingerprint)
	if err != nil || c.Step != 2 {
		t.Errorf("step %d is saved (%v), want 2: the save that was interrupted was of that step", c.Step, err)
	}
}
