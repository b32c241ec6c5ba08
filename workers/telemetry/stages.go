package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/workflows"
)

// stages are the metrics of what the worker computes.
type stages struct {
	running     *prometheus.GaugeVec
	done        *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	step        *prometheus.GaugeVec
	steps       *prometheus.GaugeVec
	loss        *prometheus.GaugeVec
	rate        *prometheus.GaugeVec
	tokens      *prometheus.CounterVec
	stepSeconds *prometheus.HistogramVec
	saves       *prometheus.CounterVec
	saved       *prometheus.CounterVec
	lastSaved   *prometheus.GaugeVec
	saveSeconds *prometheus.HistogramVec
}

var _ activities.Observer = (*stages)(nil)

func newStages(r prometheus.Registerer) *stages {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		r.MustRegister(v)
		return v
	}
	short := prometheus.ExponentialBuckets(0.001, 4, 10) // 1 ms to 4 min
	long := prometheus.ExponentialBuckets(0.1, 4, 11)    // 0.1 s to 29 h
	return &stages{
		running: gauge("esclab_stages_running", "Stages that this worker executes.", "kind"),
		done:    counter("esclab_stages_total", "Attempts at stages that have ended.", "kind", "outcome"),
		seconds: histogram("esclab_stage_seconds", "Wall time of attempts at stages.", long, "kind", "outcome"),

		step:        gauge("esclab_stage_step", "Last finished step of a running stage: optimizer steps or turns.", "stage"),
		steps:       gauge("esclab_stage_steps", "Steps that a running stage has in all.", "stage"),
		loss:        gauge("esclab_stage_loss", "Loss of the last optimizer step of a running stage.", "stage"),
		rate:        gauge("esclab_stage_tokens_per_second", "Tokens per second of a running stage, over this attempt.", "stage"),
		tokens:      counter("esclab_stage_tokens_total", "Tokens that stages have trained on or sampled.", "stage"),
		stepSeconds: histogram("esclab_stage_step_seconds", "Wall time of steps, what is saved and validated between them included.", short, "stage"),

		saves:       counter("esclab_checkpoints_total", "Checkpoints saved.", "stage"),
		saved:       counter("esclab_checkpoint_bytes_total", "Bytes of the checkpoints saved.", "stage"),
		lastSaved:   gauge("esclab_checkpoint_bytes", "Bytes of a running stage's last checkpoint.", "stage"),
		saveSeconds: histogram("esclab_checkpoint_seconds", "Wall time of saving a checkpoint.", short, "stage"),
	}
}

// Begin implements activities.Observer.
func (s *stages) Begin(_, kind string) { s.running.WithLabelValues(kind).Inc() }

// Step implements activities.Observer.
func (s *stages) Step(p workflows.Progress, tokens, seconds float64) {
	s.step.WithLabelValues(p.Stage).Set(float64(p.Step))
	s.steps.WithLabelValues(p.Stage).Set(float64(p.Steps))
	if p.Phase == "train" {
		s.loss.WithLabelValues(p.Stage).Set(p.Loss)
	}
	s.rate.WithLabelValues(p.Stage).Set(p.TokensPerSecond)
	s.tokens.WithLabelValues(p.Stage).Add(tokens)
	s.stepSeconds.WithLabelValues(p.Stage).Observe(seconds)
}

// Checkpoint implements activities.Observer.
func (s *stages) Checkpoint(stage string, bytes int64, seconds float64) {
	s.saves.WithLabelValues(stage).Inc()
	s.saved.WithLabelValues(stage).Add(float64(bytes))
	s.lastSaved.WithLabelValues(stage).Set(float64(bytes))
	s.saveSeconds.WithLabelValues(stage).Observe(seconds)
}

// End implements activities.Observer. It removes the metrics of the running
// stage, since a loss that stays when nothing trains would look current.
func (s *stages) End(stage, kind, outcome string, seconds float64) {
	s.running.WithLabelValues(kind).Dec()
	s.done.WithLabelValues(kind, outcome).Inc()
	s.seconds.WithLabelValues(kind, outcome).Observe(seconds)
	for _, v := range []*prometheus.GaugeVec{s.step, s.steps, s.loss, s.rate, s.lastSaved} {
		v.DeleteLabelValues(stage)
	}
}

// Observer receives what activities report; it is nil where there are no metrics.
func (t *Telemetry) Observer() activities.Observer {
	if t == nil || t.stages == nil {
		return nil
	}
	return t.stages
}
