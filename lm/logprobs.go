package lm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// SequenceLogProbs are the log-probabilities of a sequence's labelled tokens, in order, and their weights.
type SequenceLogProbs struct {
	Tokens  []float32
	Weights []float32
}

// Sum is the weighted sum: the log-probability of the labelled tokens given what precedes them.
func (s *SequenceLogProbs) Sum() float64 {
	sum := 0.0
	for i, p := range s.Tokens {
		sum += float64(p) * float64(s.Weights[i])
	}
	return sum
}

// LogProbsOptions tunes a Scorer; zero values are good defaults.
type LogProbsOptions struct {
	Packing          Packing               // "": tree
	RowTokens        int                   // as in TrainConfig; 0: 1024
	MicroBatchTokens int                   // 0: 2048
	MaxShapes        int                   // 0: 8, on XLA 3
	Progress         func(done, total int) // examples scored, after each batch; may be nil
	// Native scores on the decoder that generation runs on, where there is one (GenerateConfig), with an adapter
	// merged: several times faster, in no shapes, and a sequence's score does not depend on what is scored beside it.
	// It rounds otherwise than training does, so what a loss is compared with is better left to the graph.
	Native bool
}

// complete fills zero values in and checks the others, as a training does.
func (o *LogProbsOptions) complete() error {
	check := TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 1, BatchSize: 1, LearningRate: 1, Packing: o.Packing,
		RowTokens: o.RowTokens, MicroBatchTokens: o.MicroBatchTokens, MaxShapes: o.MaxShapes}
	if err := check.complete(); err != nil {
		return err
	}
	o.Packing, o.RowTokens, o.MicroBatchTokens, o.MaxShapes = check.Packing, check.RowTokens, check.MicroBatchTokens, check.MaxShapes
	return nil
}

// Scorer computes log-probabilities with one model, keeping its compiled graphs or its native decoder. Safe for
// concurrent use.
type Scorer struct {
	mu     sync.Mutex    // of native
	native *nativeScorer // nil where graphs compute

	engine   *Engine
	model    *Model
	operands operands
	options  LogProbsOptions
	program  *program
}

// NewScorer makes a scorer for a model with an adapter, which may be nil.
func NewScorer(engine *Engine, model *Model, adapter *Adapter, options LogProbsOptions) (*Scorer, error) {
	options.MaxShapes = cmp.Or(options.MaxShapes, engine.mostShapes())
	if err := options.complete(); err != nil {
		return nil, err
	}
	operands, err := operandsOf(engine, model, adapter)
	if err != nil {
		return nil, fmt.Errorf("log-probabilities: %w", err)
	}
	s := &Scorer{engine: engine, model: model, operands: operands, options: options}
	s.program = newProgram(engine, "log-probabilities", func(nodes []*Node) []*Node {
		count := len(s.operands.names)
		return []*Node{s.operands.decoder(nodes[:count]).edgeLogProbs(packedOf(nodes[count:]))}
	})
	if !options.Native {
		return s, nil
	}
	n, err := newNative(engine, model, adapter)
	if err != nil {
		return nil, fmt.Errorf("log-probabilities: %w", err)
	}
	if n != nil {
		s.native = &nativeScorer{n, options.Packing == PackTree}
	}
	return s, nil
}

// Close releases the compiled graphs.
func (s *Scorer) Close() { s.program.close() }

// CompiledShapes is the number of graphs compiled so far.
func (s *Scorer) CompiledShapes() int { return s.program.shapes() }

// scorerBatch is the number of examples packed together: enough for rows to fill well.
const scorerBatch = 64

// LogProbs returns the log-probabilities of every example's sequences, in their order. Prefixes that sequences of one
// group share are computed once: the eight strategies after one context cost little more than one.
func (s *Scorer) LogProbs(ctx context.Context, examples []Example) ([][]SequenceLogProbs, error) {
	if s.native != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.native.logProbs(ctx, examples, s.options.Progress)
	}
	result := make([][]SequenceLogProbs, len(examples))
	for i := range examples {
		result[i] = make([]SequenceLogProbs, len(examples[i].Sequences))
	}
	err := s.options.each(ctx, &s.model.Config, examples, func(p *packed) error {
		values, err := s.program.edgeValues(s.operands.tensors, p)
		if err != nil {
			return err
		}
		p.collect(values[0], result)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// each packs examples and hands their micro-batches to do, one after another. The options are complete.
func (o *LogProbsOptions) each(ctx context.Context, config *Config, examples []Example, do func(*packed) error) error {
	if err := checkExamples(examples, config); err != nil {
		return err
	}
	share := o.Packing == PackTree
	p := planner{
		packer: packer{share: share, rowLimit: rowLimitOf(examples, o.RowTokens, share),
			maxTokens: o.MicroBatchTokens, cost: newCostModel(config)},
		examples: examples, batchSize: scorerBatch,
	}
	if err := p.plan(ctx, 1, o.MaxShapes, p.split); err != nil {
		return err
	}
	done := 0
	for _, batch := range p.batches(0) {
		for _, micro := range p.split(batch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(micro.fill(p.fit(&micro))); err != nil {
				return err
			}
		}
		if done += len(batch); o.Progress != nil {
			o.Progress(done, len(examples))
		}
	}
	return nil
}

// edgeValues runs a program that takes operands and a packed micro-batch and gives lists of float32, one number an
// edge, padding included.
func (p *program) edgeValues(operands []*tensors.Tensor, b *packed) ([][]float32, error) {
	given := b.tensors()
	out, err := p.run(slices.Concat(keep(operands...), keep(given...)))
	if err != nil {
		return nil, err
	}
	lists := make([][]float32, len(out))
	for i, t := range out {
		if lists[i], err = floats(t); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	release(given...)
	release(out...)
	return lists, nil
}

// collect hands edge values [E] to their sequences; a sequence's edges lie in the order of its tokens.
func (p *packed) collect(values []float32, result [][]SequenceLogProbs) {
	for e := range p.labels {
		ref := p.refs[p.edgeSequence[e]]
		r := &result[ref.example][ref.sequence]
		r.Tokens = append(r.Tokens, values[e])
		r.Weights = append(r.Weights, p.edgeWeight[e])
	}
}

// LogProbs is a Scorer's LogProbs, once.
func LogProbs(ctx context.Context, engine *Engine, model *Model, adapter *Adapter, examples []Example, options LogProbsOptions) ([][]SequenceLogProbs, error) {
	s, err := NewScorer(engine, model, adapter, options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.LogProbs(ctx, examples)
}
