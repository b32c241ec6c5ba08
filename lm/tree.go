package lm

import "fmt"

// Sequence is a list of token ids of which some are labelled: the model is asked to predict them.
type Sequence struct {
	Tokens []int32
	// LossFrom is the index of the first labelled token; all from there on are labelled with weight 1. The first
	// token of a sequence is never labelled: nothing precedes it.
	LossFrom int
	// Weights, where given, holds one weight a token and replaces LossFrom; 0 means not labelled.
	Weights []float32
}

// weight of token i as a label.
func (s *Sequence) weight(i int) float32 {
	switch {
	case i == 0:
		return 0
	case s.Weights != nil:
		return s.Weights[i]
	case i >= s.LossFrom:
		return 1
	}
	return 0
}

// prompt is the number of leading tokens that come before the first label.
func (s *Sequence) prompt() int {
	for i := range s.Tokens {
		if s.weight(i) != 0 {
			return i
		}
	}
	return len(s.Tokens)
}

// end is the number of leading tokens whose hidden states are needed: up to the one before the last label.
func (s *Sequence) end() int {
	for i := len(s.Tokens) - 1; i > 0; i-- {
		if s.weight(i) != 0 {
			return i
		}
	}
	return 0
}

// Example is one unit of a batch: a turn (one sequence) or a preference pair (chosen, rejected).
type Example struct {
	Group     string // examples of a group (a dialogue) share prefixes and are packed together
	Sequences []Sequence
	Reference []float64 // the reference model's log-probability of each sequence, for losses that need it
}

// sequenceRef names a sequence of a list of examples.
type sequenceRef struct{ example, sequence int }

// An edge is one labelled prediction: the hidden state at node source predicts token target.
type edge struct {
	source, target int32
	sequence       int32 // within its tree
	weight         float32
}

// A tree is the prefix tree of some sequences, its nodes in depth-first order: a node's subtree is the interval
// from its own index to exit, so that node i attends to j iff j <= i < exit[j].
type tree struct {
	tokens, depth, exit []int32
	edges               []edge        // grouped by sequence, within it by position
	sources             int           // distinct source nodes
	refs                []sequenceRef // which sequences it holds, in order
	unpacked            int           // tokens of its sequences without sharing
}

// treeBuilder grows a prefix tree example by example.
type treeBuilder struct {
	share                            bool
	token, parent, first, last, prev []int32 // by node in order of insertion; first and last child, previous sibling
	next                             []int32
	roots                            [2]int32 // first and last root
	edges                            []edge   // sources in order of insertion
	refs                             []sequenceRef
	unpacked                         int
}

func newTreeBuilder(share bool) *treeBuilder {
	return &treeBuilder{share: share, roots: [2]int32{-1, -1}}
}

// child finds parent's child with a token, or makes it.
func (b *treeBuilder) child(parent, token int32, share bool) int32 {
	first, last := &b.roots[0], &b.roots[1]
	if parent >= 0 {
		first, last = &b.first[parent], &b.last[parent]
	}
	if share {
		for n := *first; n >= 0; n = b.next[n] {
			if b.token[n] == token {
				return n
			}
		}
	}
	n := int32(len(b.token))
	if *first < 0 {
		*first = n
	} else {
		b.next[*last] = n
	}
	b.prev = append(b.prev, *last)
	*last = n
	b.token = append(b.token, token)
	b.parent = append(b.parent, parent)
	b.first, b.last, b.next = append(b.first, -1), append(b.last, -1), append(b.next, -1)
	return n
}

// add inserts an example's sequences and reports whether the tree stayed within limit nodes; where it did not, the
// tree is as before. The first example always stays.
func (b *treeBuilder) add(index int, e *Example, limit int) bool {
	nodes, edges, unpacked := len(b.token), len(b.edges), b.unpacked
	for i := range e.Sequences {
		s := &e.Sequences[i]
		b.unpacked += len(s.Tokens)
		node := int32(-1)
		for t, end := 0, s.end(); t < end; t++ {
			// Without sharing a sequence is a branch of its own; nodes of this insertion are never shared then.
			node = b.child(node, s.Tokens[t], b.share)
			if w := s.weight(t + 1); w != 0 {
				b.edges = append(b.edges, edge{node, s.Tokens[t+1], int32(len(b.refs) + i), w})
			}
		}
	}
	if len(b.token) > limit && len(b.refs) > 0 {
		for n := len(b.token) - 1; n >= nodes; n-- { // each is its parent's last child
			first, last := &b.roots[0], &b.roots[1]
			if p := b.parent[n]; p >= 0 {
				first, last = &b.first[p], &b.last[p]
			}
			*last = b.prev[n]
			if *last < 0 {
				*first = -1
			} else {
				b.next[*last] = -1
			}
		}
		b.token, b.parent, b.first = b.token[:nodes], b.parent[:nodes], b.first[:nodes]
		b.last, b.prev, b.next = b.last[:nodes], b.prev[:nodes], b.next[:nodes]
		b.edges, b.unpacked = b.edges[:edges], unpacked
		return false
	}
	for i := range e.Sequences {
		b.refs = append(b.refs, sequenceRef{index, i})
	}
	return true
}

