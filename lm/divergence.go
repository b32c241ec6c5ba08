package lm

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
)

// Divergence says how far apart two models are over the labelled tokens of some sequences. All but Tokens are in nats.
type Divergence struct {
	Tokens  int
	MaxAbs  float64 // largest difference of a token's log-probability
	MeanAbs float64 // mean over tokens
	KL      float64 // mean over tokens of KL(first ‖ second), over the whole vocabulary
	MaxKL   float64
}

// divergenceTokens are the nodes of a micro-batch where the options say nothing: whole rows of logits are compared, and
// they are wide.
const divergenceTokens = 512

// Diverge compares a model with an adapter (which may be nil) with another model of the same vocabulary: an adapter on
// its base with the merged model, or weights with their rounding. A number that is not finite is an error.
func Diverge(ctx context.Context, engine *Engine, first *Model, adapter *Adapter, second *Model, examples []Example, options LogProbsOptions) (Divergence, error) {
	var d Divergence
	if first.Config.VocabSize != second.Config.VocabSize {
		return d, fmt.Errorf("compare models: vocabularies of %d and %d tokens", first.Config.VocabSize, second.Config.VocabSize)
	}
	if options.MicroBatchTokens == 0 {
		options.MicroBatchTokens = divergenceTokens
	}
	options.MaxShapes = cmp.Or(options.MaxShapes, engine.mostShapes())
	if err := options.complete(); err != nil {
		return d, err
	}
	one, err := operandsOf(engine, first, adapter)
	if err != nil {
		return d, fmt.Errorf("compare models: %w", err)
	}
	two, err := operandsOf(engine, second, nil)
	if err != nil {
		return d, fmt.Errorf("compare models: %w", err)
	}
	p := newProgram(engine, "divergence", func(nodes []*Node) []*Node {
		from := len(one.names)
		to := from + len(two.names)
		b := packedOf(nodes[to:])
		return divergence(b, one.decoder(nodes[:from]).distributions(b), two.decoder(nodes[from:to]).distributions(b))
	})
	defer p.close()
	both := slices.Concat(one.tensors, two.tensors)
	err = options.each(ctx, &first.Config, examples, func(b *packed) error {
		values, err := p.edgeValues(both, b)
		if err != nil {
			return err
		}
		for e := range b.labels {
			difference, kl := math.Abs(float64(values[0][e])), float64(values[1][e])
			if !finite(difference) || !finite(kl) {
				return fmt.Errorf("compare models: a difference of %v, a KL of %v: %w", difference, kl, ErrNonFinite)
			}
			d.Tokens++
			d.MaxAbs, d.MaxKL = max(d.MaxAbs, difference), max(d.MaxKL, kl)
			d.MeanAbs += difference
			d.KL += kl
		}
		return nil
	})
	if err != nil || d.Tokens == 0 {
		return d, err
	}
	d.MeanAbs /= float64(d.Tokens)
	d.KL /= float64(d.Tokens)
	return d, nil
}

// distributions are the log-probabilities of all tokens at the nodes that predict something, [U, V].
func (d *decoder) distributions(b packedNodes) *Node { return LogSoftmax(d.logits(d.sources(b))) }

// divergence compares distributions [U, V] at each edge: the difference of its target's log-probability [E] and the KL
// of first from second [E].
func divergence(b packedNodes, first, second *Node) []*Node {
	apart := Sub(first, second)                                          // [U, V]
	kl := ReduceAndKeep(Mul(Exp(first), apart), ReduceSum, -1)           // [U, 1]
	at := InsertAxes(b.edgeSource, -1)                                   // [E, 1]
	target := Concatenate([]*Node{at, InsertAxes(b.edgeTarget, -1)}, -1) // [E, 2]
	return []*Node{Gather(apart, target), Squeeze(Gather(kl, at), -1)}   // [E], [E]
}
