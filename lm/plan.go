package lm

import (
	"cmp"
	"context"
	"slices"
)

// ShapeCount is a compiled shape and how many micro-batches of the plan use it.
type ShapeCount struct {
	Rows, Length, Sources, Edges, Sequences int
	MicroBatches                            int
}

// planner turns examples into batches, and batches into micro-batches of few shapes.
type planner struct {
	packer
	examples  []Example
	batchSize int
	seed      uint64
	shuffle   bool // groups, or with batching shuffled the examples, in another order each epoch
	batching  Batching
	positions int      // tokens of the longest sequence that the model takes
	mismatch  *planner // of kto's mismatched pairs; nil for other losses
	shapes    []shape
	counts    []int
}

// groups lists the indices of each group's examples, groups in order of first appearance.
func groups(examples []Example) [][]int {
	position := map[string]int{}
	var list [][]int
	for i := range examples {
		g, ok := position[examples[i].Group]
		if !ok {
			g = len(list)
			position[examples[i].Group] = g
			list = append(list, nil)
		}
		list[g] = append(list[g], i)
	}
	return list
}

// Batching says which examples come together in a batch.
type Batching string

const (
	BatchNeighbours Batching = "neighbours" // those of a group, in their order: the default
	BatchShuffled   Batching = "shuffled"   // drawn from all
)

// batches cuts an epoch into batches of exactly batchSize examples (the last holds the rest), in an order by (seed,
// epoch). With batching neighbours the groups are shuffled and laid end to end, their examples in the order given, so
// that a batch boundary cuts at most one group and almost all of a dialogue's prefixes are shared within one batch.
// With batching shuffled the examples are; within a batch those of a group stand beside each other, so that they share
// what they can.
func (p *planner) batches(epoch int) [][]int {
	all := groups(p.examples)
	order := make([]int, 0, len(p.examples))
	switch {
	case p.shuffle && p.batching == BatchShuffled:
		place := make([]int, len(p.examples)) // in the order of neighbours
		for k, i := range slices.Concat(all...) {
			place[i] = k
		}
		order = newStream(p.seed, purposeOrder, uint64(epoch)).shuffled(len(p.examples))
		for batch := range slices.Chunk(order, p.batchSize) {
			slices.SortFunc(batch, func(a, b int) int { return cmp.Compare(place[a], place[b]) })
		}
	case p.shuffle:
		for _, g := range newStream(p.seed, purposeOrder, uint64(epoch)).shuffled(len(all)) {
			order = append(order, all[g]...)
		}
	default:
		order = slices.Concat(all...)
	}
	return slices.Collect(slices.Chunk(order, p.batchSize))
}

// split packs one batch.
func (p *planner) split(batch []int) []microBatch { return p.splitAll(p.examples, batch) }

// splitAll packs some examples, those of a group beside each other.
func (p *planner) splitAll(examples []Example, batch []int) []microBatch {
	var trees []*tree
	for from := 0; from < len(batch); {
		to := from + 1
		for to < len(batch) && examples[batch[to]].Group == examples[batch[from]].Group {
			to++
		}
		trees = append(trees, growTrees(examples, batch[from:to], p.share, p.rowLimit)...)
		from = to
	}
	return p.pack(trees)
}

// plan goes through the batches of all epochs, as split packs them, and chooses at most most shapes: it begins with
// every size that occurs and merges the two whose union costs least, until few enough are left.
func (p *planner) plan(ctx context.Context, epochs, most int, split func(batch []int) []microBatch) error {
	counts := map[shape]int{}
	for epoch := range epochs {
		for _, batch := range p.batches(epoch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			for _, m := range split(batch) {
				counts[m.size()]++
			}
		}
	}
	for s := range counts {
		p.shapes = append(p.shapes, s)
	}
	slices.SortFunc(p.shapes, shape.compare)
	for _, s := range p.shapes {
		p.counts = append(p.counts, counts[s])
	}
	for len(p.shapes) > most {
		p.mergeCheapest()
	}
	return nil
}

// compare orders shapes, so that nothing depends on the order of a map.
func (s shape) compare(o shape) int {
	return slices.Compare([]int{s.rows, s.length, s.sources, s.edges, s.sequences}, []int{o.rows, o.length, o.sources, o.edges, o.sequences})
}

// mergeCheapest replaces two shapes by their union.
func (p *planner) mergeCheapest() {
	bestCost, a, b := -1.0, 0, 0
	for i := range p.shapes {
		for j := i + 1; j < len(p.shapes); j++ {
			u := p.cost.of(p.shapes[i].union(p.shapes[j]))
			extra := float64(p.counts[i])*(u-p.cost.of(p.shapes[i])) + float64(p.counts[j])*(u-p.cost.of(p.shapes[j]))
			if bestCost < 0 || extra < bestCost {
				bestCost, a, b = extra, i, j
			}
		}
	}
	p.shapes[a] = p.shapes[a].union(p.shapes[b])
	p.counts[a] += p.counts[b]
	p.shapes = slices.Delete(p.shapes, b, b+1)
	p.counts = slices.Delete(p.counts, b, b+1)
}

// fit returns the cheapest planned shape that covers a micro-batch, or its own size where none does.
func (p *planner) fit(m *microBatch) shape {
	size := m.size()
	best, found := size, false
	for _, s := range p.shapes {
		if s.covers(size) && (!found || p.cost.of(s) < p.cost.of(best)) {
			best, found = s, true
		}
	}
	return best
}

// report lists the planned shapes.
func (p *planner) report() []ShapeCount {
	list := make([]ShapeCount, len(p.shapes))
	for i, s := range p.shapes {
		list[i] = ShapeCount{s.rows, s.length, s.sources, s.edges, s.sequences, p.counts[i]}
	}
	return list
}

// rowLimitOf is the configured limit of a row, or the size of the largest single example where that is more.
func rowLimitOf(examples []Example, limit int, share bool) int {
	for i := range examples {
		upper := 0 // without sharing between its sequences
		for j := range examples[i].Sequences {
			upper += examples[i].Sequences[j].end()
		}
		if upper > limit {
			limit = max(limit, len(growTrees(examples, []int{i}, share, 0)[0].tokens))
		}
	}
	return limit
}
