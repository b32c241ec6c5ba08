package external

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// Credentials of the external versitygw.
const (
	accessKey = "external-access"
	secretKey = "external-secret"
)

func TestSettingsAloneDecide(t *testing.T) {
	temporalAddress := startTemporal(t)
	s3Endpoint := startVersitygw(t)
	t.Setenv("EXTERNAL_ACCESS", accessKey)
	t.Setenv("EXTERNAL_SECRET", secretKey)
	const embedded = "embedded: {ports: {temporal: auto, ui: auto, s3: auto}}\n"
	externalTemporal := fmt.Sprintf("temporal: {address: %s}\n", temporalAddress)
	externalS3 := fmt.Sprintf("s3: {endpoint: %q, access_key_env: EXTERNAL_ACCESS, secret_key_env: EXTERNAL_SECRET}\n", s3Endpoint)

	for _, c := range []struct {
		name, file     string
		temporal, s3   string // where they must be, "" for embedded
		dataDirIsThere bool
	}{
		{"embedded", embedded, "", "", true},
		{"external", externalTemporal + externalS3, temporalAddress, s3Endpoint, false},
		{"external, embedding off", externalTemporal + externalS3 + "embedded: {mode: off}\n", temporalAddress, s3Endpoint, false},
		{"external S3 only", externalS3 + embedded, "", s3Endpoint, true},
		{"external Temporal only", externalTemporal + embedded, temporalAddress, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path, data := filepath.Join(dir, settings.FileName), filepath.Join(dir, "data")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv(settings.EnvDataDir, data)
			s, err := settings.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			target, started, err := stack.Ensure(t.Context(), s, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			if started != nil {
				defer func() {
					if err := started.Stop(); err != nil {
						t.Error(err)
					}
				}()
			}
			if c.temporal != "" && target.Temporal.Address != c.temporal || c.temporal == "" && target.UI == "" {
				t.Errorf("Temporal is at %s, UI at %q", target.Temporal.Address, target.UI)
			}
			if c.s3 != "" && target.S3.Endpoint != c.s3 || c.s3 == "" && target.S3.Endpoint == s3Endpoint {
				t.Errorf("S3 is at %s", target.S3.Endpoint)
			}
			if _, err := os.Stat(data); (err == nil) != c.dataDirIsThere {
				t.Errorf("data directory: %v", err)
			}
			work(t, s, target)
		})
	}
}

// work is what the program does with a target, whatever it is: it checks it,
// registers its search attributes, runs a workflow with an activity, and keeps
// an object.
func work(t *testing.T, s *settings.Settings, target connect.Target) {
	ctx := t.Context()
	c, err := connect.Dial(ctx, target.Temporal, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := connect.EnsureSearchAttributes(ctx, c, target.Temporal.Namespace, s.SearchAttributes); err != nil {
		t.Fatal(err)
	}
	if again, err := connect.EnsureSearchAttributes(ctx, c, target.Temporal.Namespace, s.SearchAttributes); err != nil || len(again) != 0 {
		t.Errorf("registered again: %v, %v", again, err)
	}
	for _, check := range []connect.Check{
		connect.CheckTemporal(ctx, target.Temporal, s.SearchAttributes),
		connect.CheckS3(ctx, target.S3), // creates the bucket
	} {
		if check.Status != connect.OK {
			t.Errorf("check %+v, want it to pass", check)
		}
	}

	key := "runs/" + strings.ReplaceAll(t.Name(), "/", "-")
	w := worker.New(c, s.TaskQueues.Control, worker.Options{})
	w.RegisterActivityWithOptions(func(ctx context.Context, content string) (string, error) {
		objects := target.S3.Client()
		_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &target.S3.Bucket, Key: &key, Body: strings.NewReader(content)})
		return key, err
	}, activityNamed("keep"))
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, content string) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second,
			RetryPolicy: &sdktemporal.RetryPolicy{MaximumAttempts: 1}})
		if err := workflow.UpsertTypedSearchAttributes(ctx, sdktemporal.NewSearchAttributeKeyKeyword("Stage").ValueSet("sft/sp")); err != nil {
			return "", err
		}
		var key string
		err := workflow.ExecuteActivity(ctx, "keep", content).Get(ctx, &key)
		return key, err
	}, workflow.RegisterOptions{Name: "stage"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	id := "stage " + t.Name()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: s.TaskQueues.Control}, "stage", "adapter")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := run.Get(ctx, &got); err != nil || got != key {
		t.Fatalf("workflow: %q, %v; want %q", got, err, key)
	}

	object, err := target.S3.Client().GetObject(ctx, &s3.GetObjectInput{Bucket: &target.S3.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if data, err := io.ReadAll(object.Body); err != nil || string(data) != "adapter" {
		t.Errorf("object: %q, %v", data, err)
	}
	waitFor(t, 10*time.Second, func() error {
		found, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: fmt.Sprintf("Stage = 'sft/sp' AND WorkflowId = '%s'", id)})
		if err == nil && found.Count != 1 {
			err = fmt.Errorf("%d workflows found by search attribute", found.Count)
		}
		return err
	})
}

// startTemporal runs a Temporal dev server and returns its address.
func startTemporal(t *testing.T) string {
	address := storetest.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	if program := find("ESCLAB_TEST_TEMPORAL", "temporal"); program != "" {
		spawn(t, nil, program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", port, "--log-level", "error")
	} else {
		spawn(t, []string{envServer + "=temporal", envAddress + "=" + address}, os.Args[0])
	}
	// A server of one's own takes this long to be asked for; afterwards the
	// program must connect at its first attempt.
	waitFor(t, 30*time.Second, func() error {
		c, err := connect.Dial(t.Context(), connect.Temporal{Address: address, Namespace: "default"}, zerolog.Nop())
		if err == nil {
			c.Close()
		}
		return err
	})
	return address
}

// startVersitygw runs a versitygw over a directory and returns its URL.
func startVersitygw(t *testing.T) string {
	address, dir := storetest.FreeAddress(t), t.TempDir()
	env := []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey}
	if program := find("ESCLAB_TEST_VERSITYGW", "versitygw"); program != "" {
		spawn(t, env, program, "--port", address, "--quiet", "posix", dir)
	} else {
		spawn(t, append(env, envServer+"=versitygw", envAddress+"="+address, envDir+"="+dir), os.Args[0])
	}
	waitFor(t, 30*time.Second, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return "http://" + address
}
