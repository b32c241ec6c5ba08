package stack_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// envVictim makes the test binary a process that TestKill9 kills: its value is
// the data directory.
const envVictim = "ESCLAB_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// victim starts a stack, a workflow and an object, says so, and keeps writing
// until it is killed.
func victim(dir string) error {
	ctx := context.Background()
	s, err := stack.Start(ctx, options(dir))
	if err != nil {
		return err
	}
	at, err := s.Temporal()
	if err != nil {
		return err
	}
	c, err := connect.Dial(ctx, at, zerolog.Nop())
	if err != nil {
		return err
	}
	p := s.S3()
	objects := p.Client()
	for i := 0; ; i++ {
		id, body := fmt.Sprint("w", i), []byte(strings.Repeat(fmt.Sprintln(i), 1000))
		if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: "q"}, "never", i); err != nil {
			return err
		}
		if _, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &p.Bucket, Key: &id, Body: bytes.NewReader(body)}); err != nil {
			return err
		}
		fmt.Println("wrote", i)
	}
}

// Whatever the process had acknowledged when it was killed with SIGKILL, in the
// middle of writing, is there after a restart.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envVictim+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for lines := bufio.NewScanner(out); last < 20 && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "wrote %d", &last)
	}
	if last < 20 {
		t.Fatalf("the process ended after %d writes: %v", last, cmd.Wait())
	}
	// While it lives, others find its stack and cannot start one.
	info, err := connect.Discover(ctx, dir)
	if err != nil || info.PID != cmd.Process.Pid {
		t.Errorf("Discover: %+v, %v", info, err)
	}
	if _, err := stack.Start(ctx, options(dir)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", cmd.Process.Pid)) {
		t.Errorf("start beside it: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()

	var log bytes.Buffer
	o := options(dir)
	o.Log = zerolog.New(&log)
	s := start(t, o)
	if !strings.Contains(log.String(), fmt.Sprintf(`"pid":%d`, cmd.Process.Pid)) {
		t.Errorf("no word of the dead predecessor: %s", log.String())
	}
	c := dial(t, s)
	for i := range last + 1 {
		id := fmt.Sprint("w", i)
		if status := statusOf(t, c, id); status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			t.Errorf("workflow %s is %v", id, status)
		}
		if got, want := read(t, s.S3(), id), strings.Repeat(fmt.Sprintln(i), 1000); got != want {
			t.Errorf("object %s has %d bytes, want %d", id, len(got), len(want))
		}
	}
	// And the recovered server goes on.
	if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "after", TaskQueue: "q"}, "never"); err != nil {
		t.Error(err)
	}
}
