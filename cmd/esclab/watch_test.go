package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector receives traces over OTLP/HTTP and keeps what it is sent, protobuf
// in which names stand as they are.
type collector struct {
	*httptest.Server
	mu   sync.Mutex
	sent []byte
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(c.sent, body...)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.sent, []byte(name))
}

// watched checks what a worker that has run two nights shows of itself.
func watched(t *testing.T, ctx context.Context, base string, traces *collector) {
	t.Helper()
	get := func(path string) (int, string) {
		r, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, said := get(path); status != http.StatusOK {
			t.Errorf("%s: %d, %s", path, status, said)
		}
	}
	_, text := get("/metrics")
	for _, want := range []string{
		`esclab_stages_total{kind="base",outcome="done"} 2`,
		`esclab_stage_seconds_count{kind="generate",outcome="done"} 2`,
		`esclab_stage_tokens_total{stage="base"} `,
		`esclab_stage_step_seconds_count{stage="base"} `,
		`esclab_checkpoint_bytes_total{stage="base"} `,
		`esclab_checkpoint_seconds_count{stage="base"} `,
		"temporal_workflow_completed", "temporal_activity_execution_latency", `task_queue="esclab-control"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s; it has\n%s", want, text)
		}
	}
	if strings.Contains(text, "esclab_stage_loss{") {
		t.Error("the loss of a stage that has ended is still shown")
	}
	for _, span := range []string{"RunWorkflow:Nightly", "StartChildWorkflow:Run", "StartChildWorkflow:Stage", "RunActivity:Base", "esclab"} {
		for !traces.has(span) {
			if ctx.Err() != nil {
				t.Fatalf("no span %s was sent", span)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}
