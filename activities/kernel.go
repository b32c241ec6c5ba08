package activities

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// kernel is a loaded backbone on an engine: what every stage that runs a
// model begins with.
type kernel struct {
	params experiments.Kernel
	engine *lm.Engine
	model  *lm.Model
	tok    *tokens.Tokenizer
}

// loadKernel opens the engine and loads the base model and its tokenizer.
func (t *attempt) loadKernel(ctx context.Context, params experiments.Kernel) (*kernel, error) {
	engine, err := t.openEngine(params.Engine)
	if err != nil {
		return nil, err
	}
	dir, err := t.input(ctx, "base")
	if err != nil {
		return nil, err
	}
	base := lm.BaseType(params.BaseType)
	if err := engine.Keeps(base); err != nil {
		return nil, badInput(fmt.Errorf("backbone.dtype: %w", err))
	}
	model, err := lm.LoadModelWith(dir, lm.LoadOptions{BaseType: base})
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	tok, err := tokens.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if err := tok.Check(model.Config.VocabSize, model.Config.EOSTokenIDs); err != nil {
		return nil, badInput(fmt.Errorf("base: %w", err))
	}
	if limit := model.Config.MaxPositionEmbeddings; params.MaxTokens > limit {
		return nil, badInput(fmt.Errorf("limits.max_tokens is %d, the backbone has %d positions: lower limits.max_tokens", params.MaxTokens, limit))
	}
	return &kernel{params: params, engine: engine, model: model, tok: tok}, nil
}

// openEngine opens the engine and records which one it turned out to be.
func (t *attempt) openEngine(spec experiments.Engine) (*lm.Engine, error) {
	engine, err := t.a.engines.get(t.a.DataDir, spec)
	if err != nil {
		return nil, badInput(err)
	}
	t.engine = engine.Name + " " + engine.Version
	return engine, nil
}

// adapter loads an input that is an adapter; nil where the stage has no such
// input: the backbone as it is.
func (t *attempt) adapter(ctx context.Context, k *kernel, name string) (*lm.Adapter, error) {
	if _, ok := t.in.Inputs[name]; !ok {
		return nil, nil
	}
	dir, err := t.input(ctx, name)
	if err != nil {
		return nil, err
	}
	adapter, err := lm.LoadAdapter(dir, k.model.Config)
	if err != nil {
		return nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	return adapter, nil
}

// saveAdapter writes an adapter as files of the artifact.
func (t *attempt) saveAdapter(adapter *lm.Adapter, out output) error {
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
}

func (t *attempt) meter(phase string, first, steps int) *meter {
	now := time.Now()
	return &meter{t: t, phase: phase, started: now, last: now, first: first, steps: steps}
}

// step reports that step (counted from 1) is done.
func (m *meter) step(ctx context.Context, step int, tokens, loss float64, checkpoint int) {
	m.tokens += tokens
	p := workflows.Progress{Phase: m.phase, Step: step, Steps: m.steps, Loss: loss, Checkpoint: checkpoint}
	if elapsed := time.Since(m.started).Seconds(); elapsed > 0 && step > m.first {
		p.TokensPerSecond = m.tokens / elapsed
		p.ETASeconds = elapsed / float64(step-m.first) * float64(m.steps-step)
	}
	m.t.beat(ctx, p)
	if m.t.a.Observer != nil && tokens > 0 {
		p.Stage = m.t.in.Stage.Name
		m.t.a.Observer.Step(p, tokens, time.Since(m.last).Seconds())
	}
	m.last = time.Now()
}