// finish puts the nodes in depth-first order.
func (b *treeBuilder) finish() *tree {
	n := len(b.token)
	t := &tree{tokens: make([]int32, 0, n), depth: make([]int32, 0, n), exit: make([]int32, n),
		edges: b.edges, refs: b.refs, unpacked: b.unpacked}
	order := make([]int32, n)    // new index of each node
	depth := make([]int32, 0, n) // by new index
	var open []int32             // ancestors of the next node, old indices
	for next := b.roots[0]; next >= 0; {
		order[next] = int32(len(t.tokens))
		t.tokens = append(t.tokens, b.token[next])
		depth = append(depth, int32(len(open)))
		if child := b.first[next]; child >= 0 {
			open = append(open, next)
			next = child
			continue
		}
		for {
			t.exit[order[next]] = int32(len(t.tokens))
			if sibling := b.next[next]; sibling >= 0 {
				next = sibling
				break
			}
			if len(open) == 0 {
				next = -1
				break
			}
			next, open = open[len(open)-1], open[:len(open)-1]
		}
	}
	t.depth = depth
	seen := make([]bool, n)
	for i := range t.edges {
		e := &t.edges[i]
		e.source = order[e.source]
		if !seen[e.source] {
			seen[e.source] = true
			t.sources++
		}
	}
	return t
}

// growTrees packs examples (indices into all, of one group, in order) into as few trees of at most limit nodes as
// their order allows.
func growTrees(all []Example, indices []int, share bool, limit int) []*tree {
	var trees []*tree
	b := newTreeBuilder(share)
	for _, i := range indices {
		if !b.add(i, &all[i], limit) {
			trees = append(trees, b.finish())
			b = newTreeBuilder(share)
			b.add(i, &all[i], limit)
		}
		if !share { // no reason to keep plain sequences together
			trees = append(trees, b.finish())
			b = newTreeBuilder(share)
		}
	}
	if len(b.refs) > 0 {
		trees = append(trees, b.finish())
	}
	return trees
}

// TooLongError says that a sequence has more tokens than the model has positions.
type TooLongError struct {
	Example, Sequence int // indices
	Tokens, Limit     int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("example %d, sequence %d has %d tokens, the model takes %d (max_position_embeddings): cut the context first",
		e.Example, e.Sequence, e.Tokens, e.Limit)
}

// checkExamples checks sizes and ids against a configuration.
func checkExamples(examples []Example, config *Config) error {
	for i := range examples {
		e := &examples[i]
		if len(e.Sequences) == 0 {
			return fmt.Errorf("example %d has no sequence", i)
		}
		if e.Reference != nil && len(e.Reference) != len(e.Sequences) {
			return fmt.Errorf("example %d has %d reference log-probabilities for %d sequences", i, len(e.Reference), len(e.Sequences))
		}
		for j := range e.Sequences {
			s := &e.Sequences[j]
			if s.Weights != nil && len(s.Weights) != len(s.Tokens) {
				return fmt.Errorf("example %d, sequence %d: %d weights for %d tokens", i, j, len(s.Weights), len(s.Tokens))
			}
			if s.end() == 0 {
				return fmt.Errorf("example %d, sequence %d: no labelled token", i, j)
			}
			// The last label is predicted, never fed: one token more than positions would still fit, but a model
			// is not asked for more than it was made for.
			if len(s.Tokens) > config.MaxPositionEmbeddings {
				return &TooLongError{i, j, len(s.Tokens), config.MaxPositionEmbeddings}
			}
			for _, t := range s.Tokens {
				if t < 0 || int(t) >= config.VocabSize {
					return fmt.Errorf("example %d, sequence %d: token id %d is outside the vocabulary of %d", i, j, t, config.VocabSize)
				}
			}
		}
	}
	return nil
}
