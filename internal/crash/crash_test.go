//go:build cgo

package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/esclab/esclab/internal/crash/internal/faults"
	"github.com/esclab/esclab/internal/racing"
)

// envCrash makes the test binary crash; its value says how and where its file is.
const envCrash = "ESCLAB_TEST_CRASH"

var hog [][]byte

var ways = []struct {
	name, words string // what the file says
	stacks      bool   // and whether it has those of goroutines
	crash       func()
}{
	{"panic in a goroutine of its own", "panic: on purpose", true, func() { go panic("on purpose"); select {} }},
	{"nil pointer", "nil pointer dereference", true, func() { var nobody *int; *nobody = 1 }},
	{"fatal error of the runtime", "fatal error: concurrent map", true, func() {
		m := map[int]int{}
		for range 4 {
			go func() {
				for i := 0; ; i++ {
					m[i%100] = i
				}
			}()
		}
		select {}
	}},
	{"no memory", "fatal error: ", true, func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 1 << 28, Max: 1 << 28}); err != nil {
			panic(err)
		}
		for {
			hog = append(hog, make([]byte, 1<<26))
		}
	}},
	{"stack overflow", "stack overflow", true, func() {
		debug.SetMaxStack(1 << 20)
		var deeper func(int) int
		deeper = func(n int) int { return deeper(n+1) + 1 }
		deeper(0)
	}},
	{"fault in C", "SIGSEGV in C code, address 0x8", true, faults.Fault},
	{"fault on a thread of C", "SIGSEGV in C code, address 0x8", false, func() { faults.FaultOnThread(); select {} }},
	{"abort in C", "SIGABRT", true, faults.Abort},
}

func TestMain(m *testing.M) {
	name, path, crashes := strings.Cut(os.Getenv(envCrash), "|")
	if !crashes {
		os.Exit(m.Run())
	}
	f, err := os.Create(path)
	if err != nil {
		panic(err)
	}
	if err := Report(f, "one line"); err != nil {
		panic(err)
	}
	f.Close()
	for range 200 {
		go func() { select {} }() // each has a stack to show
	}
	if name == "none" {
		if err := End(); err != nil {
			panic(err)
		}
		ways[0].crash()
	}
	for _, w := range ways {
		if w.name == name {
			w.crash()
		}
	}
}

// However a process crashes: one line, an exit code, and the stacks in the file.
func TestReport(t *testing.T) {
	if racing.Enabled {
		t.Skip("the race detector handles signals by itself")
	}
	run := func(name string) (said string, code int, words string) {
		path := filepath.Join(t.TempDir(), "crash.txt")
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), envCrash+"="+name+"|"+path, "GODEBUG=", "GOTRACEBACK=")
		var stderr strings.Builder
		c.Stderr = &stderr
		_ = c.Run() // the exit code is looked at
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return stderr.String(), c.ProcessState.ExitCode(), string(raw)
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			said, code, words := run(w.name)
			if said != "one line\n" || code != ExitCode {
				t.Errorf("exit code %d and %d lines on standard error, want code %d and one line: %.300s", code, strings.Count(said, "\n"), ExitCode, said)
			}
			if !strings.Contains(words, w.words) || w.stacks != strings.Contains(words, "goroutine ") {
				t.Errorf("the file has to name %q, stacks: %t; it says: %.300s", w.words, w.stacks, words)
			}
		})
	}
	if said, code, words := run("none"); code == ExitCode || !strings.Contains(said, "on purpose") || words != "" {
		t.Errorf("after End: exit code %d, %d bytes in the file, said %.100q; want the runtime's own end", code, len(words), said)
	}
}
