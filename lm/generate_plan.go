package lm

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"

	"github.com/esclab/esclab/lm/cpu"
)

// promptTree is the prefix tree of a group's prompts, each without its last token: that one is a slot's first.
type promptTree struct {
	*tree
	work []promptWork // its requests, in their order
	// While it is loaded:
	nodes []int32 // node of the cache row for each of the tree's
	units []int32 // the first node of each unit that they are in
	live  int     // samples that have not ended
	first int32   // a graph's number of its first token
}

// promptWork is one request of a tree.
type promptWork struct {
	request int
	leaf    int32 // the tree's node of the last but one token, -1 for a prompt of one
	first   int   // index of its first sample
	samples int
}

// path yields the nodes of the cache row that a token at node i of the tree, or a sample that continues it, sees: from
// the root to i.
func (p *promptTree) path(i int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for j := int32(0); j <= i; j++ {
			if i < p.exit[j] && !yield(p.nodes[j]) {
				return
			}
		}
	}
}

// wave is a set of trees that share a cache: rows × nodes, with slots a row, loaded by chunks.
type wave struct {
	rows, slots, nodes, chunk int
	unit                      int // nodes given to a tree or a sample at a time; nodes is a multiple of it
	room                      int // nodes of a row kept free of trees, for samples
	trees                     []*promptTree
}

// whole rounds up to units.
func (w *wave) whole(n int) int { return (n + w.unit - 1) / w.unit * w.unit }

const (
	treeLimit  = 2048 // nodes of a tree, unless one prompt is longer
	chunkLimit = 256  // tokens computed at once when a tree is loaded
	// slotsPerRow bounds the slots of a row: each computes scores for all of the row's nodes, its neighbours' too. Of
	// 4, 8, 16 and 32 this takes the least time on ESConv's test split on a CPU (model of 5M, 64 slots).
	slotsPerRow = 8
	typicalNew  = 48 // new tokens a slot is given room for in a row, where it may have more
)

// plan sorts requests into trees and trees into waves, the largest first: of graphs, a row of a wave holds its largest
// tree, so trees of very different size are kept apart.
func (g *Generator) plan(requests []Request) []*wave {
	trees := g.growPromptTrees(requests)
	slices.SortStableFunc(trees, func(a, b *promptTree) int { return cmp.Compare(len(b.tokens), len(a.tokens)) })
	var waves []*wave
	for len(trees) > 0 {
		w := g.newWave(trees)
		taken := len(trees)
		if g.native == nil && w.nodes > 512 { // below that, a wave of its own costs more than it saves
			for i, t := range trees {
				if i >= 4*w.rows && len(t.tokens) < w.nodes/6 {
					taken = i
					break
				}
			}
		}
		w.trees = trees[:taken]
		trees = trees[taken:]
		waves = append(waves, w)
	}
	return waves
}

