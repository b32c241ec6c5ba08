package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
)

// testTidy verifies a finished run's blobs, damages one, and collects garbage,
// as a user does.
func testTidy(t *testing.T, ctx context.Context, data string) {
	type audited struct{ artifacts.Audited }
	verify := func(args ...string) (audited, error) {
		t.Helper()
		c, log := esclab(t, ctx, append([]string{"verify", "--json", "--data", data}, args...)...)
		var out bytes.Buffer
		c.Stdout = &out
		err := c.Run()
		var a audited
		if parse := json.Unmarshal(out.Bytes(), &a); parse != nil {
			t.Fatalf("%v\n%s", parse, log)
		}
		return a, err
	}
	whole, err := verify("micro")
	if err != nil || whole.Stages < 39 || whole.Unfinished != 0 || whole.Blobs < 39 || len(whole.Damaged) != 0 {
		t.Errorf("%+v, %v", whole, err)
	}
	bucket := filepath.Join(data, "s3", "esclab")
	blobs, err := filepath.Glob(filepath.Join(bucket, "blobs", "sha256", "*", "*"))
	if err != nil || len(blobs) < whole.Blobs {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	good, err := os.ReadFile(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[0] ^= 1
	if err := os.WriteFile(blobs[0], bad, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := verify("--all")
	if err == nil || len(said.Damaged) == 0 || filepath.Base(said.Damaged[0].Key) != filepath.Base(blobs[0]) {
		t.Errorf("a flipped bit: %+v, %v", said, err)
	}
	c, log := esclab(t, ctx, "verify", "micro", "--data", data)
	if c.Run() == nil || c.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), "s3://esclab/"+said.Damaged[0].Key) || !strings.Contains(log.String(), "run the experiment again: the stage is made anew") {
		t.Errorf("exit code %d:\n%s", c.ProcessState.ExitCode(), log)
	}
	if err := os.WriteFile(blobs[0], good, 0o600); err != nil {
		t.Fatal(err)
	}

	orphan := filepath.Join(bucket, "blobs", "sha256", "00", strings.Repeat("0", 64))
	if err := os.MkdirAll(filepath.Dir(orphan), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(orphan, []byte("nobody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := output(t, ctx, "", "gc", "--data", data); strings.Contains(out, artifacts.GarbageBlob) {
		t.Errorf("what is young went:\n%s", out)
	}
	c, log = esclab(t, ctx, "gc", "--older-than", "1s", "--data", data)
	if c.Run() == nil || c.ProcessState.ExitCode() != 2 || !strings.Contains(log.String(), "--force") {
		t.Errorf("below an hour without --force: exit code %d\n%s", c.ProcessState.ExitCode(), log)
	}
	if out := output(t, ctx, "", "gc", "--older-than", "0s", "--dry-run", "--list", "--data", data); !strings.Contains(out, "\t8\tblobs/sha256/00/") {
		t.Errorf("dry run:\n%s", out)
	}
	if _, err := os.Stat(orphan); err != nil {
		t.Errorf("a dry run removes: %v", err)
	}
	if out := output(t, ctx, "", "gc", "--older-than", "0s", "--force", "--data", data); !strings.Contains(out, artifacts.GarbageBlob) || !strings.Contains(out, "REMOVED") && !strings.Contains(out, "removed") {
		t.Errorf("gc:\n%s", out)
	}
	if _, err := os.Stat(orphan); err == nil {
		t.Error("the orphan is still there")
	}
	if again, err := verify("micro"); err != nil || again.Blobs != whole.Blobs {
		t.Errorf("after gc: %+v, %v", again, err)
	}
}
