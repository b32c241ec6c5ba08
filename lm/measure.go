package lm

import (
	"context"
	"slices"
	"time"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// StepWork is what one training step has to compute.
type StepWork struct {
	Examples       []int        // of the data set, in the order they are packed
	Tokens         int          // computed, each shared prefix once, without padding
	TokensUnpacked int          // of the sequences as they are
	Attended       int          // pairs (token, token it attends to) among the computed ones, itself included
	Labels         int          // labelled tokens
	Sources        int          // tokens whose logits are computed: one may predict several labels
	Shapes         []ShapeCount // the shapes its micro-batches are padded to
}

// Work returns what the step-th step (from 0) computes. It takes no step and changes nothing.
func (t *Trainer) Work(step int) StepWork {
	batch := t.batch(step)
	w := StepWork{Examples: slices.Clone(batch)}
	for _, micro := range t.planner.split(batch) {
		for _, row := range micro.rows {
			for _, tree := range row {
				w.Tokens += len(tree.tokens)
				w.TokensUnpacked += tree.unpacked
				w.Labels += len(tree.edges)
				w.Sources += tree.sources
				for _, depth := range tree.depth {
					w.Attended += int(depth) + 1
				}
			}
		}
		s := t.planner.fit(&micro)
		shape := ShapeCount{s.rows, s.length, s.sources, s.edges, s.sequences, 1}
		known := slices.IndexFunc(w.Shapes, func(o ShapeCount) bool { o.MicroBatches = 1; return o == shape })
		if known < 0 {
			w.Shapes = append(w.Shapes, shape)
			continue
		}
		w.Shapes[known].MicroBatches++
	}
	return w
}

// Sharing counts what prefix trees save on a data set.
type Sharing struct {
	Tokens   int `json:"tokens"`   // computed: each shared prefix once
	Unpacked int `json:"unpacked"` // of the sequences as they are
}

// Saved is how many times fewer tokens are computed.
func (s Sharing) Saved() float64 { return float64(s.Unpacked) / float64(s.Tokens) }

// SharingOf counts the tokens of examples as one tree a group, however long: the most that packing can save. A
// batch's border that cuts a group, and a limit of a row, cost some of it (StepMetrics has what a training computed).
// The last token of a sequence, which predicts nothing, is not computed, and not counted on either side.
func SharingOf(examples []Example) Sharing {
	var s Sharing
	for _, indices := range groups(examples) {
		for _, t := range growTrees(examples, indices, true, int(^uint(0)>>1)) {
			s.Tokens += len(t.tokens)
		}
		for _, i := range indices {
			for j := range examples[i].Sequences {
				s.Unpacked += examples[i].Sequences[j].end()
			}
		}
	}
	return s
}

// PeakFLOPS measures what the engine reaches in plain matrix products, in floating-point operations a second: the
// best of several rounds of float32 products of square matrices with size rows, as the linear maps of a model
// compute them (x times w transposed). It is the yardstick for the share of the machine that a training uses.
func (e *Engine) PeakFLOPS(ctx context.Context, size, rounds int) (float64, error) {
	const products = 4 // a call, so that its own cost does not count
	p := newProgram(e, "peak", func(nodes []*Node) []*Node {
		x := nodes[0] // [size, size]
		for range products {
			x = product(x, nodes[1])
		}
		return []*Node{ReduceAllMax(x)}
	})
	defer p.close()
	matrix := func(purpose uint64) *tensors.Tensor {
		values, s := make([]float32, size*size), newStream(purpose)
		for i := range values {
			values[i] = float32((2*s.uniform() - 1) / float64(size)) // products stay small
		}
		return tensors.FromFlatDataAndDimensions(values, size, size)
	}
	x, w := matrix(1), matrix(2)
	defer release(x, w)
	best := time.Duration(0)
	for round := range rounds + 1 { // the first one compiles
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		out, err := p.run(keep(x, w))
		if err != nil {
			return 0, err
		}
		_, err = scalar(out[0]) // waits for the result
		took := time.Since(start)
		release(out...)
		if err != nil {
			return 0, err
		}
		if round > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	n := float64(size)
	return products * 2 * n * n * n / best.Seconds(), nil
}
