package models

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/lm"
)

// StrategyScorer gives the probabilities of the eight strategies at a turn, by
// the planner or the vanilla model.
type StrategyScorer struct {
	scorer  *lm.Scorer
	enc     *Encoder
	names   [esc.NumStrategies][]int32 // the planner's whole answers, the vanilla model's beginnings
	longest int
}

// StrategyScores are the log-probabilities, in nats, with which a model answers
// with each of the eight strategies.
type StrategyScores [esc.NumStrategies]float64

// StrategyScorer prepares a role's model, vm or sp, for scoring strategies; adapter may
// be nil. The planner's answer is the strategy's name and the end of its turn;
// the vanilla model goes on after the name. Close it when done.
func (b *Backbone) StrategyScorer(role esc.Role, adapter *lm.Adapter) (*StrategyScorer, error) {
	enc, err := b.Encoder(role)
	if err != nil {
		return nil, err
	}
	s := &StrategyScorer{enc: enc}
	for i, strategy := range esc.Strategies() {
		ids, err := b.Tok.AnswerTokens("", strategy.Bracketed())
		if err != nil {
			return nil, err
		}
		if role == esc.VM {
			ids = ids[:len(ids)-1] // without the end of the turn
		}
		s.names[i], s.longest = ids, max(s.longest, len(ids))
	}
	s.scorer, err = lm.NewScorer(b.Engine, b.Model, adapter, lm.LogProbsOptions{
		Packing: lm.Packing(b.Params.Packing), MicroBatchTokens: b.Params.PackTokens, Native: true,
	})
	return s, err
}

// Close releases the model.
func (s *StrategyScorer) Close() { s.scorer.Close() }

// Score scores the eight strategies at each turn, as continuations of one
// prompt. Turns of a dialogue share their prefixes, so that all is computed in
// little more than one pass over the dialogue.
func (s *StrategyScorer) Score(ctx context.Context, turns []esc.Turn) ([]StrategyScores, error) {
	examples := make([]lm.Example, len(turns))
	for i, turn := range turns {
		prompt, err := s.enc.prompt(turn.Context, esc.NoStrategy, s.longest)
		if err != nil {
			return nil, unfit("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
		examples[i] = lm.Example{Group: Group(turn.Dialogue)}
		for _, name := range s.names {
			examples[i].Sequences = append(examples[i].Sequences, lm.Sequence{Tokens: slices.Concat(prompt, name), LossFrom: len(prompt)})
		}
	}
	logProbs, err := s.scorer.LogProbs(ctx, examples)
	if err != nil {
		return nil, err
	}
	scores := make([]StrategyScores, len(turns))
	for i := range scores {
		for j := range scores[i] {
			scores[i][j] = logProbs[i][j].Sum()
		}
		if best := slices.Max(scores[i][:]); math.IsNaN(best) || math.IsInf(best, 0) {
			return nil, fmt.Errorf("dialogue %d, turn %d: %w", turns[i].Dialogue, turns[i].Index, errNotNumbers)
		}
	}
	return scores, nil
}

var errNotNumbers = errors.New("the probabilities of the strategies are not numbers: are the weights damaged?")

// Probabilities are those of the strategies relative to each other at a
// temperature, so that they sum to 1; at 0 the likeliest, the earliest of
// equals, has all. The temperature is that of the choice among the eight names, each as a
// whole.
func (s StrategyScores) Probabilities(temperature float64) (p [esc.NumStrategies]float64) {
	best := 0
	for i := range s {
		if s[i] > s[best] {
			best = i
		}
	}
	if temperature == 0 {
		p[best] = 1
		return p
	}
	total := 0.0
	for i := range s {
		p[i] = math.Exp((s[i] - s[best]) / temperature)
		total += p[i]
	}
	for i := range p {
		p[i] /= total
	}
	return p
}

// Mass is the probability that the model answers with any of the eight at all.
func (s StrategyScores) Mass() float64 {
	mass := 0.0
	for _, logProb := range s {
		mass += math.Exp(logProb)
	}
	return min(1, mass)
}
