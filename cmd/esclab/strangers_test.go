package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Two programs, each with an embedded Temporal of its own, run one experiment over
// one bucket: every stage is computed once, and no attempt loses its lease.
func TestTwoTemporalsOneBucket(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute)
	defer stop()
	there := t.TempDir()
	info, _, down := stackUp(t, ctx, there)
	defer down()
	config := writeFile(t, "shared.yaml", fmt.Sprintf("s3: {endpoint: %q, bucket: shared, region: %s, path_style: true, credentials_file: %q}\nembedded: {ports: {temporal: auto, ui: auto, s3: auto}}\n",
		info.S3.Endpoint, info.S3.Region, info.S3.CredentialsFile))
	var runs []*exec.Cmd
	var logs []*bytes.Buffer
	for range 2 {
		run, log := esclab(t, ctx, "run", "testdata/micro.yaml", "--config", config, "--data", t.TempDir(), "--log", "debug",
			"--set", "methods=base,sft", "--set", "paradigms=vanilla", "--set", "backbone.tiny.pretrain.epochs=60")
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		runs, logs = append(runs, run), append(logs, log)
	}
	computed, ran := map[string]int{}, 0
	for i, run := range runs {
		if err := run.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, logs[i])
		}
		for line := range strings.Lines(logs[i].String()) {
			var entry struct{ Message, Stage, Error string }
			if json.Unmarshal([]byte(line), &entry) != nil {
				continue
			}
			switch entry.Message {
			case "stage done":
				computed[entry.Stage]++
			case "attempt ends":
				ran++
				if entry.Error != "" {
					t.Errorf("an attempt at %s was lost: %s", entry.Stage, entry.Error)
				}
			}
		}
	}
	for stage, times := range computed {
		if times != 1 {
			t.Errorf("%s was computed %d times, want once", stage, times)
		}
	}
	if len(computed) == 0 || ran < len(computed) {
		t.Errorf("%d stages were computed in %d attempts", len(computed), ran)
	}
}
