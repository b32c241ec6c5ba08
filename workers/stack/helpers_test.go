package stack_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
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
	at, err := s.Temporal()
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect.Dial(t.Context(), at, zerolog.Nop())
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

func get(t *testing.T, browser *http.Client, url, host string, status int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := browser.Do(request)
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
	all := listening(t)
	for _, address := range all {
		host, _, err := net.SplitHostPort(address)
		switch {
		case err != nil:
			t.Fatal(err)
		case slices.Contains(open, address):
			found++
		case !net.ParseIP(host).IsLoopback():
			t.Errorf("listening on %s", address)
		}
	}
	if len(all) < 6 { // frontend, history, matching, worker, UI, S3
		t.Errorf("found only %d listening sockets", len(all))
	}
	return found
}

// listening gives the addresses, host:port, on which this process listens.
func listening(t *testing.T) (all []string) {
	t.Helper()
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
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != "0A" || !own[fields[9]] {
				continue
			}
			// The address is hexadecimal, in words of four bytes, each little-endian.
			host, port, _ := strings.Cut(fields[1], ":")
			raw, err := hex.DecodeString(host)
			n, err2 := strconv.ParseUint(port, 16, 16)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			for i := 0; i+4 <= len(raw); i += 4 {
				slices.Reverse(raw[i : i+4])
			}
			all = append(all, net.JoinHostPort(net.IP(raw).String(), strconv.FormatUint(n, 10)))
		}
	}
	return all
}
