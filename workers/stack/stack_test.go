package stack_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

func TestStackEndToEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s := start(t, options(dir))
	t.Logf("ready in %v", time.Since(began).Round(time.Millisecond))

	t.Run("keeps the working directory", func(t *testing.T) {
		if now, err := os.Getwd(); err != nil || now != wd {
			t.Errorf("working directory is %s, was %s (%v)", now, wd, err)
		}
	})
	t.Run("modes", func(t *testing.T) {
		for path, want := range map[string]os.FileMode{"": 0o700, "s3-credentials": 0o600, "temporal-key": 0o600, "stack.json": 0o600, "s3": 0o700} {
			info, err := os.Stat(filepath.Join(dir, path))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, want %v (%v)", path, info.Mode().Perm(), want, err)
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, "stack.json"))
		if err != nil || bytes.Contains(data, []byte(s.S3().Credentials.SecretKey)) {
			t.Errorf("stack.json holds the secret, or %v", err)
		}
	})
	t.Run("loopback only", func(t *testing.T) { loopbackOnly(t) })
	t.Run("checks", func(t *testing.T) {
		target := resolve(t, dir)
		for _, c := range []connect.Check{
			connect.CheckTemporal(t.Context(), target.Temporal, options(dir).SearchAttributes),
			connect.CheckS3(t.Context(), target.S3),
			connect.CheckDisk(dir),
		} {
			if c.Status == connect.Fail || c.Name != "disk" && c.Status != connect.OK {
				t.Errorf("check %+v, want it to pass", c)
			}
		}
	})
	t.Run("web UI", func(t *testing.T) { testWebUI(t, s, resolve(t, dir)) })
	t.Run("access", func(t *testing.T) { testAccess(t, s, dir) })
	t.Run("workflow with search attributes", func(t *testing.T) {
		c := dial(t, s)
		w := worker.New(c, "q", worker.Options{})
		w.RegisterWorkflowWithOptions(tag, workflow.RegisterOptions{Name: "tag"})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "tag", TaskQueue: "q"}, "tag", "dpo/sp")
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := run.Get(t.Context(), &got); err != nil || got != "dpo/sp" {
			t.Fatalf("workflow: %q, %v; want dpo/sp", got, err)
		}
		waitFor(t, func() error {
			list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: `Stage = "dpo/sp" AND Seed = 7`})
			if err == nil && len(list.Executions) != 1 {
				err = fmt.Errorf("%d executions found", len(list.Executions))
			}
			return err
		})
	})
	t.Run("second process", func(t *testing.T) {
		_, err := stack.Start(t.Context(), options(dir))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
			t.Errorf("second start: %v", err)
		}
		oneLine(t, err)
		// And it did not disturb the first.
		resolve(t, dir)
	})
	t.Run("stop", func(t *testing.T) {
		began := time.Now()
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped in %v", time.Since(began).Round(time.Millisecond))
		for _, address := range []string{s.Info().Temporal, strings.TrimPrefix(s.Info().UI, "http://"), strings.TrimPrefix(s.S3().Endpoint, "http://")} {
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				t.Errorf("%s still answers", address)
			}
		}
		if _, err := connect.Discover(t.Context(), dir); !errors.Is(err, connect.ErrNotRunning) {
			t.Errorf("Discover: %v", err)
		}
	})
}

func tag(ctx workflow.Context, stage string) (string, error) {
	err := workflow.UpsertTypedSearchAttributes(ctx,
		sdktemporal.NewSearchAttributeKeyKeyword("Stage").ValueSet(stage),
		sdktemporal.NewSearchAttributeKeyInt64("Seed").ValueSet(7))
	return stage, err
}

