package telemetry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/esclab/esclab/workflows"
)

// health is one that a test decides.
type health struct{ alive, ready error }

func (h *health) Alive() error                { return h.alive }
func (h *health) Ready(context.Context) error { return h.ready }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
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

func TestMetricsAndHealth(t *testing.T) {
	tel, err := New(t.Context(), Options{Address: "127.0.0.1:0", Service: "esclab-worker", Version: "v9", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	h := &health{}
	tel.Serve(h)
	base := "http://" + tel.Address()

	var o client.Options
	tel.Client(&o)
	o.MetricsHandler.WithTags(map[string]string{"namespace": "default", "task_queue": "esclab-gpu"}).Counter("temporal_request").Inc(3)
	observer := tel.Observer()
	observer.Begin("sft/sp", "sft")
	observer.Step(workflows.Progress{Stage: "sft/sp", Phase: "train", Step: 4, Steps: 10, Loss: 0.25, TokensPerSecond: 512}, 2048, 0.5)
	observer.Checkpoint("sft/sp", 1<<20, 0.125)
	_, text := get(t, base+"/metrics")
	for _, want := range []string{
		`esclab_build_info{revision="v9",service="esclab-worker"} 1`,
		`esclab_stages_running{kind="sft"} 1`,
		`esclab_stage_loss{stage="sft/sp"} 0.25`,
		`esclab_stage_tokens_per_second{stage="sft/sp"} 512`,
		`esclab_stage_tokens_total{stage="sft/sp"} 2048`,
		`esclab_stage_step_seconds_sum{stage="sft/sp"} 0.5`,
		`esclab_checkpoint_bytes_total{stage="sft/sp"} 1.048576e+06`,
		`esclab_checkpoint_seconds_sum{stage="sft/sp"} 0.125`,
		`temporal_request{namespace="default",task_queue="esclab-gpu"} 3`,
		`go_goroutines`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s; it has\n%s", want, text)
		}
	}
	observer.End("sft/sp", "sft", "done", 5)
	_, text = get(t, base+"/metrics")
	if strings.Contains(text, "esclab_stage_loss{") || !strings.Contains(text, `esclab_stages_total{kind="sft",outcome="done"} 1`) || !strings.Contains(text, `esclab_stage_tokens_total{stage="sft/sp"} 2048`) {
		t.Errorf("after the stage's end:\n%s", text)
	}

	for _, c := range []struct {
		alive, ready    error
		healthz, readyz int
	}{
		{nil, nil, 200, 200},
		{nil, errors.New("s3: cannot reach it"), 200, 503},
		{errors.New("the poller of esclab-gpu has ended"), nil, 503, 503},
	} {
		h.alive, h.ready = c.alive, c.ready
		healthz, _ := get(t, base+"/healthz")
		readyz, said := get(t, base+"/readyz")
		if healthz != c.healthz || readyz != c.readyz {
			t.Errorf("%+v: healthz %d, readyz %d (%s)", c, healthz, readyz, said)
		}
	}
	if _, err := New(t.Context(), Options{Address: tel.Address()}); err == nil || !strings.Contains(err.Error(), "--metrics "+tel.Address()) {
		t.Errorf("an address in use: %v", err)
	}
}

// collector is an OTLP receiver over HTTP that keeps the names of spans.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []string
	service string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request v1.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range request.GetResourceSpans() {
			for _, a := range rs.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					c.service = a.GetValue().GetStringValue()
				}
			}
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					c.spans = append(c.spans, s.GetName())
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func TestTraces(t *testing.T) {
	c := newCollector(t)
	t.Setenv(envEndpoint, c.URL)
	tel, err := New(t.Context(), Options{Service: "esclab-worker", Version: "v9", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if !tel.Traces() || tel.Observer() != nil || tel.Address() != "" {
		t.Error("an endpoint for traces alone: traces, and no metrics")
	}
	var o client.Options
	tel.Client(&o)
	if len(o.Interceptors) != 1 || o.MetricsHandler != nil {
		t.Errorf("client options %+v", o)
	}
	_, span := tel.spans.Tracer("test").Start(t.Context(), "RunActivity:SFT")
	span.End()
	tel.Close()
	if len(c.spans) != 1 || c.spans[0] != "RunActivity:SFT" || c.service != "esclab-worker" {
		t.Errorf("service %q sent %v", c.service, c.spans)
	}
	t.Setenv(envProtocol, "grpc")
	if _, err := New(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("grpc: %v", err)
	}
}

// Without an address and an endpoint nothing is watched, and nothing is in the
// way.
func TestNothing(t *testing.T) {
	t.Setenv(envEndpoint, "")
	tel, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tel := range []*Telemetry{tel, nil} {
		var o client.Options
		tel.Client(&o)
		tel.Serve(&health{})
		if o.MetricsHandler != nil || o.Interceptors != nil || tel.Observer() != nil || tel.Traces() || tel.Address() != "" {
			t.Errorf("without telemetry the client has options %+v, want none", o)
		}
		tel.Close()
	}
}

// Metrics on an address that others reach are served with a warning.
func TestOpenMetricsWarn(t *testing.T) {
	for address, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		var log strings.Builder
		tel, err := New(t.Context(), Options{Address: address, Service: "esclab-worker", Log: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		tel.Close()
		if got := strings.Contains(log.String(), "without TLS and password"); got != warned {
			t.Errorf("%s: %s", address, log.String())
		}
	}
}
