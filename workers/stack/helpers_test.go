package stack_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// options of a stack on free ports.
func options(dir string) stack.Options {
	d := settings.Default()
	return stack.Options{
		DataDir:          dir,
		Namespace:        d.Temporal.Namespace,
		Retention:        d.Embedded.Retention,
		SearchAttributes: d.SearchAttributes,
		Bucket:           d.S3.Bucket,
		Log:              zerolog.Nop(),
	}
}

func start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *stack.Stack) client.Client {
	t.Helper()
	c, err := connect.Dial(t.Context(), connect.Temporal{Address: s.Info().Temporal, Namespace: s.Info().Namespace}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func resolve(t *testing.T, dir string) connect.Target {
	t.Helper()
	info, err := connect.Discover(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	target, err := connect.Resolve(settings.Default(), info)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func put(t *testing.T, p connect.S3, key, content string) {
	t.Helper()
	if _, err := p.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &p.Bucket, Key: &key, Body: strings.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, p connect.S3, key string) string {
	t.Helper()
	out, err := p.Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &p.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func statusOf(t *testing.T, c client.Client, id string) enumspb.WorkflowExecutionStatus {
	t.Helper()
	d, err := c.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	return d.WorkflowExecutionInfo.Status
}

func get(t *testing.T, url, host string, status int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		t.Fatalf("%s: status %d, want %d: %.200s (%v)", url, response.StatusCode, status, body, err)
	}
	return string(body)
}

func waitFor(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

// loopbackOnly looks at every socket on which this process listens.
func loopbackOnly(t *testing.T) { loopbackBut(t) }

// loopbackBut does so and lets pass, and counts, those at the given addresses.
func loopbackBut(t *testing.T, open ...string) (found int) {
	t.Helper()
	allowed := make(map[string]bool)
	for _, address := range open {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		ip, n := net.ParseIP(host).To4(), 0
		if _, err := fmt.Sscan(port, &n); err != nil {
			t.Fatal(err)
		}
		allowed[fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], n)] = true
	}
	own := make(map[string]bool)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs Linux's /proc: ", err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(link, "socket:[") {
			own[strings.Trim(strings.TrimPrefix(link, "socket:"), "[]")] = true
		}
	}
	listening := 0
	for table, loopback := range map[string]string{"tcp": "0100007F", "tcp6": "00000000000000000000000001000000"} {
		f, err := os.Open("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" || !own[fields[9]] {
				continue
			}
			listening++
			address, port, _ := strings.Cut(fields[1], ":")
			n, _ := strconv.ParseUint(port, 16, 16)
			if allowed[fields[1]] {
				found++
				continue
			}
			if address != loopback {
				t.Errorf("port %d listens on %s, not on loopback alone", n, address)
			}
		}
	}
	if listening < 6 { // frontend, history, matching, worker, UI, S3
		t.Errorf("found only %d listening sockets", listening)
	}
	return found
}
