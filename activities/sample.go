package activities

import (
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
)

// sampler answers turns with one role's model.
type sampler struct {
	b   *backbone
	gen *lm.Generator
	enc *encoder
	max int // new tokens
}

// sampler prepares a role's model for sampling; adapter may be nil.
func (b *backbone) sampler(role esc.Role, adapter *lm.Adapter, s experiments.Sampling, seed uint64) (*sampler, error) {
	enc, err := newEncoder(b.tok, b.params, role)
	if err != nil {
		return nil, err
	}
	gen, err := lm.NewGenerator(b.engine, b.model, adapter, lm.GenerateConfig{
		MaxNewTokens: s.MaxNewTokens,
		Temperature:  s.Temperature, // zero when greedy
		TopP:         s.TopP,
		Stop:         b.tok.StopIDs(),
		Slots:        s.DecodeBatch,
		Seed:         seed,
	})
	if err != nil {
		return nil, err
	}
	return &sampler{b: b, gen: gen, enc: enc, max: s.MaxNewTokens}, nil
}

// request is one turn to be answered.
type request struct {
	turn     esc.Turn
	strategy esc.Strategy // given to rg; unused by the others
	samples  int
	build    builder // nil: the role's own prompt
}

// answerText is a sampled answer. Cut tells that it reached the limit of new
// tokens before the model ended its turn.
type answerText struct {
	text string
	cut  bool
}

// answer samples the requests' answers, [request][sample]. tokens is
// told the number of new tokens as samples finish.
func (s *sampler) answer(ctx context.Context, requests []request, tokens func(n int)) ([][]answerText, error) {
	batch := make([]lm.Request, len(requests))
	for i, r := range requests {
		build := r.build
		if build == nil {
			build = s.enc.under(r.strategy)
		}
		prompt, err := s.enc.fit(r.turn.Context, build, s.max+1)
		if err != nil {
			return nil, badInput(fmt.Errorf("dialogue %d, turn %d: %w", r.turn.Dialogue, r.turn.Index, err))
		}
		batch[i] = lm.Request{Prompt: prompt, Samples: r.samples, Group: group(r.turn.Dialogue)}
	}
	samples, err := s.gen.Generate(ctx, batch, func(_, _ int, one lm.Sample) { tokens(len(one.Tokens)) })
	if err != nil {
		return nil, err
	}
	texts := make([][]answerText, len(samples))
	for i := range samples {
		texts[i] = make([]answerText, len(samples[i]))
		for j, one := range samples[i] {
			texts[i][j] = answerText{s.b.tok.DecodeText(one.Tokens), !one.Stopped}
		}
	}
	return texts, nil
}
