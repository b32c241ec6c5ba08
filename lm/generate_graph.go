package lm

import (
	"context"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// Shapes in this file: D cache rows, M nodes a row, S slots a row; a chunk is N tokens of a row being loaded.
// K key-value heads, C head dimension, L layers.

// graphCache computes a wave by graphs, on any engine. It holds keys and values of all layers on the device: keys of
// layer 0, values of layer 0, keys of layer 1…, each [D·K, M, C]: of rank 3, as the Go backend would copy one of rank
// 4 for each matrix product. Nodes that a mask hides enter the products with weight 0, so they only need to be finite.
//
// The last tensor tells of each node which numbers see it, from one up to another, and its token: [D, 3, M], int32.
// Tokens of trees are numbered from 0 in the order in which they are loaded, so that those that continue one are an
// interval; samples have numbers below -1, and each sees the nodes of its own. Masks and the tokens drawn so far are the
// device's own, then, and nothing that is uploaded for a step grows with the cache.
type graphCache struct {
	g       *Generator
	wave    *wave
	tensors []*tensors.Tensor
	drawn   *tensors.Tensor // [D·S], int32: what the step before drew, -1 where nothing
	chance  *tensors.Tensor // [3], float64: temperature, top-p and penalty
	sees    [][2]int32      // [D·S]: the numbers of an occupied slot, of its prompt's leaf (-1: none) and of its sample
	fresh   []bool          // [D·S]: the slot's token is its prompt's
	loaded  int32           // tokens of trees
	samples int32
}

func (g *Generator) newGraphCache(w *wave) *graphCache {
	slots := w.rows * w.slots
	c := &graphCache{g: g, wave: w, sees: make([][2]int32, slots), fresh: make([]bool, slots),
		drawn:  tensors.FromFlatDataAndDimensions(slices.Repeat([]int32{-1}, slots), slots),
		chance: tensors.FromFlatDataAndDimensions([]float64{g.config.Temperature, g.config.TopP, g.config.RepetitionPenalty}, 3)}
	dtype := dtypes.Float32
	if g.half {
		dtype = dtypes.BFloat16
	}
	for range 2 * g.model.NumHiddenLayers {
		c.tensors = append(c.tensors, tensors.FromShape(shapes.Make(dtype, w.rows*g.model.NumKeyValueHeads, w.nodes, g.model.HeadDim)))
	}
	c.tensors = append(c.tensors, tensors.FromShape(shapes.Make(dtypes.Int32, w.rows, 3, w.nodes)))
	return c
}

func (c *graphCache) release() { release(append(c.tensors, c.drawn, c.chance)...) }

func (c *graphCache) begin(at int, tree *promptTree, leaf int32) {
	c.samples++
	c.sees[at], c.fresh[at] = [2]int32{-1, -1 - c.samples}, true
	if leaf >= 0 {
		c.sees[at][0] = tree.first + leaf
	}
}

func (c *graphCache) extend(int, int32) {} // step says where a token goes

func (c *graphCache) end(int) {} // and who has one

// run runs a program over the weights, the cache (which it replaces) and inputs; it returns the result that is not
// the cache, nil where there is none.
func (c *graphCache) run(p *program, inputs ...input) (*tensors.Tensor, error) {
	all := append(keep(c.g.operands.tensors...), donate(c.tensors...)...)
	results, err := p.run(append(all, inputs...))
	if err != nil {
		return nil, err
	}
	c.tensors = results[:len(c.tensors)]
	if len(results) > len(c.tensors) {
		return results[len(c.tensors)], nil
	}
	return nil, nil
}

// cached is a decoder whose tokens attend to the nodes of cache rows. B of them are computed, N tokens a row.
type cached struct {
	*decoder
	cache []*Node
	index *Node // [B·K·N, 2]: where each new key goes, row·K + head and node
	valid *Node // [B·K·N, 1]: 1, or 0 for padding, which changes nothing
	rows  *Node // [B·K, 1], the rows computed; nil for all
}

// newCached prepares for nodes [B, N], -1 for padding, of rows [B] (int32); all says that rows are all there are.
func newCached(d *decoder, cache []*Node, rows, nodes *Node, all bool) *cached {
	b, n, heads := nodes.Shape().Dimensions[0], nodes.Shape().Dimensions[1], d.config.NumKeyValueHeads
	valid := ConvertDType(isToken(nodes), dtypes.Float32)
	nodes = Max(nodes, ZerosLike(nodes))
	head := Iota(nodes.Graph(), shapes.Make(dtypes.Int32, b, heads, 1, 1), 1)
	first := Add(MulScalar(Reshape(rows, b, 1, 1, 1), heads), head) // [B, K, 1, 1]
	each := func(x *Node) *Node { return BroadcastToDims(x, b, heads, n, 1) }
	c := &cached{decoder: d, cache: append([]*Node(nil), cache...),
		index: Reshape(Concatenate([]*Node{each(first), each(Reshape(nodes, b, 1, n, 1))}, 3), b*heads*n, 2),
		valid: Reshape(each(Reshape(valid, b, 1, n, 1)), b*heads*n, 1)}
	if !all {
		c.rows = Reshape(first, b*heads, 1)
	}
	return c
}

// forward runs all layers over tokens [B, N] at positions [B, N] with an additive mask [B, 1, N, M] and returns
// normed hidden states [B·N, hidden].
func (c *cached) forward(tokens, positions, mask *Node) *Node {
	x := c.embed(tokens)
	cos, sin := c.rotation(positions)
	return c.layers(x, cos, sin, func(i int, q, k, v *Node) *Node {
		return c.attention(q, c.write(2*i, k), c.write(2*i+1, v), mask)
	})
}

// attention of q [B, H, N, C] over k, v [B·K, M, C] under an additive mask [B, 1, N, M]: [B·N, H·C].
func (c *cached) attention(q, k, v, mask *Node) *Node {
	b, h, n, dim := q.Shape().Dimensions[0], q.Shape().Dimensions[1], q.Shape().Dimensions[2], q.Shape().Dimensions[3]
	all, m := k.Shape().Dimensions[0], k.Shape().Dimensions[1]
	product := func(x, y *Node, axis int) *Node {
		if y.DType() == dtypes.BFloat16 {
			return wideSums(narrow(x), []int{2}, []int{0}, y, []int{axis}, []int{0})
		}
		return DotGeneral(x, []int{2}, []int{0}, y, []int{axis}, []int{0})
	}
	q = Reshape(MulScalar(q, 1/math.Sqrt(float64(dim))), all, b*h*n/all, dim)
	scores := product(q, k, 2) // [B·K, G·N, M]
	p := Softmax(Add(Reshape(scores, b, h, n, m), mask), -1)
	out := product(Reshape(p, all, b*h*n/all, m), v, 1) // [B·K, G·N, C]
	return Reshape(TransposeAllAxes(Reshape(out, b, h, n, dim), 0, 2, 1, 3), b*n, h*dim)
}

// write puts new keys or values x [B, K, N, C] into the cache and returns those of the rows, [B·K, M, C].
func (c *cached) write(i int, x *Node) *Node {
	cache, dim := c.cache[i], x.Shape().Dimensions[3]
	valid := ConvertDType(c.valid, cache.DType())
	fresh := Mul(ConvertDType(Reshape(x, x.Shape().Size()/dim, dim), cache.DType()), valid) // [B·K·N, C]
	stale := Mul(Gather(cache, c.index), valid)
	// Not every engine can scatter values in place of others. Two scattered sums give the same: x + -x is exactly 0,
	// and 0 + y is exactly y.
	cache = ScatterSum(cache, c.index, Neg(stale), false, false) // padding repeats indices
	cache = ScatterSum(cache, c.index, fresh, false, false)
	c.cache[i] = cache
	if c.rows != nil {
		return Gather(cache, c.rows)
	}
	return cache
}

// isToken is true where x is not negative: of tokens, nodes and numbers, where there is one.
func isToken(x *Node) *Node { return GreaterOrEqual(x, ScalarZero(x.Graph(), x.DType())) }

// bind splits a program's inputs into the decoder, keys and values, what is known of the nodes, and the rest.
func (g *Generator) bind(inputs []*Node) (d *decoder, cache []*Node, known *Node, rest []*Node) {
	weights, layers := len(g.operands.tensors), 2*g.model.NumHiddenLayers
	rest = inputs[weights+layers:]
	return g.operands.decoder(inputs[:weights]), inputs[weights : weights+layers], rest[0], rest[1:]
}

// line is the i-th of x along an axis, without the axis.
func line(x *Node, axis, i int) *Node {
	at := make([]SliceAxisSpec, axis+1)
	for a := range at {
		at[a] = AxisRange()
	}
	at[axis] = AxisElem(i)
	return Squeeze(Slice(x, at...), axis)
}

// know writes what is known of nodes [B, N], values [B, 3, N], into that of all nodes, [B, 3, M].
func know(known, nodes, values *Node) *Node {
	b, n, m := nodes.Shape().Dimensions[0], nodes.Shape().Dimensions[1], known.Shape().Dimensions[2]
	shape := shapes.Make(dtypes.Int32, b, 3, n, m)
	across := func(x *Node, lines int) *Node {
		return BroadcastToDims(Reshape(x, b, lines, n, 1), shape.Dimensions...)
	}
	here := ConvertDType(Equal(across(nodes, 1), Iota(known.Graph(), shape, 3)), dtypes.Int32)
	sum := func(x *Node) *Node { return ReduceSum(x, 2) } // of one token at most
	return Where(GreaterThan(sum(here), ZerosLike(known)), sum(Mul(here, across(values, 3))), known)
}

// seenBy says which nodes numbers [B, N] see: [B, 1, N, M], bool.
func seenBy(known, numbers *Node) *Node {
	return visible(line(known, 1, 0), line(known, 1, 1), numbers)
}

// buildDecode computes one token for every slot. Inputs after weights, cache and known: what the step before drew [D·S],
// the step [5, D, S] (both int32), and where tokens are drawn by chance what they depend on: uniform [D·S, 1],
// temperature, top-p and penalty [3] (float64). Results: the cache, known, then the token that was drawn or is the most
// likely, [D·S] (int32), or the logits [D·S, V].
//
// The lines of a step: the token, -1 for the one that the step before drew; its position and node (-1: the slot is idle);
// the numbers of its leaf and its sample. A slot that has drawn a token of Stop ends there: until it is given a token it
// draws -1 and changes nothing, as an idle one does.
func (g *Generator) buildDecode(inputs []*Node) []*Node {
	d, cache, known, rest := g.bind(inputs)
	step := func(i int) *Node { return line(rest[1], 0, i) }
	given, positions, nodes, leaf, sample := step(0), step(1), step(2), step(3), step(4)
	graph, dims := given.Graph(), given.Shape().Dimensions
	none := Scalar(graph, dtypes.Int32, -1)
	before := Reshape(rest[0], dims...)
	for _, id := range g.config.Stop {
		before = Where(Equal(before, Scalar(graph, dtypes.Int32, id)), none, before)
	}
	tokens := Where(isToken(given), given, before)
	nodes = Where(isToken(tokens), nodes, none)
	tokens = Max(tokens, ZerosLike(tokens))
	known = know(known, nodes, Stack([]*Node{sample, AddScalar(sample, 1), tokens}, 1))
	seen := LogicalOr(seenBy(known, leaf), seenBy(known, sample)) // [D, 1, S, M]

	rows := Iota(graph, shapes.Make(dtypes.Int32, dims[0]), 0)
	c := newCached(d, cache, rows, nodes, true)
	scores := d.logits(c.forward(tokens, positions, maskOf(seen))) // [D·S, V]
	switch {
	case g.config.best():
		scores = ArgMax(scores, -1, dtypes.Int32)
	case g.draws():
		number := func(i int) *Node { return Reshape(line(rest[3], 0, i)) }
		on := drawing{uniform: rest[2], temperature: number(0), topP: number(1), penalty: number(2)}
		if g.config.RepetitionPenalty != 1 {
			on.seen = tokensOf(seen, line(known, 1, 2), g.model.VocabSize)
		}
		scores = on.draw(&g.config, scores)
	}
	if scores.DType() == dtypes.Int32 {
		scores = Where(isToken(Reshape(nodes, dims[0]*dims[1])), scores, none)
	}
	return append(c.cache, known, scores)
}

// tokensOf are the tokens of the nodes that each slot sees, [D, 1, S, M], those of its prompt and its sample: [D·S, V],
// bool. words [D, M] are the nodes' tokens.
func tokensOf(seen, words *Node, vocab int) *Node {
	d, s, m := seen.Shape().Dimensions[0], seen.Shape().Dimensions[2], seen.Shape().Dimensions[3]
	g := seen.Graph()
	slot := Iota(g, shapes.Make(dtypes.Int32, d*s, m), 0)
	word := Reshape(BroadcastToDims(Reshape(words, d, 1, m), d, s, m), d*s, m)
	at := Reshape(Stack([]*Node{slot, word}, -1), d*s*m, 2)
	ones := Reshape(ConvertDType(seen, dtypes.Float32), d*s*m)
	return GreaterThan(ScatterSum(Zeros(g, shapes.Make(dtypes.Float32, d*s, vocab)), at, ones, false, false), Const(g, float32(0)))
}

// buildPrefill computes a chunk of a tree. Input after weights, cache and known: the chunk [6, 1, N] (int32), whose lines
// are tokens, positions, nodes (-1: padding), the numbers that see each token, from one up to another, and the row,
// again and again. Results: the cache and known.
func (g *Generator) buildPrefill(inputs []*Node) []*Node {
	d, cache, known, rest := g.bind(inputs)
	chunk := func(i int) *Node { return line(rest[0], 0, i) }
	tokens, positions, nodes, from, to := chunk(0), chunk(1), chunk(2), chunk(3), chunk(4)
	row := SliceAxis(chunk(5), 1, AxisElem(0)) // [1, 1]
	here := know(Gather(known, row), nodes, Stack([]*Node{from, to, tokens}, 1))
	dims := known.Shape().Dimensions
	place := Iota(known.Graph(), known.Shape(), 0)
	known = Where(Equal(place, BroadcastToDims(Reshape(row, 1, 1, 1), dims...)), BroadcastToDims(here, dims...), known)

	c := newCached(d, cache, Reshape(row, 1), nodes, false)
	c.forward(tokens, positions, maskOf(seenBy(here, from)))
	return append(c.cache, known)
}

func (c *graphCache) load(ctx context.Context, trees []loading) error {
	for _, l := range trees {
		if err := c.loadTree(ctx, int32(l.row), l.tree); err != nil {
			return err
		}
	}
	return nil
}

// loadTree computes the keys and values of a tree chunk by chunk.
func (c *graphCache) loadTree(ctx context.Context, row int32, p *promptTree) error {
	p.first = c.loaded
	c.loaded += int32(len(p.tokens))
	size := c.wave.chunk
	for from := 0; from < len(p.tokens); from += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := slices.Repeat([]int32{0, 0, -1, -1, -1, row}, size) // transposed
		for i := range min(size, len(p.tokens)-from) {
			at := from + i
			copy(chunk[6*i:], []int32{p.tokens[at], p.depth[at], p.nodes[at], p.first + int32(at), p.first + p.exit[at]})
		}
		if _, err := c.run(c.g.prefill, lines(chunk, 6, 1, size)); err != nil {
			return err
		}
	}
	return nil
}

