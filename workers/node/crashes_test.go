package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/internal/crash"
	"github.com/esclab/esclab/internal/racing"
)

// TestMain crashes where the test asks for a process that does.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ESCLAB_TEST_CRASH"); dir != "" {
		if err := (crashes{dir, "victim"}).report(); err != nil {
			panic(err)
		}
		var nobody *int
		go func() { *nobody = 1 }()
		select {}
	}
	os.Exit(m.Run())
}

// A stage whose process crashed three times is parked, and only that; a process
// that was killed counts for nothing.
func TestCrashesPark(t *testing.T) {
	if racing.Enabled {
		t.Skip("the race detector handles signals by itself")
	}
	dir, scratch := t.TempDir(), t.TempDir()
	c := crashes{dir, "me"}
	fingerprint := strings.Repeat("ab", 32)
	attempt := filepath.Join(scratch, "sft-1")
	if err := os.Mkdir(attempt, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(attempt, activities.AttemptFile), []byte(fingerprint+" sft/vm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.file("killed"), nil, 0o600); err != nil || c.crashed("killed") || c.crashed("stranger") {
		t.Errorf("a process that was killed, or left nothing, counts as crashed (%v)", err)
	}
	for n := range maxCrashes {
		if err := c.parked(fingerprint); err != nil {
			t.Errorf("after %d crashes: %v, want another try", n, err)
		}
		victim := exec.Command(os.Args[0])
		victim.Env = append(os.Environ(), "ESCLAB_TEST_CRASH="+dir)
		said, err := victim.CombinedOutput()
		if err == nil || !c.crashed("victim") {
			t.Fatalf("the victim ends with %v, and its last words are not there", err)
		}
		if code := victim.ProcessState.ExitCode(); code != crash.ExitCode || !strings.Contains(string(said), c.file("victim")) || strings.Count(string(said), "\n") != 1 {
			t.Errorf("exit code %d, said %.300q; want %d and one line that names the file", code, said, crash.ExitCode)
		}
		if words, err := os.ReadFile(c.file("victim")); err != nil || !strings.Contains(string(words), "nil pointer dereference") {
			t.Errorf("its last words are %q (%v), want the runtime's", words, err)
		}
		if err := c.count("victim", scratch); err != nil {
			t.Fatal(err)
		}
	}
	err := c.parked(fingerprint)
	if err == nil || !strings.Contains(err.Error(), "3 attempts have crashed") || !strings.Contains(err.Error(), "remove "+c.record(fingerprint)) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("after %d crashes: %v, want one line with how to try again", maxCrashes, err)
	}
	if err := c.parked(strings.Repeat("cd", 32)); err != nil {
		t.Errorf("another stage: %v", err)
	}
	if err := os.Remove(c.record(fingerprint)); err != nil || c.parked(fingerprint) != nil {
		t.Errorf("after the record was removed it is still parked (%v)", err)
	}
	end, err := LastWords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Errorf("a process that ends by itself: %v", err)
	}
	left := c.file(hostname() + "-999999999") // no process has this number
	for file, stays := range map[string]bool{left: false, c.file(processName()): true, c.file("another-machine-1"): true} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.sweep()
		if _, err := os.Stat(file); (err == nil) != stays {
			t.Errorf("%s is there after a sweep: %t, want %t", filepath.Base(file), err == nil, stays)
		}
	}
}
