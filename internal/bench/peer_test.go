package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Variables of the peers that this test program is itself.
const (
	envPeer    = "ESCLAB_TEST_PEER"     // what TestPeerProgram does: report or wait
	envPeerPID = "ESCLAB_TEST_PEER_PID" // the file that the one that waits writes its process into
)

// thisProgram is a peer that does what the test wants.
func thisProgram(t *testing.T, does string) Peer {
	t.Setenv(envPeer, does)
	return Peer{Command: []string{os.Args[0], "-test.run=^TestPeerProgram$"}, Threads: 1}
}

// TestPeerProgram is the peer: it reports the peak of its memory as programs read it, ru_maxrss, or waits to be killed.
func TestPeerProgram(t *testing.T) {
	switch os.Getenv(envPeer) {
	case "report":
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		fmt.Printf(`{"samples_per_second": 1, "peak_rss_mb": %d}`, usage.Maxrss>>10)
		os.Exit(0)
	case "wait":
		if err := os.WriteFile(os.Getenv(envPeerPID), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		os.Exit(0)
	default:
		t.Skip("the child of TestPeerReportsItsOwnPeak")
	}
}

// TestPeerReportsItsOwnPeak runs a peer that needs little from a process that holds much.
func TestPeerReportsItsOwnPeak(t *testing.T) {
	const ours = 512 << 20
	held, err := syscall.Mmap(-1, 0, ours, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(held) }()
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	r, err := thisProgram(t, "report").Train(t.Context(), "config.json", "data.jsonl", Workload{Name: Equal}, TrainingOptions{Batch: 1, Steps: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.PeakMiB <= 0 || r.PeakMiB >= ours>>21 {
		t.Errorf("the peer's peak is %d MiB beside %d MiB of ours", r.PeakMiB, ours>>20)
	}
}

// TestPeerIsStopped cancels a peer at work: the program has to go, not the shell above it alone.
func TestPeerIsStopped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	t.Setenv(envPeerPID, file)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	peer := thisProgram(t, "wait")
	go func() {
		_, err := peer.Train(ctx, "config.json", "data.jsonl", Workload{Name: Equal}, TrainingOptions{Batch: 1, Steps: 1})
		done <- err
	}()
	var pid int
	for pid == 0 {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-time.After(10 * time.Millisecond):
			data, _ := os.ReadFile(file)
			pid, _ = strconv.Atoi(string(data))
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a peer that was killed: no error")
	}
	for range 500 { // it may be left to be reaped by another
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(state), ") "); !ok || strings.HasPrefix(rest, "Z") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

func TestPeerMissing(t *testing.T) {
	peer := Peer{Command: []string{"no-such-peer"}, Threads: 1}
	if _, err := peer.Generate(t.Context(), "config.json", 1, 1, 1); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "no-such-peer generate --config config.json") {
		t.Errorf("error %v", err)
	}
}
