package connect

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// A stack has ended when nobody holds its directory any more, or somebody else
// serves elsewhere; not when it is started anew where it was.
func TestEnded(t *testing.T) {
	dir := t.TempDir()
	hold := func() *datadir.Lock {
		t.Helper()
		l, err := datadir.Acquire(dir)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	publish := func(address string) *Info {
		t.Helper()
		info := &Info{PID: 17, Temporal: address}
		if err := datadir.Publish(dir, info); err != nil {
			t.Fatal(err)
		}
		return info
	}
	lock := hold()
	info := publish("127.0.0.1:1")
	ctx, stop := context.WithCancel(t.Context())
	said := make(chan error, 1)
	go func() { said <- ended(ctx, dir, info, 20*time.Millisecond) }()
	time.Sleep(200 * time.Millisecond) // many looks
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	lock = hold()
	publish("127.0.0.1:1")
	time.Sleep(200 * time.Millisecond)
	stop()
	if err := <-said; err != nil {
		t.Errorf("a stack that was started anew at the same address: %v, want nothing", err)
	}

	publish("127.0.0.1:2")
	if err := ended(t.Context(), dir, info, time.Millisecond); err == nil {
		t.Error("a stack at another address passes for the one that has ended")
	}
	publish("127.0.0.1:1")
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	err := ended(t.Context(), dir, info, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "process 17") || !strings.Contains(err.Error(), dir) {
		t.Errorf("with nobody there: %v, want the process and the directory", err)
	}
}
