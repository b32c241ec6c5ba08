package models

import (
	"context"
	"fmt"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/lm"
)

// Planner scores the eight strategies after a context: as the planner's answers,
// or as the beginnings of the vanilla model's.
type Planner struct {
	// Names are the strategies' tokens: for the planner its answer and
	// the end of its turn, for the vanilla model the bracketed name.
	Names [esc.NumStrategies][]int32

	scorer  *lm.Scorer
	enc     *Encoder
	longest int // of Names
}

// Planner prepares a role's model for scoring strategies; adapter may be nil.
// Close it when done.
func (b *Backbone) Planner(role esc.Role, adapter *lm.Adapter, options lm.LogProbsOptions) (*Planner, error) {
	p := &Planner{}
	var err error
	if p.enc, err = b.Encoder(role); err != nil {
		return nil, err
	}
	for i, strategy := range esc.Strategies() {
		name := strategy.Bracketed()
		if role == esc.SP {
			name = p.enc.Prompts.Answer(role, strategy, "")
		}
		ids, err := b.Tok.AnswerTokens("", name)
		if err != nil {
			return nil, err
		}
		if role == esc.VM {
			ids = ids[:len(ids)-1] // without the end of the turn
		}
		p.Names[i], p.longest = ids, max(p.longest, len(ids))
	}
	options.Packing, options.MicroBatchTokens = lm.Packing(b.Params.Packing), b.Params.PackTokens
	p.scorer, err = lm.NewScorer(b.Engine, b.Model, adapter, options)
	return p, err
}

// Close releases the model.
func (p *Planner) Close() { p.scorer.Close() }

// Score gives the log-probabilities of the names' tokens after each turn's
// context: [turn][strategy][token]. A context is computed once for all eight, and
// what the contexts of a dialogue share is computed once, too.
func (p *Planner) Score(ctx context.Context, turns []esc.Turn) ([][esc.NumStrategies][]float32, error) {
	examples := make([]lm.Example, len(turns))
	for i, turn := range turns {
		prompt, err := p.enc.prompt(turn.Context, esc.NoStrategy, p.longest)
		if err != nil {
			return nil, unfit("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
		examples[i].Group = Group(turn.Dialogue)
		for _, name := range p.Names {
			examples[i].Sequences = append(examples[i].Sequences, lm.Sequence{Tokens: slices.Concat(prompt, name), LossFrom: len(prompt)})
		}
	}
	scores, err := p.scorer.LogProbs(ctx, examples)
	if err != nil {
		return nil, fmt.Errorf("score strategies: %w", err)
	}
	out := make([][esc.NumStrategies][]float32, len(turns))
	for i := range scores {
		for s := range out[i] {
			out[i][s] = scores[i][s].Tokens
		}
	}
	return out, nil
}
