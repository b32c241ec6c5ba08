package activities

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows"
)

// loadBackbone opens the engine and loads the base model and its tokenizer.
func loadBackbone(ctx context.Context, t *attempt, params experiments.ModelParams) (*models.Backbone, error) {
	engine, err := openEngine(t, params.Engine)
	if err != nil {
		return nil, err
	}
	t.engine = engine.Identity(lm.BaseType(params.BaseType))
	dir, err := t.input(ctx, "base")
	if err != nil {
		return nil, err
	}
	if !engine.Uploads() {
		return models.Load(engine, dir, params)
	}
	t.baseKey = fmt.Sprintf("%s %s %s", params.Engine, params.BaseType, t.inputs["base"])
	b := t.a.kept.take(t.baseKey)
	if b == nil {
		b, err = models.Load(engine, dir, params)
	} else {
		b, err = b.With(params)
	}
	if err != nil {
		return nil, err
	}
	if kind := t.in.Stage.Kind; kind == experiments.KindMine || kind == experiments.KindGenerate {
		b.Model.Unload() // adapters are merged there weight by weight, in place of the base's
	}
	t.base = b
	return b, nil
}

// keptBase is the base model that a stage has left on a device for the next one there, with the artifact's digest, base
// type and engine as its key. A stage has its base to itself: where several run in a process, one leaves it.
type keptBase struct {
	mu  sync.Mutex
	key string
	b   *models.Backbone
}

// take gives the base of a key away, nil where it was not kept; another one makes room for it.
func (k *keptBase) take(key string) *models.Backbone {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.b
	if k.b = nil; b != nil && k.key != key {
		b.Model.Unload()
		return nil
	}
	return b
}

// keep keeps a base in place of the one before.
func (k *keptBase) keep(key string, b *models.Backbone) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.b != nil {
		k.b.Model.Unload()
	}
	k.key, k.b = key, b
}

// openEngine opens the engine and records which one it turned out to be.
func openEngine(t *attempt, spec experiments.Engine) (*lm.Engine, error) {
	engine, err := t.a.engines.get(t.a.DataDir, spec)
	if err != nil {
		return nil, badInput(err)
	}
	t.engine = engine.Identity(lm.Float32)
	return engine, nil
}

// loadAdapter loads an input that is an adapter; nil where the stage has no such
// input: the backbone as it is.
func loadAdapter(ctx context.Context, t *attempt, b *models.Backbone, name string) (*lm.Adapter, error) {
	if _, ok := t.in.Inputs[name]; !ok {
		return nil, nil
	}
	dir, err := t.input(ctx, name)
	if err != nil {
		return nil, err
	}
	adapter, err := b.Adapter(dir)
	if err != nil {
		return nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	return adapter, nil
}

// saveAdapter writes an adapter as files of the artifact.
func saveAdapter(t *attempt, adapter *lm.Adapter, out output) error {
	dir := t.dir + "/adapter"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := adapter.Save(dir, "base"); err != nil {
		return err
	}
	out.files[results.FileAdapterConfig] = dir + "/" + results.FileAdapterConfig
	out.files[results.FileAdapterWeights] = dir + "/" + results.FileAdapterWeights
	return nil
}

// meter turns counts into the progress that heartbeats carry.
type meter struct {
	t       *attempt
	phase   string
	started time.Time
	steps   int // in all
	first   int // step at which this attempt began
	tokens  float64
	last    time.Time // of the last step
	spark   string    // draws the loss so far, where there is one
}

func newMeter(t *attempt, phase string, first, steps int) *meter {
	now := time.Now()
	return &meter{t: t, phase: phase, started: now, last: now, first: first, steps: steps}
}

// step reports that step (counted from 1) is done.
func (m *meter) step(step int, tokens, loss float64, checkpoint int) {
	m.tokens += tokens
	p := workflows.Progress{Phase: m.phase, Step: step, Steps: m.steps, Loss: loss, Sparkline: m.spark, Checkpoint: checkpoint}
	if elapsed := time.Since(m.started).Seconds(); elapsed > 0 && step > m.first {
		p.TokensPerSecond = m.tokens / elapsed
		p.ETASeconds = elapsed / float64(step-m.first) * float64(m.steps-step)
	}
	m.t.beat(p)
	if m.t.a.Observer != nil && tokens > 0 {
		p.Stage = m.t.in.Stage.Name
		m.t.a.Observer.Step(p, tokens, time.Since(m.last).Seconds())
	}
	m.last = time.Now()
}
