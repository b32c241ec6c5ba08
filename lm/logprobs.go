package lm

import (
	"context"
	"fmt"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
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
	MaxShapes        int                   // 0: 8
	Progress         func(done, total int) // examples scored, after each batch; may be nil
}

// Scorer computes log-probabilities with one model, keeping its compiled graphs. Safe for concurrent use.
type Scorer struct {
	engine   *Engine
	model    *Model
	operands operands
	options  LogProbsOptions
	program  *program
}

// NewScorer makes a scorer for a model with an adapter, which may be nil.
func NewScorer(engine *Engine, model *Model, adapter *Adapter, options LogProbsOptions) (*Scorer, error) {
	check := TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 1, BatchSize: 1, LearningRate: 1, Packing: options.Packing,
		RowTokens: options.RowTokens, MicroBatchTokens: options.MicroBatchTokens, MaxShapes: options.MaxShapes}
	if err := check.complete(); err != nil {
		return nil, err
	}
	options.Packing, options.RowTokens = check.Packing, check.RowTokens
	options.MicroBatchTokens, options.MaxShapes = check.MicroBatchTokens, check.MaxShapes
	s := &Scorer{engine: engine, model: model, operands: operandsOf(model, adapter), options: options}
	s.program = newProgram(engine, "log-probabilities", func(nodes []*Node) []*Node {
		count := len(s.operands.names)
		return []*Node{s.operands.decoder(nodes[:count]).edgeLogProbs(packedOf(nodes[count:]))}
	})
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
	if err := checkExamples(examples, &s.model.Config); err != nil {
		return nil, err
	}
	share := s.options.Packing == PackTree
	p := planner{
		packer: packer{share: share, rowLimit: rowLimitOf(examples, s.options.RowTokens, share),
			maxTokens: s.options.MicroBatchTokens, cost: newCostModel(&s.model.Config)},
		examples: examples, batchSize: scorerBatch,
	}
	if err := p.plan(ctx, 1, s.options.MaxShapes); err != nil {
		return nil, err
	}
	result := make([][]SequenceLogProbs, len(examples))
	for i := range examples {
		result[i] = make([]SequenceLogProbs, len(examples[i].Sequences))
	}
	done := 0
	for _, batch := range p.batches(0) {
		for _, micro := range p.split(batch) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			filled := micro.fill(p.fit(&micro))
			given := filled.tensors()
			out, err := s.program.run(slices.Concat(keep(s.operands.tensors...), keep(given...)))
			if err != nil {
				return nil, err
			}
			values, err := floats(out[0])
			if err != nil {
				return nil, fmt.Errorf("log-probabilities: %w", err)
			}
			release(given...)
			release(out...)
			filled.collect(values, result)
		}
		if done += len(batch); s.options.Progress != nil {
			s.options.Progress(done, len(examples))
		}
	}
	return result, nil
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
