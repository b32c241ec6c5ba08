package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/esclab/esclab/internal/crash"
	"github.com/esclab/esclab/internal/racing"
)

// A stack that crashes says so in one line, by an exit code of its own, and leaves
// its stacks in a file; one that is stopped leaves nothing.
func TestCrash(t *testing.T) {
	if racing.Enabled {
		t.Skip("the race detector handles signals by itself")
	}
	data := t.TempDir()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGABRT} {
		want := exitOK
		if signal == syscall.SIGABRT {
			want = crash.ExitCode
		}
		up, _ := esclab(t, t.Context(), "up", "--data", data, "--log", "error")
		up.Stderr = nil
		said, err := up.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(said)
		for lines.Scan() && lines.Text() != "ready; Ctrl-C stops" {
		}
		if err := up.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		var last []string
		for lines.Scan() {
			last = append(last, lines.Text())
		}
		_ = up.Wait() // the exit code is looked at
		if got := up.ProcessState.ExitCode(); got != want {
			t.Errorf("%v: exit code %d, want %d: %.500q", signal, got, want, last)
		}
		files, err := filepath.Glob(filepath.Join(data, "crashes", "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if signal == syscall.SIGTERM {
			if len(files) > 0 {
				t.Errorf("a stack that was stopped has left %q", files)
			}
			continue
		}
		if len(files) != 1 {
			t.Fatalf("crash files: %q, want one", files)
		}
		if len(last) != 1 || !strings.Contains(last[0], files[0]) {
			t.Errorf("the last words are %.500q, want one line that names %s", last, files[0])
		}
		if words, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(words), "goroutine ") {
			t.Errorf("%s holds %.300q (%v), want the stacks", files[0], words, err)
		}
	}
}