// lines makes an input [lines, B, N] of what is known of each of B·N tokens after the other.
func lines(values []int32, count, b, n int) input {
	turned := make([]int32, len(values))
	for i, v := range values {
		turned[i%count*b*n+i/count] = v
	}
	return input{tensors.FromFlatDataAndDimensions(turned, count, b, n), true}
}

func (c *graphCache) step(s *scheduler) (chosen []int32, err error) {
	w, onDevice := c.wave, c.g.config.best() || c.g.draws()
	step, uniform := slices.Repeat([]int32{-1, 0, -1, -1, -1}, len(s.tokens)), make([]float64, len(s.tokens))
	for _, at := range s.occupied() {
		given := int32(-1)
		if c.fresh[at] || !onDevice {
			given = s.tokens[at]
		}
		c.fresh[at] = false
		copy(step[5*at:], []int32{given, s.positions[at], s.nodes[at], c.sees[at][0], c.sees[at][1]})
		uniform[at] = s.uniform(at)
	}
	inputs := []input{{c.drawn, false}, lines(step, 5, w.rows, w.slots)}
	if c.g.draws() {
		inputs = append(inputs, input{tensors.FromFlatDataAndDimensions(uniform, len(uniform), 1), true}, input{c.chance, false})
	}
	scores, err := c.run(c.g.decode, inputs...)
	if err != nil {
		return nil, err
	}
	if onDevice {
		release(c.drawn)
		c.drawn = scores
		return tensors.CopyFlatData[int32](scores)
	}
	defer release(scores)
	chosen = make([]int32, len(s.tokens))
	vocab := c.g.model.VocabSize
	err = tensors.ConstFlatData(scores, func(logits []float32) {
		s.draw(s.occupied(), chosen, func(at int) []float32 { return logits[at*vocab : (at+1)*vocab] })
	})
	return chosen, err
}
