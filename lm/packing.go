package lm

import (
	"cmp"
	"slices"
)

// Packing says whether shared prefixes are computed once.
type Packing string

const (
	PackTree Packing = "tree" // prefix trees: the default
	PackNone Packing = "none" // every sequence on its own: the plain way, through the same graph
)

// shape is the size of a packed micro-batch: what a graph is compiled for.
type shape struct {
	rows, length int // B, N
	sources      int // U, distinct nodes that predict something
	edges        int // E
	sequences    int // S
}

// covers reports whether a micro-batch of shape o fits into s.
func (s shape) covers(o shape) bool {
	return s.rows >= o.rows && s.length >= o.length && s.sources >= o.sources && s.edges >= o.edges && s.sequences >= o.sequences
}

func (s shape) union(o shape) shape {
	return shape{max(s.rows, o.rows), max(s.length, o.length), max(s.sources, o.sources), max(s.edges, o.edges), max(s.sequences, o.sequences)}
}

// ladder rounds a length up to the next of four steps an octave, at least low: the waste is at most a fifth.
func ladder(n, low int) int {
	if n <= low {
		return low
	}
	step := 1
	for step*8 < n {
		step *= 2
	}
	return (n + step - 1) / step * step
}

// A microBatch is rows of trees.
type microBatch struct {
	rows   [][]*tree
	length int // the planned row length
}

// size is the micro-batch's shape before it is rounded to a planned one.
func (m *microBatch) size() shape {
	s := shape{rows: len(m.rows), length: m.length}
	for _, row := range m.rows {
		for _, t := range row {
			s.sources += t.sources
			s.edges += len(t.edges)
			s.sequences += len(t.refs)
		}
	}
	s.sources, s.edges, s.sequences = ladder(s.sources, 16), ladder(s.edges, 16), ladder(s.sequences, 2)
	s.sequences += s.sequences % 2 // preference pairs: an even number
	return s
}

// packer lays trees out in rows.
type packer struct {
	share     bool
	rowLimit  int // nodes a tree may have, and a row where trees are smaller
	maxTokens int // B·N of a micro-batch, unless a single row is longer
	cost      costModel
}

// costModel estimates the work of a micro-batch, in floating-point operations.
type costModel struct {
	token  float64 // of a token outside attention
	pair   float64 // of a (query, key) pair, over all layers and heads
	source float64 // of a row of logits
}

// newCostModel counts 2 operations a weight and token; elementwise passes over attention's scores are worth about
// 60 operations a score on a CPU, which is as much as the products of small heads.
func newCostModel(c *Config) costModel {
	weights := 0
	for _, m := range c.projections() {
		weights += m.out * m.in
	}
	return costModel{
		token:  2 * float64(weights*c.NumHiddenLayers),
		pair:   float64(c.NumHiddenLayers*c.NumAttentionHeads) * (4*float64(c.HeadDim) + 60),
		source: 2 * float64(c.VocabSize*c.HiddenSize),
	}
}

func (m costModel) of(s shape) float64 {
	tokens := float64(s.rows * s.length)
	blocks := float64(max(1, min(maxBlocks, s.length/blockTokens)))
	seen := float64(s.length) * (1 + 1/blocks) / 2 // keys a query, on average
	return tokens*m.token + tokens*seen*m.pair + float64(s.sources)*m.source
}

// pack lays trees out in rows and rows in micro-batches, with the row length that costs least.
func (p *packer) pack(trees []*tree) []microBatch {
	longest := 1
	for _, t := range trees {
		longest = max(longest, len(t.tokens))
	}
	order := slices.Clone(trees) // by falling size, then as given
	slices.SortStableFunc(order, func(a, b *tree) int { return cmp.Compare(len(b.tokens), len(a.tokens)) })
	var best []microBatch
	bestCost := 0.0
	for length := ladder(longest, 32); ; length = ladder(length+1, 32) {
		batches := p.layout(order, length)
		cost := 0.0
		for i := range batches {
			cost += p.cost.of(batches[i].size())
		}
		if best == nil || cost < bestCost {
			best, bestCost = batches, cost
		}
		if length >= p.rowLimit || len(batches) == 1 && len(batches[0].rows) == 1 {
			return best
		}
	}
}

// layout packs trees into rows of a length (first fit, by falling size) and rows evenly into micro-batches.
func (p *packer) layout(order []*tree, length int) []microBatch {
	var rows [][]*tree
	var free []int
	for _, t := range order {
		fit := slices.IndexFunc(free, func(f int) bool { return f >= len(t.tokens) })
		if fit < 0 {
			fit = len(rows)
			rows, free = append(rows, nil), append(free, length)
		}
		rows[fit] = append(rows[fit], t)
		free[fit] -= len(t.tokens)
	}
	most := max(1, p.maxTokens/length)
	count := (len(rows) + most - 1) / most
	var batches []microBatch
	for i := range count {
		from, to := i*len(rows)/count, (i+1)*len(rows)/count
		batches = append(batches, microBatch{rows[from:to], length})
	}
	return batches
}

// packed is a micro-batch as graphs take it: their one input format.
type packed struct {
	shape
	tokens, positions, enter, exit []int32 // [B, N]
	sources                        []int32 // [U], flat node index
	edgeSource, edgeTarget         []int32 // [E], index into sources; token
	edgeSequence                   []int32 // [E], index into sequences
	edgeWeight                     []float32
	labels                         int           // edges that are there; the rest is padding
	refs                           []sequenceRef // of the sequences that are there, in order
}

// fill lays a micro-batch out in a shape that covers it. Padding nodes attend to themselves alone, padding edges
// weigh nothing.
func (m *microBatch) fill(s shape) *packed {
	cells := s.rows * s.length
	p := &packed{shape: s,
		tokens: make([]int32, cells), positions: make([]int32, cells), enter: make([]int32, cells), exit: make([]int32, cells),
		sources: make([]int32, 0, s.sources), edgeSource: make([]int32, 0, s.edges), edgeTarget: make([]int32, 0, s.edges),
		edgeSequence: make([]int32, 0, s.edges), edgeWeight: make([]float32, 0, s.edges)}
	for i := range cells {
		p.enter[i], p.exit[i] = int32(i%s.length), int32(i%s.length+1)
	}
	for r, row := range m.rows {
		at := r * s.length
		for _, t := range row {
			base := int32(at % s.length)
			copy(p.tokens[at:], t.tokens)
			copy(p.positions[at:], t.depth)
			for i, exit := range t.exit {
				p.exit[at+i] = base + exit
			}
			index := make([]int32, len(t.tokens)) // of a node among sources, plus one
			for _, e := range t.edges {
				if index[e.source] == 0 {
					p.sources = append(p.sources, int32(at)+e.source)
					index[e.source] = int32(len(p.sources))
				}
				p.edgeSource = append(p.edgeSource, index[e.source]-1)
				p.edgeTarget = append(p.edgeTarget, e.target)
				p.edgeSequence = append(p.edgeSequence, int32(len(p.refs))+e.sequence)
				p.edgeWeight = append(p.edgeWeight, e.weight)
			}
			p.refs = append(p.refs, t.refs...)
			at += len(t.tokens)
		}
	}
	p.labels = len(p.edgeTarget)
	p.sources = p.sources[:s.sources]
	p.edgeSource, p.edgeTarget = p.edgeSource[:s.edges], p.edgeTarget[:s.edges]
	p.edgeSequence, p.edgeWeight = p.edgeSequence[:s.edges], p.edgeWeight[:s.edges]
	return p
}
