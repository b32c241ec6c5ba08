package lm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/esclab/esclab/lm/cpu"
)

// nativeScorer computes log-probabilities on the native decoder.
type nativeScorer struct {
	*native
	share bool
}

// scoredTree is a tree with the values of its edges, as far as they are computed.
type scoredTree struct {
	*tree
	base    int32     // its first node in the cache
	order   []int     // its edges by source
	next    int       // the first of order that has not been asked for
	values  []float32 // of edges
	pending []pendingEdge
}

// pendingEdge is an edge whose source is an output of the batch.
type pendingEdge struct {
	edge int
	row  int
}

// logProbs is Scorer.LogProbs. Trees lie one after the other in the cache, which is begun anew when it is full. Their
// tokens are computed in chunks of a fixed size, which may hold the end of one tree and the beginning of the next.
func (s *nativeScorer) logProbs(ctx context.Context, examples []Example, progress func(done, total int)) ([][]SequenceLogProbs, error) {
	if err := checkExamples(examples, s.config); err != nil {
		return nil, err
	}
	result := make([][]SequenceLogProbs, len(examples))
	for i := range examples {
		result[i] = make([]SequenceLogProbs, len(examples[i].Sequences))
	}
	limit := rowLimitOf(examples, treeLimit, s.share)
	nodes := (limit + treeLimit + cpu.DecoderNodes - 1) / cpu.DecoderNodes * cpu.DecoderNodes
	run := &scoreRun{native: s.native, cache: s.decoder.NewCache(nodes), outputs: max(1, nativeLogits/s.config.VocabSize)}
	at, done := 0, 0
	for _, group := range groups(examples) {
		for _, t := range growTrees(examples, group, s.share, limit) {
			if at+len(t.tokens) > nodes {
				if err := run.flush(ctx); err != nil {
					return nil, err
				}
				at = 0
			}
			tree := newScoredTree(t, int32(at))
			if err := run.add(ctx, tree); err != nil {
				return nil, err
			}
			at += (len(t.tokens) + cpu.DecoderNodes - 1) / cpu.DecoderNodes * cpu.DecoderNodes
			run.trees = append(run.trees, tree)
		}
		if done += len(group); progress != nil {
			progress(done, len(examples))
		}
	}
	if err := run.flush(ctx); err != nil {
		return nil, err
	}
	for _, t := range run.trees {
		t.collect(result)
	}
	return result, nil
}

func newScoredTree(t *tree, base int32) *scoredTree {
	s := &scoredTree{tree: t, base: base, values: make([]float32, len(t.edges)), order: make([]int, len(t.edges))}
	for i := range s.order {
		s.order[i] = i
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return cmp.Compare(t.edges[a].source, t.edges[b].source) })
	return s
}

// collect hands the edges' values to their sequences; a sequence's edges lie in the order of its tokens.
func (t *scoredTree) collect(result [][]SequenceLogProbs) {
	for i, e := range t.edges {
		ref := t.refs[e.sequence]
		r := &result[ref.example][ref.sequence]
		r.Tokens = append(r.Tokens, t.values[i])
		r.Weights = append(r.Weights, e.weight)
	}
}

// scoreRun is one call of logProbs.
type scoreRun struct {
	*native
	cache   *cpu.DecoderCache
	outputs int // at most, of a batch
	batch   nativeBatch
	trees   []*scoredTree
	touched []*scoredTree // with edges of the batch
}

// add adds a tree's tokens to the batch, computing it whenever it is full.
func (r *scoreRun) add(ctx context.Context, t *scoredTree) error {
	var path nativePath
	for i, id := range t.tokens {
		if len(r.batch.ids) >= nativeChunk || len(r.batch.Outputs) >= r.outputs {
			if err := r.flush(ctx); err != nil {
				return err
			}
		}
		node := t.base + int32(i)
		r.batch.add(id, t.depth[i], node, path.step(int(t.depth[i]), node))
		first := t.next
		for t.next < len(t.order) && int(t.edges[t.order[t.next]].source) == i {
			t.pending = append(t.pending, pendingEdge{t.order[t.next], len(r.batch.Outputs)})
			t.next++
		}
		if t.next > first {
			r.batch.output()
			if len(r.touched) == 0 || r.touched[len(r.touched)-1] != t {
				r.touched = append(r.touched, t)
			}
		}
	}
	return nil
}

// flush computes the batch and its edges.
func (r *scoreRun) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil || len(r.batch.ids) == 0 {
		return err
	}
	r.batch.LogSum = make([]float32, len(r.batch.Outputs))
	if err := r.forward(r.cache, &r.batch); err != nil {
		return fmt.Errorf("log-probabilities: %w", err)
	}
	for _, t := range r.touched {
		for _, p := range t.pending {
			t.values[p.edge] = r.batch.Logits[p.row*r.config.VocabSize+int(t.edges[p.edge].target)] - r.batch.LogSum[p.row]
		}
		t.pending = t.pending[:0]
	}
	r.touched = r.touched[:0]
	r.batch.clear()
	return nil
}