// A restart finds the histories and objects of the stack before, keeps its
// credentials, and registers search attributes that were added to the settings.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.SearchAttributes = map[string]string{"Stage": "Keyword"}
	s := start(t, o)
	credentials := s.S3().Credentials
	c := dial(t, s)
	if _, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "q"}, "never", "input"); err != nil {
		t.Fatal(err)
	}
	put(t, s.S3(), "a/b/c", "content")
	c.Close()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	o.SearchAttributes = map[string]string{"Stage": "Keyword", "Seed": "Int"}
	o.Retention += 24 * time.Hour
	s = start(t, o)
	if s.S3().Credentials != credentials {
		t.Error("new credentials")
	}
	if got := read(t, s.S3(), "a/b/c"); got != "content" {
		t.Errorf("object: %q", got)
	}
	c = dial(t, s)
	if status := statusOf(t, c, "kept"); status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("workflow is %v", status)
	}
	described, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
	if err != nil || described.Config.WorkflowExecutionRetentionTtl.AsDuration() != o.Retention {
		t.Errorf("retention: %v, %v", described.GetConfig(), err)
	}
	// The added attribute can be used at once.
	_, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "tagged", TaskQueue: "q",
		TypedSearchAttributes: sdktemporal.NewSearchAttributes(sdktemporal.NewSearchAttributeKeyInt64("Seed").ValueSet(3)),
	}, "never")
	if err != nil {
		t.Errorf("start with an added search attribute: %v", err)
	}
	c.Close()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	o.SearchAttributes = map[string]string{"Seed": "Keyword"}
	_, err = stack.Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "search attribute Seed of namespace default is Int, settings say Keyword") {
		t.Errorf("changed type: %v", err)
	}
	oneLine(t, err)
}

func TestStartErrors(t *testing.T) {
	t.Run("busy port", func(t *testing.T) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		for service, ports := range map[string]settings.Ports{
			"temporal": {Temporal: settings.Port(port)}, "ui": {UI: settings.Port(port)}, "s3": {S3: settings.Port(port)},
		} {
			o := options(t.TempDir())
			o.Ports = ports
			_, err := stack.Start(t.Context(), o)
			want := fmt.Sprintf("port %d for %s is in use by another process: stop that process, or set embedded.ports.%s", port, service, service)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			oneLine(t, err)
			// The failed start leaves nothing that holds the directory.
			if _, err := connect.Discover(t.Context(), o.DataDir); !errors.Is(err, connect.ErrNotRunning) {
				t.Errorf("after a failed start: %v", err)
			}
		}
	})
	t.Run("directory below a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := stack.Start(t.Context(), options(filepath.Join(file, "data")))
		if err == nil || !strings.Contains(err.Error(), "set ESCLAB_DATA_DIR") {
			t.Errorf("error %v, want one that says to set ESCLAB_DATA_DIR", err)
		}
		oneLine(t, err)
	})
	t.Run("read-only directory", func(t *testing.T) {
		// /proc refuses even root, whom file modes do not bind.
		_, err := stack.Start(t.Context(), options("/proc/self/data"))
		if err == nil || !strings.Contains(err.Error(), "set ESCLAB_DATA_DIR") {
			t.Errorf("error %v, want one that says to set ESCLAB_DATA_DIR", err)
		}
		oneLine(t, err)
	})
	t.Run("directory that others may read, with their files", func(t *testing.T) {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := stack.Start(t.Context(), options(dir))
		if err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("error %v, want one that says chmod 700", err)
		}
		if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
			t.Errorf("mode changed to %v", info.Mode())
		}
	})
	t.Run("credentials that others may read", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "s3-credentials")
		if err := os.WriteFile(path, []byte("[default]\naws_access_key_id=a\naws_secret_access_key=b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, 0o644), os.Chmod(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		o := options(dir)
		o.NoTemporal = true
		_, err := stack.Start(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("error %v, want one that says chmod 600", err)
		}
		oneLine(t, err)
	})
}

func TestEnsureStartsOnceAndFinds(t *testing.T) {
	s := settings.Default()
	s.Embedded.DataDir = t.TempDir()
	s.Embedded.Ports = settings.Ports{}
	first, started, err := stack.Ensure(t.Context(), s, zerolog.Nop())
	if err != nil || started == nil {
		t.Fatalf("started %v, %v; want a stack, since none was up", started, err)
	}
	defer started.Stop()
	second, none, err := stack.Ensure(t.Context(), s, zerolog.Nop())
	if err != nil || none != nil {
		t.Fatalf("second: %v, %v", none, err)
	}
	if first.S3 != second.S3 || first.Temporal.Address != second.Temporal.Address || first.UI != second.UI {
		t.Errorf("targets differ: %+v, %+v", first, second)
	}
}
