// Package models has a run's models answer: a backbone and its adapters, loaded
// from the artifacts of stages, each with the prompts of its role. It is apart
// from package results, which reads what stages have left without a kernel.
package models

import (
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// UnfitError is an error of the experiment's: its parameters do not fit the
// backbone. Trying again changes nothing.
type UnfitError struct{ err error }

func (e *UnfitError) Error() string { return e.err.Error() }
func (e *UnfitError) Unwrap() error { return e.err }

func unfit(format string, args ...any) error { return &UnfitError{fmt.Errorf(format, args...)} }

// Backbone is a loaded base model on an engine: what every stage that runs a
// model begins with.
type Backbone struct {
	Params experiments.ModelParams
	Engine *lm.Engine
	Model  *lm.Model
	Tok    *tokens.Tokenizer
}

// Load reads the base model and its tokenizer from the files of a base artifact
// in dir.
func Load(engine *lm.Engine, dir string, params experiments.ModelParams) (*Backbone, error) {
	base := lm.BaseType(params.BaseType)
	if err := engine.Keeps(base); err != nil {
		return nil, unfit("backbone.dtype: %w", err)
	}
	model, err := lm.LoadModelWith(dir, lm.LoadOptions{BaseType: base, Mapped: engine.Uploads()})
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	tok, err := tokens.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if err := tok.Check(model.Config.VocabSize, model.Config.EOSTokenIDs); err != nil {
		return nil, unfit("base: %w", err)
	}
	return (&Backbone{Engine: engine, Model: model, Tok: tok}).With(params)
}

// With is the backbone under the parameters of another stage, whose base, base type and engine are the same.
func (b *Backbone) With(params experiments.ModelParams) (*Backbone, error) {
	if limit := b.Model.Config.MaxPositionEmbeddings; params.MaxTokens > limit {
		return nil, unfit("limits.max_tokens is %d, the backbone has %d positions: lower limits.max_tokens", params.MaxTokens, limit)
	}
	return &Backbone{Params: params, Engine: b.Engine, Model: b.Model, Tok: b.Tok}, nil
}

// Adapter reads an adapter from the files of its artifact in dir.
func (b *Backbone) Adapter(dir string) (*lm.Adapter, error) {
	return lm.LoadAdapter(dir, b.Model.Config)
}

// Sampler answers turns with one role's model.
type Sampler struct {
	tok *tokens.Tokenizer
	gen *lm.Generator
	enc *Encoder
	max int // new tokens
}

// Sampler prepares a role's model for sampling; adapter may be nil. Close it
// when done.
func (b *Backbone) Sampler(role esc.Role, adapter *lm.Adapter, s experiments.Sampling, seed uint64) (*Sampler, error) {
	enc, err := b.Encoder(role)
	if err != nil {
		return nil, err
	}
	gen, err := lm.NewGenerator(b.Engine, b.Model, adapter, lm.GenerateConfig{
		MaxNewTokens: s.MaxNewTokens,
		Temperature:  s.Temperature, // zero when greedy
		TopP:         s.TopP,
		TopK:         s.TopK,
		Stop:         b.Tok.StopIDs(),
		Slots:        s.DecodeBatch,
		Seed:         seed,
		MaxTokens:    b.Params.MaxTokens,

		RepetitionPenalty: s.RepetitionPenalty,
	})
	if err != nil {
		return nil, err
	}
	return &Sampler{tok: b.Tok, gen: gen, enc: enc, max: s.MaxNewTokens}, nil
}

// Close releases the model.
func (s *Sampler) Close() { s.gen.Close() }

// Prompts are those of the sampler's models.
func (s *Sampler) Prompts() esc.Prompts { return s.enc.Prompts }

// Request is one turn to be answered.
type Request struct {
	Turn     esc.Turn
	Strategy esc.Strategy // given to rg; unused by the others
	Samples  int
	Build    Builder // nil: the role's own prompt
}

// Answer is a sampled answer. Cut tells that it reached the limit of new tokens
// before the model ended its turn.
type Answer struct {
	Text string
	Cut  bool
}

// Answer samples the requests' answers, [request][sample]. tokens is told the
// number of new tokens as samples finish.
func (s *Sampler) Answer(ctx context.Context, requests []Request, tokens func(n int)) ([][]Answer, error) {
	batch := make([]lm.Request, len(requests))
	for i, r := range requests {
		build := r.Build
		if build == nil {
			build = s.enc.under(r.Strategy)
		}
		prompt, err := s.enc.fit(r.Turn.Context, build, s.max+1)
		if err != nil {
			return nil, unfit("dialogue %d, turn %d: %w", r.Turn.Dialogue, r.Turn.Index, err)
		}
		batch[i] = lm.Request{Prompt: prompt, Samples: r.Samples, Group: Group(r.Turn.Dialogue)}
	}
	samples, err := s.gen.Generate(ctx, batch, func(_, _ int, one lm.Sample) { tokens(len(one.Tokens)) })
	if err != nil {
		return nil, err
	}
	texts := make([][]Answer, len(samples))
	for i := range samples {
		texts[i] = make([]Answer, len(samples[i]))
		for j, one := range samples[i] {
			texts[i][j] = Answer{s.tok.DecodeText(one.Tokens), !one.Stopped}
		}
	}
	return texts, nil
}
