package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(dir)
	if err != nil || l.Predecessor != 0 {
		t.Fatalf("lock %+v, %v; want no predecessor", l, err)
	}
	// The lock outlives the last reference to it.
	l = nil
	runtime.GC()
	runtime.GC()
	if pid, err := Running(dir); err != nil || pid != os.Getpid() {
		t.Errorf("Running: %d, %v", pid, err)
	}
	var inUse *InUseError
	if _, err := Acquire(dir); !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("second: %v", err)
	}
}

func TestReleaseAndPredecessor(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		l, err := Acquire(dir)
		if err != nil || l.Predecessor != 0 {
			t.Fatalf("lock %+v, %v; want no predecessor after a release", l, err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
	// A PID that nobody removed, and a description that no one withdrew, are a
	// crash's.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, LockFile), []byte("4242\n"), 0o600), Publish(dir, &Info{PID: 4242})); err != nil {
		t.Fatal(err)
	}
	if pid, err := Running(dir); err != nil || pid != 0 {
		t.Errorf("a dead process runs: %d, %v", pid, err)
	}
	l, err := Acquire(dir)
	if err != nil || l.Predecessor != 4242 {
		t.Errorf("lock %+v, %v; want predecessor 4242", l, err)
	}
	if _, err := Read(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stale description: %v", err)
	}
}

func TestRunningNowhere(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if pid, err := Running(dir); pid != 0 || err != nil {
			t.Errorf("%s: %d, %v", dir, pid, err)
		}
	}
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	if err := Publish(dir, &Info{PID: 3, S3: &S3{Bucket: "b"}}); err != nil {
		t.Fatal(err)
	}
	if info, err := Read(dir); err != nil || info.PID != 3 || info.S3.Bucket != "b" {
		t.Errorf("read %+v, %v; want what was published", info, err)
	}
	if info, err := os.Stat(filepath.Join(dir, InfoFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v; want mode 0600", info, err)
	}
	if err := errors.Join(Withdraw(dir), Withdraw(dir)); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := os.WriteFile(filepath.Join(dir, InfoFile), []byte(`{"pid": 3`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("cut short: %v", err)
	}
}

func TestPrepare(t *testing.T) {
	parent := t.TempDir()
	mode := func(dir string) os.FileMode {
		t.Helper()
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	fresh := filepath.Join(parent, "a", "b")
	if err := Prepare(fresh); err != nil || mode(fresh) != 0o700 {
		t.Errorf("new: %v, %v", mode(fresh), err)
	}
	for name, file := range map[string]string{"empty": "", "ours": LockFile} {
		dir := filepath.Join(parent, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		if file != "" {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Prepare(dir); err != nil || mode(dir) != 0o700 {
			t.Errorf("%s: %v, %v", name, mode(dir), err)
		}
	}
	if os.Getuid() != 0 { // modes do not bind root
		dir := filepath.Join(parent, "sealed")
		if err := os.Mkdir(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "not writable") {
			t.Errorf("sealed: %v", err)
		}
	}
}