// growPromptTrees makes the trees, in the order of the requests.
func (g *Generator) growPromptTrees(requests []Request) []*promptTree {
	all := make([]Example, len(requests))
	var groups [][]int
	named := map[string]int{}
	for i, r := range requests {
		all[i] = Example{Sequences: []Sequence{{Tokens: r.Prompt, LossFrom: len(r.Prompt) - 1}}}
		at, ok := named[r.Group]
		if !ok || r.Group == "" || g.config.NoReuse {
			at = len(groups)
			named[r.Group] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	var trees []*promptTree
	for _, group := range groups {
		for _, t := range growTrees(all, group, true, treeLimit) {
			p := &promptTree{tree: t}
			for _, ref := range t.refs {
				p.work = append(p.work, promptWork{request: ref.example, leaf: -1, samples: max(requests[ref.example].Samples, 1)})
			}
			for _, e := range t.edges {
				p.work[e.sequence].leaf = e.source
			}
			if !g.config.NoReuse {
				trees = append(trees, p)
				continue
			}
			for sample := range p.work[0].samples { // one tree a sample
				one := *p
				one.work = []promptWork{{p.work[0].request, p.work[0].leaf, sample, 1}}
				trees = append(trees, &one)
			}
		}
	}
	return trees
}

// newWave lays out the cache of a native decoder or of graphs for trees, the largest of which comes first.
func (g *Generator) newWave(trees []*promptTree) *wave {
	n := treeCounts{trees: len(trees), largest: len(trees[0].tokens)}
	for _, t := range trees {
		n.nodes += len(t.tokens)
		n.samples += t.samples()
		n.most = max(n.most, t.samples())
	}
	if g.native != nil {
		return g.nativeWave(n)
	}
	return g.reuseLayout(g.graphWave(n), n.largest)
}

// treeCounts are the sizes of a wave's trees.
type treeCounts struct {
	trees, samples, most int // samples of all and of one
	nodes, largest       int // tokens of all and of one
}

// nativeWave lays out a wave for the native decoder: a single row, since a token costs as much as the nodes that it
// sees, whatever else is in the row. Nothing is compiled for a layout, so there may be any number of them.
func (g *Generator) nativeWave(n treeCounts) *wave {
	w := &wave{rows: 1, slots: min(g.config.Slots, n.samples), unit: cpu.DecoderNodes, chunk: nativeChunk}
	// As many trees of the usual size as the slots' samples come from, and those whose samples begin and end.
	mean := w.whole((n.nodes+n.trees-1)/n.trees) + w.unit
	live := w.slots*n.trees/n.samples + 3
	held := max(w.whole(n.largest), min(live, n.trees)*mean)
	own := w.whole(g.config.MaxNewTokens)
	w.room = min(w.slots*own, max(own, w.slots*w.whole(typicalNew)))
	w.nodes = held + w.room
	return w
}

// graphWave lays out a wave for graphs: rows of one size, each with as many slots.
func (g *Generator) graphWave(n treeCounts) *wave {
	// At most half a tree's samples a row: the trees of a row then follow each other without a gap.
	mean := (n.samples + n.trees - 1) / n.trees
	slots := min(powerOfTwo((mean+1)/2), slotsPerRow, g.config.Slots)
	rows := min(max(g.config.Slots/slots, 1), n.trees)
	if rows*slots < g.config.Slots { // few trees
		slots = max(1, min(g.config.Slots/rows, n.most))
	}
	// Room for two trees of the usual size: the next one's samples begin while the last of the one before go on.
	held := n.largest
	if n.trees > rows {
		held = max(n.largest, 2*n.nodes/n.trees)
	}
	w := &wave{rows: rows, slots: slots, unit: 1, room: g.graphRoom(slots), chunk: min(chunkLimit, max(16, powerOfTwo(n.largest)))}
	w.nodes = ladder(held+w.room, 64)
	return w
}

// graphRoom is the nodes of a row kept for its samples.
func (g *Generator) graphRoom(slots int) int {
	return min(slots*g.config.MaxNewTokens, max(g.config.MaxNewTokens, slots*typicalNew))
}

// mostLayouts bounds the caches' shapes, of two graphs each, over all calls of a Generator.
const mostLayouts = 4

// reuseLayout gives a wave the smallest layout used before that holds its largest tree. A new layout is made where
// there is none, and, while there may be more, where that one is more than twice as large as the wave asks for or has
// fewer than half the slots. The last one that may be made holds every tree there can be.
func (g *Generator) reuseLayout(w *wave, largest int) *wave {
	work := func(l *wave) int { return l.rows * l.slots * l.nodes }
	var best *wave
	for _, l := range g.layouts {
		if l.nodes >= largest+l.room && (best == nil || work(l) < work(best)) {
			best = l
		}
	}
	room := len(g.layouts) < mostLayouts-1
	if best == nil || room && (work(best) > 2*work(w) || 2*best.rows*best.slots < w.rows*w.slots) {
		best = w
		if !room {
			slots := min(slotsPerRow, g.config.Slots)
			best = &wave{rows: max(1, g.config.Slots/slots), slots: slots, unit: 1, room: g.graphRoom(slots), chunk: chunkLimit}
			longest := g.model.MaxPositionEmbeddings
			if isXLA(g.engine.Backend) { // elsewhere the sums, which a layout orders, stay what they are
				longest = g.longest()
			}
			best.nodes = ladder(max(treeLimit, longest)+best.room, 64)
		}
		layout := *best
		g.layouts = append(g.layouts, &layout)
	}
	own := *best
	return &own
}

// longest bounds a prompt's tokens.
func (g *Generator) longest() int {
	if g.config.MaxTokens > 0 {
		return min(g.config.MaxTokens, g.model.MaxPositionEmbeddings)
	}
	return g.model.MaxPositionEmbeddings
}

func (p *promptTree) samples() int {
	n := 0
	for _, w := range p.work {
		n += w.samples
	}
	return n
}

// powerOfTwo is the smallest that is not below n.
func powerOfTwo(n int) int {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(n-1))
}
