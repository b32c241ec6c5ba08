package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envPause makes the pause of TestPause so long, such as 60s, and the heartbeat
// timeout what it is by default.
const envPause = "ESCLAB_TEST_PAUSE"

// A run that is stopped as by Ctrl-Z goes on where it was, and so does whoever follows
// it; when its stack dies, they end and say what to type.
func TestPause(t *testing.T) {
	if testing.Short() {
		t.Skip("stops processes for some seconds")
	}
	pause, heartbeat := 15*time.Second, "7s" // the shortest there is
	if text := os.Getenv(envPause); text != "" {
		var err error
		if pause, err = time.ParseDuration(text); err != nil {
			t.Fatalf("$%s: %v", envPause, err)
		}
		heartbeat = "60s"
	}
	ctx, stop := context.WithTimeout(t.Context(), 9*time.Minute)
	defer stop()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	config := writeFile(t, "temporal.yaml", `temporal: {heartbeat: `+heartbeat+`}
embedded: {ports: {temporal: auto, ui: auto, s3: auto}}`)
	begin := func(log string, args ...string) *exec.Cmd {
		t.Helper()
		c, _ := esclab(t, ctx, append(args, "--data", data)...)
		c.Env = append(c.Env, "ESCLAB_CONFIG="+config)
		f, err := os.Create(filepath.Join(dir, log))
		if err != nil {
			t.Fatal(err)
		}
		c.Stdout, c.Stderr = f, f
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		return c
	}
	said := func(log string) string {
		raw, err := os.ReadFile(filepath.Join(dir, log))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	await := func(log, text string) {
		t.Helper()
		for !strings.Contains(said(log), text) {
			if time.Sleep(50 * time.Millisecond); ctx.Err() != nil || strings.Contains(said(log), "esclab: ") {
				t.Fatalf("%s never says %q:\n%s", log, text, said(log))
			}
		}
	}
	experiment := []string{"run", "testdata/micro.yaml", "--set", "paradigms=vanilla", "--set", "methods=base"}
	long := []string{"--set", "backbone.tiny.pretrain.epochs=1000", "--set", "backbone.tiny.pretrain.batch_size=1"}

	t.Run("goes on", func(t *testing.T) {
		run := begin("run", append(experiment, "--set", "backbone.tiny.pretrain.epochs=30", "--set", "backbone.tiny.pretrain.batch_size=1")...)
		await("run", "base                       running")
		status := begin("status", "status", "micro")
		await("status", "base                       running")
		joined := begin("joined", append(experiment, "--set", "backbone.tiny.pretrain.epochs=30", "--set", "backbone.tiny.pretrain.batch_size=1")...)
		await("joined", "base                       running")
		for _, signal := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGSTOP} {
			if err := run.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause) // followers see a stack without an answer meanwhile
			if err := run.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		for log, c := range map[string]*exec.Cmd{"run": run, "status": status, "joined": joined} {
			if err := c.Wait(); err != nil {
				t.Errorf("%s: %v, want a run that is done\n%s", log, err, said(log))
			}
		}
		t.Log(said("run"))
	})
	t.Run("ends", func(t *testing.T) {
		run := begin("run2", append(experiment, long...)...)
		await("run2", "base                       running")
		status, joined := begin("status2", "status", "micro"), begin("joined2", append(experiment, long...)...)
		await("status2", "base                       running")
		await("joined2", "base                       running")
		if err := run.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = run.Wait()
		for _, c := range []struct {
			log, again string
			*exec.Cmd
		}{{"status2", "has ended: go on with: esclab up --data " + data, status}, {"joined2", "has ended: go on with: esclab run testdata/micro.yaml --set paradigms=vanilla", joined}} {
			_ = c.Wait() // the exit code is looked at
			lines := strings.Split(strings.TrimSpace(said(c.log)), "\n")
			if got := c.ProcessState.ExitCode(); got != exitUnreachable || !strings.Contains(lines[len(lines)-1], c.again) {
				t.Errorf("%s: exit code %d, want %d and at last %q:\n%s", c.log, got, exitUnreachable, c.again, said(c.log))
			}
		}
	})
}
