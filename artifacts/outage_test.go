package artifacts_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// TestServiceKilled kills the service with SIGKILL at moments that a seed
// chooses, while stages write, and starts it again: what was acknowledged is
// there, and nothing else counts.
func TestServiceKilled(t *testing.T) {
	g := storetest.StartProcess(t, t.TempDir(), "")
	c := g.Config()
	c.MaxBackoff, c.MaxAttempts, c.PartBytes = 5*time.Millisecond, 3, 5<<20
	u := &unwell{gateway: g, config: c, store: newWorld(t, g.Open(t, c))}
	u.direct = u.store
	const stages = 3
	refs := make([]artifacts.ArtifactRef, stages)
	var wg sync.WaitGroup
	working := make(chan struct{})
	for n := range stages {
		wg.Go(func() { refs[n] = u.stubborn(t, fmt.Sprint("killed", n)) })
	}
	go func() { wg.Wait(); close(working) }()
	kills := 0
	for pause := 30 * time.Millisecond; ; pause = (pause*7 + 11*time.Millisecond) % (120 * time.Millisecond) {
		select {
		case <-working:
		case <-time.After(pause):
			if kills < 8 {
				g.Kill()
				kills++
				g.Restart(t)
			}
			continue
		}
		break
	}
	if kills == 0 {
		t.Error("nothing was killed")
	}
	for _, ref := range refs {
		if err := whole(t.Context(), u.store.Store, ref); err != nil {
			t.Errorf("an acknowledged artifact after %d kills: %v", kills, err)
		}
	}
	if audit, err := u.store.AuditAll(t.Context(), nil, nil); err != nil || len(audit.Damaged) != 0 {
		t.Errorf("after %d kills: %+v, %v", kills, audit, err)
	}
}

// smallDisk mounts a tmpfs of some MiB, or skips the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("a small file system can be mounted by root only")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullStore: a store that is full is one error that names the key and says
// what to do; nothing half-written stays, what was acknowledged is there, and
// work goes on when there is room again.
func TestFullStore(t *testing.T) {
	dir := smallDisk(t, 30)
	root, sidecar := filepath.Join(dir, "root"), filepath.Join(dir, "meta")
	for _, d := range []string{root, sidecar} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if exec.Command("setfattr", "-n", "user.t", "-v", "1", root).Run() == nil || syscall.Setxattr(root, "user.t", []byte("1"), 0) == nil {
		sidecar = ""
	}
	g := storetest.StartProcess(t, root, sidecar)
	c := g.Config()
	c.MaxBackoff, c.PartBytes = 5*time.Millisecond, 5<<20
	w := newWorld(t, g.Open(t, c))
	l := w.acquire(t, artifacts.Claim{Keep: 5})
	acknowledged := int64(0)
	var full error
	for step := int64(1); step <= 8 && full == nil; step++ {
		_, err := l.SaveCheckpoint(t.Context(), step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile(storetest.Bytes(6<<20, uint64(step)))})
		if err != nil {
			full = err
		} else {
			acknowledged = step
		}
	}
	if full == nil || acknowledged < 2 {
		t.Fatalf("%d checkpoints of 6 MiB on 30 MiB, %v", acknowledged, full)
	}
	for _, want := range []string{"checkpoints/", "free space", w.hooks.Backend.Location()} {
		if !strings.Contains(full.Error(), want) {
			t.Errorf("%q is not in: %v", want, full)
		}
	}
	if c, skipped, err := w.LatestCheckpoint(t.Context(), fingerprint("stage")); err != nil || c.Step != acknowledged || len(skipped) > 1 {
		t.Errorf("latest is %d, %d was acknowledged; skipped %v, %v", c.Step, acknowledged, skipped, err)
	}
	for step := int64(1); step < acknowledged; step++ {
		w.delete(t, checkpointKey(step, 1, "marker.json"))
		w.delete(t, checkpointKey(step, 1, "state"))
	}
	save(t, l, 9, "there is room again")
	if step, _ := latest(t, w); step != 9 {
		t.Errorf("latest is %d", step)
	}
}

// TestFullCache: a full cache directory fails the one thing that needs it, says
// which directory it is, and leaves nothing behind.
func TestFullCache(t *testing.T) {
	backend := openDirectory(t)
	cache := smallDisk(t, 4)
	s, err := artifacts.New(backend, artifacts.Options{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	big := storetest.Bytes(6<<20, 1)
	_, err = s.PutFunc(t.Context(), artifacts.BytesFile(big))
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space for "+cache) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("put", err)
	ref := newWorld(t, backend).blob(t, string(big)) // by way of another cache
	_, err = s.LocalFile(t.Context(), ref)
	check("local file", err)
	wantNoTemp(t, filepath.Join(cache, "tmp"))
	small, err := s.PutFunc(t.Context(), artifacts.BytesFile([]byte("small")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LocalFile(t.Context(), small); err != nil {
		t.Error(err)
	}
}
