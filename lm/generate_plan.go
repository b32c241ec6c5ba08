package lm

import (
	"cmp"
	"math/bits"
	"slices"
)

// promptTree is the prefix tree of a group's prompts, each without its last token: that one is a slot's first.
type promptTree struct {
	*tree
	work []promptWork // its requests, in their order
	// While it is loaded:
	nodes []int32 // node of the cache row for each of the tree's
	live  int     // samples that have not ended
}

// promptWork is one request of a tree.
type promptWork struct {
	request int
	leaf    int32 // the tree's node of the last but one token, -1 for a prompt of one
	first   int   // index of its first sample
	samples int
}

// see makes a token at node i of the tree (or a sample that continues it) see the path to i in its mask, [M].
func (p *promptTree) see(i int32, mask []float32) {
	for j := int32(0); j <= i; j++ {
		if i < p.exit[j] {
			mask[p.nodes[j]] = 0
		}
	}
}

// wave is a set of trees that share a cache: rows × nodes, with slots a row, loaded by chunks.
type wave struct {
	rows, slots, nodes, chunk int
	room                      int // nodes of a row kept free of trees, for samples
	trees                     []*promptTree
}

const (
	treeLimit  = 2048 // nodes of a tree, unless one prompt is longer
	chunkLimit = 256  // tokens computed at once when a tree is loaded
	// slotsPerRow bounds the slots of a row: each computes scores for all of the row's nodes, its neighbours' too. Of
	// 4, 8, 16 and 32 this takes the least time on ESConv's test split on a CPU (model of 5M, 64 slots).
	slotsPerRow = 8
	typicalNew  = 48 // new tokens a slot is given room for in a row, where it may have more
)

// plan sorts requests into trees and trees into waves, the largest first: a row of a wave holds its largest tree,
// so trees of very different size are kept apart.
func (g *Generator) plan(requests []Request) []*wave {
	trees := g.growPromptTrees(requests)
	slices.SortStableFunc(trees, func(a, b *promptTree) int { return cmp.Compare(len(b.tokens), len(a.tokens)) })
	var waves []*wave
	for len(trees) > 0 {
		w := g.newWave(trees)
		taken := len(trees)
		if w.nodes > 512 { // below that, a wave of its own costs more than it saves
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

// newWave lays out the cache for trees, the largest of which comes first.
func (g *Generator) newWave(trees []*promptTree) *wave {
	samples, most := 0, 0
	for _, t := range trees {
		n := t.samples()
		samples += n
		most = max(most, n)
	}
	// At most half a tree's samples a row: the trees of a row then follow each other without a gap.
	mean := (samples + len(trees) - 1) / len(trees)
	slots := min(powerOfTwo((mean+1)/2), slotsPerRow, g.config.Slots)
	rows := min(max(g.config.Slots/slots, 1), len(trees))
	if rows*slots < g.config.Slots { // few trees
		slots = max(1, min(g.config.Slots/rows, most))
	}
	largest, sum := len(trees[0].tokens), 0
	for _, t := range trees {
		sum += len(t.tokens)
	}
	// Room for two trees of the usual size: the next one's samples begin while the last of the one before go on.
	held := largest
	if len(trees) > rows {
		held = max(largest, 2*sum/len(trees))
	}
	room := min(slots*g.config.MaxNewTokens, max(g.config.MaxNewTokens, slots*typicalNew))
	return &wave{rows: rows, slots: slots, room: room, nodes: ladder(held+room, 64),
		chunk: min(chunkLimit, max(16, powerOfTwo(largest)))}
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
