// Package telemetry lets others watch a worker: Prometheus metrics and health
// over HTTP, traces over OTLP. It measures nothing itself; Temporal's SDK and
// the activities tell it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
)

// Options says what to watch and who may.
type Options struct {
	// Address is where metrics and health are served, host:port; empty: nowhere.
	Address string
	// Service and Version name the program in traces and metrics.
	Service, Version string
	Log              zerolog.Logger
}

// Telemetry holds the metrics, traces and health that a process exposes.
type Telemetry struct {
	log      zerolog.Logger
	listener net.Listener
	server   *http.Server
	registry *prometheus.Registry
	stages   *stages
	meters   *metric.MeterProvider
	spans    *trace.TracerProvider // nil: no traces
	service  string
}

// Variables that name the endpoint for traces, as OpenTelemetry's SDKs read
// them.
const (
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	envDisabled       = "OTEL_SDK_DISABLED"
)

// flushLimit bounds the sending of what is left at the end.
const flushLimit = 5 * time.Second

// New prepares metrics if there is an address for them, and traces if
// OTEL_EXPORTER_OTLP_ENDPOINT or a variable like it is set. It listens on the
// address, so that one in use is an error at once; Serve begins to answer.
func New(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{log: o.Log, service: o.Service}
	what, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", o.Service), attribute.String("service.version", o.Version),
	), resource.WithHost(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	if o.Address != "" {
		if err := t.metrics(o, what); err != nil {
			return nil, err
		}
	}
	if err := t.traces(ctx, what); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Telemetry) metrics(o Options, what *resource.Resource) error {
	var err error
	if t.listener, err = net.Listen("tcp", o.Address); err != nil {
		return fmt.Errorf("--metrics %s: %w: give a free address like 127.0.0.1:9464", o.Address, err)
	}
	if at, ok := t.listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		o.Log.Warn().Stringer("address", at).Msg("metrics are open to every machine that reaches this address, without TLS and password: names of stages and queues, losses and speeds can be read")
	}
	t.registry = prometheus.NewRegistry()
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "esclab_build_info", Help: "1; the label has the program's revision.", ConstLabels: prometheus.Labels{"revision": o.Version, "service": o.Service},
	})
	build.Set(1)
	t.registry.MustRegister(build)
	t.stages = newStages(t.registry)
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(t.registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	t.meters = metric.NewMeterProvider(metric.WithReader(exporter), metric.WithResource(what))
	return nil
}

func (t *Telemetry) traces(ctx context.Context, what *resource.Resource) error {
	if os.Getenv(envEndpoint)+os.Getenv(envTracesEndpoint) == "" || os.Getenv(envDisabled) == "true" {
		return nil
	}
	for _, name := range []string{envTracesProtocol, envProtocol} {
		if p := os.Getenv(name); p == "grpc" {
			return fmt.Errorf("telemetry: %s is %s: only http/protobuf is spoken, usually on port 4318", name, p)
		}
	}
	exporter, err := otlptracehttp.New(ctx) // reads the variables itself
	if err != nil {
		return fmt.Errorf("telemetry: traces to %s: %w", os.Getenv(envEndpoint), err)
	}
	t.spans = trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(what))
	return nil
}

// Client sets the options of a Temporal client such that it, and the workers that
// use it, report metrics and traces.
func (t *Telemetry) Client(o *client.Options) {
	if t == nil {
		return
	}
	if t.meters != nil {
		o.MetricsHandler = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
			Meter:   t.meters.Meter("temporal"),
			OnError: func(err error) { t.log.Debug().Err(err).Msg("a metric of Temporal's SDK is lost") },
		})
	}
	if t.spans != nil {
		tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
			Tracer:            t.spans.Tracer(t.service),
			TextMapPropagator: propagation.TraceContext{},
		})
		if err != nil { // only of options that are not given here
			t.log.Warn().Err(err).Msg("there will be no traces")
			return
		}
		o.Interceptors = append(o.Interceptors, interceptor.ClientInterceptor(tracing))
	}
}

// Health is what a worker knows about itself.
type Health interface {
	// Alive says why the process should be started again; nil: it works.
	Alive() error
	// Ready says why it can do no work at the moment; nil: it can.
	Ready(ctx context.Context) error
}

// Serve answers /metrics, /healthz and /readyz in the background.
func (t *Telemetry) Serve(h Health) {
	if t == nil || t.listener == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.Alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := context.WithTimeout(r.Context(), readyLimit)
		defer stop()
		err := h.Alive()
		if err == nil {
			err = h.Ready(ctx)
		}
		answer(w, err)
	})
	t.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	go func() {
		if err := t.server.Serve(t.listener); !errors.Is(err, http.ErrServerClosed) {
			t.log.Error().Err(err).Msg("metrics are no longer served")
		}
	}()
	t.log.Info().Str("metrics", "http://"+t.listener.Addr().String()+"/metrics").Msg("telemetry")
}

// readyLimit bounds the time in which readiness is determined.
const readyLimit = 10 * time.Second

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Address is where Serve answers; empty: nowhere.
func (t *Telemetry) Address() string {
	if t == nil || t.listener == nil {
		return ""
	}
	return t.listener.Addr().String()
}

// Close sends what is left and stops serving.
func (t *Telemetry) Close() {
	if t == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), flushLimit)
	defer stop()
	if t.spans != nil {
		if err := t.spans.Shutdown(ctx); err != nil {
			t.log.Warn().Err(err).Msg("the last traces are lost")
		}
	}
	if t.meters != nil {
		_ = t.meters.Shutdown(ctx) // nothing is pushed
	}
	switch {
	case t.server != nil:
		_ = t.server.Shutdown(ctx)
	case t.listener != nil:
		t.listener.Close()
	}
}
