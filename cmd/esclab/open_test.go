package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/certtest"
)

// A stack that is open has its work done from elsewhere: by a program that knows
// it by its address, its certificates and the store's keys alone.
func TestOpenStackServesAnotherMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	address, here, there := certtest.Outside(t), t.TempDir(), t.TempDir()
	ca := certtest.New(t, t.TempDir())
	ca.Issue(t, "server", address)
	ca.Issue(t, "client")
	config := writeFile(t, "temporal.yaml", fmt.Sprintf(`
embedded:
  ports: {temporal: auto, ui: auto, s3: auto}
  open: {ports: {temporal: auto, s3: auto}, cert: %q, key: %q, client_ca: %q}
`, ca.Path("server.pem"), ca.Path("server.key"), ca.Path("ca.pem")))
	up, _ := esclab(t, ctx, "up", "--data", here, "--config", config, "--listen", address)
	said, wrote := io.Pipe()
	up.Stdout, up.Stderr = nil, wrote
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait(); wrote.Close() }()
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		<-ended
	}()
	temporal, store := "", ""
	lines := bufio.NewScanner(said)
	for log := ""; lines.Scan() && lines.Text() != "ready; Ctrl-C stops"; {
		log += lines.Text() + "\n"
		if rest, ok := strings.CutPrefix(lines.Text(), "open      Temporal "); ok {
			temporal, _, _ = strings.Cut(rest, ",")
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "open      store "); ok {
			store, _, _ = strings.Cut(rest, ",")
		}
		if strings.Contains(lines.Text(), "error") {
			t.Log(log)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if !strings.HasPrefix(temporal, address+":") || !strings.HasPrefix(store, "https://"+address+":") {
		t.Fatalf("up says that Temporal is open at %q and the store at %q", temporal, store)
	}

	keys, err := os.ReadFile(filepath.Join(here, "s3-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	// Queues of its own, so that the other machine does the work.
	other := fmt.Sprintf(`
temporal: {address: %q, tls: {ca: %q, cert: %q, key: %q}}
s3: {endpoint: %q, credentials_file: %q, tls: {ca: %q}}
embedded: {mode: "off"}
task_queues: {control: far-control, cpu: far-cpu, gpu: far-gpu}
`, temporal, ca.Path("ca.pem"), ca.Path("client.pem"), ca.Path("client.key"), store, writeFile(t, "keys", string(keys)), ca.Path("ca.pem"))
	run, log := esclab(t, ctx, "run", "testdata/micro.yaml", "--config", writeFile(t, "other.yaml", other), "--data", there,
		"--set", "methods=base", "--set", "paradigms=vanilla", "--set", "backbone.tiny.pretrain.epochs=2")
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if found, _ := filepath.Glob(filepath.Join(here, "s3", "esclab", "stages", "*", "manifest.json")); len(found) != 19 {
		t.Errorf("%d artifacts in the open store, want 19\n%s", len(found), log)
	}
	refused, log := esclab(t, ctx, "status", "--data", there, "--config", writeFile(t, "none.yaml",
		strings.Replace(other, fmt.Sprintf(", cert: %q, key: %q", ca.Path("client.pem"), ca.Path("client.key")), "", 1)))
	if err := refused.Run(); err == nil || refused.ProcessState.ExitCode() != exitUnreachable || !strings.Contains(log.String(), "does it ask for cert and key?") {
		t.Errorf("without a certificate: %v\n%s", err, log)
	}
}

// Nothing is opened without certificates.
func TestUpRefusesToListenWithoutTLS(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c, log := esclab(t, t.Context(), "up", "--data", data, "--listen", "0.0.0.0")
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), "embedded.open: cert and key and client_ca not set") {
		t.Errorf("%v\n%s", err, log)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the stack began to start")
	}
}
