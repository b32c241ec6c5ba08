package lm

import (
	"context"
	"math"

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
type graphCache struct {
	g       *Generator
	wave    *wave
	tensors []*tensors.Tensor
	valid   []float32 // [D, S]: 1 where a slot is occupied
	mask    []float32 // [D, 1, S, M]
	words   []int32   // [D, M], the token of each node
}

func (g *Generator) newGraphCache(w *wave) *graphCache {
	c := &graphCache{g: g, wave: w, tensors: make([]*tensors.Tensor, 2*g.model.NumHiddenLayers),
		valid: make([]float32, w.rows*w.slots), mask: masked(w.rows * w.slots * w.nodes), words: make([]int32, w.rows*w.nodes)}
	dtype := dtypes.Float32
	if g.half {
		dtype = dtypes.BFloat16
	}
	for i := range c.tensors {
		c.tensors[i] = tensors.FromShape(shapes.Make(dtype, w.rows*g.model.NumKeyValueHeads, w.nodes, g.model.HeadDim))
	}
	return c
}

func (c *graphCache) release() { release(c.tensors...) }

// maskOf is a slot's row of the mask.
func (c *graphCache) maskOf(at int) []float32 { return c.mask[at*c.wave.nodes : (at+1)*c.wave.nodes] }

func (c *graphCache) begin(at int, tree *promptTree, leaf int32) {
	c.valid[at] = 1
	for node := range tree.path(leaf) {
		c.extend(at, node)
	}
}

func (c *graphCache) extend(at int, node int32) { c.maskOf(at)[node] = 0 }

func (c *graphCache) end(at int) {
	c.valid[at] = 0
	copy(c.maskOf(at), masked(c.wave.nodes))
}

// run runs a program over the weights, the cache (which it replaces) and inputs; it returns the result that is not
// the cache, nil where there is none.
func (c *graphCache) run(p *program, inputs ...*tensors.Tensor) (*tensors.Tensor, error) {
	all := append(keep(c.g.operands.tensors...), donate(c.tensors...)...)
	results, err := p.run(append(all, donate(inputs...)...))
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

// newCached prepares for nodes and valid, both [B, N], of rows [B] (int32); all says that rows are all there are.
func newCached(d *decoder, cache []*Node, rows, nodes, valid *Node, all bool) *cached {
	b, n, heads := nodes.Shape().Dimensions[0], nodes.Shape().Dimensions[1], d.config.NumKeyValueHeads
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

// bind splits a program's inputs into the decoder, the cache and the rest.
func (g *Generator) bind(inputs []*Node) (d *decoder, cache, rest []*Node) {
	weights, layers := len(g.operands.tensors), 2*g.model.NumHiddenLayers
	return g.operands.decoder(inputs[:weights]), inputs[weights : weights+layers], inputs[weights+layers:]
}

// buildDecode computes one token for every slot. Inputs after weights and cache: tokens, positions, nodes [D, S]
// (int32), valid [D, S], mask [D, 1, S, M], and where tokens are drawn in the graph what they depend on: uniform [D·S, 1],
// temperature, top-p and penalty [3] (float64), the nodes' tokens [D, M] (int32). Results: the cache, then the token that
// was drawn or is the most likely, [D·S] (int32), or the logits [D·S, V].
func (g *Generator) buildDecode(inputs []*Node) []*Node {
	d, cache, rest := g.bind(inputs)
	tokens, positions, nodes, valid, mask := rest[0], rest[1], rest[2], rest[3], rest[4]
	rows := Iota(tokens.Graph(), shapes.Make(dtypes.Int32, tokens.Shape().Dimensions[0]), 0)
	c := newCached(d, cache, rows, nodes, valid, true)
	x := c.forward(tokens, positions, mask)
	scores := d.logits(x) // [D·S, V]
	switch {
	case g.config.best():
		scores = ArgMax(scores, -1, dtypes.Int32)
	case g.draws():
		number := func(i int) *Node { return Reshape(SliceAxis(rest[6], 0, AxisElem(i))) }
		on := drawing{uniform: rest[5], temperature: number(0), topP: number(1), penalty: number(2)}
		if g.config.RepetitionPenalty != 1 {
			on.seen = seenBy(mask, rest[7], g.model.VocabSize)
		}
		scores = on.draw(&g.config, scores)
	}
	return append(c.cache, scores)
}

// seenBy are the tokens of the nodes that each slot sees, those of its prompt and its sample: [D·S, V], bool. mask is
// [D, 1, S, M], words [D, M].
func seenBy(mask, words *Node, vocab int) *Node {
	d, s, m := mask.Shape().Dimensions[0], mask.Shape().Dimensions[2], mask.Shape().Dimensions[3]
	g := mask.Graph()
	slot := Iota(g, shapes.Make(dtypes.Int32, d*s, m), 0)
	word := Reshape(BroadcastToDims(Reshape(words, d, 1, m), d, s, m), d*s, m)
	at := Reshape(Stack([]*Node{slot, word}, -1), d*s*m, 2)
	visible := Reshape(ConvertDType(GreaterThan(mask, Const(g, float32(maskedScore/2))), dtypes.Float32), d*s*m)
	return GreaterThan(ScatterSum(Zeros(g, shapes.Make(dtypes.Float32, d*s, vocab)), at, visible, false, false), Const(g, float32(0)))
}

// buildPrefill computes a chunk of a tree. Inputs after weights and cache: row (scalar, int32), tokens, positions,
// nodes [1, N] (int32), valid [1, N], mask [1, 1, N, M]. Result: the cache.
func (g *Generator) buildPrefill(inputs []*Node) []*Node {
	d, cache, rest := g.bind(inputs)
	row, tokens, positions, nodes, valid, mask := rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]
	c := newCached(d, cache, Reshape(row, 1), nodes, valid, false)
	c.forward(tokens, positions, mask)
	return c.cache
}

func (c *graphCache) load(ctx context.Context, trees []loading) error {
	for _, l := range trees {
		if err := c.loadTree(ctx, l.row, l.tree); err != nil {
			return err
		}
	}
	return nil
}

// loadTree computes the keys and values of a tree chunk by chunk.
func (c *graphCache) loadTree(ctx context.Context, row int, p *promptTree) error {
	chunk, m := c.wave.chunk, c.wave.nodes
	for from := 0; from < len(p.tokens); from += chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, len(p.tokens)-from)
		tokens, positions, nodes := make([]int32, chunk), make([]int32, chunk), make([]int32, chunk)
		valid := make([]float32, chunk)
		mask := masked(chunk * m)
		copy(tokens, p.tokens[from:from+n])
		copy(positions, p.depth[from:from+n])
		copy(nodes, p.nodes[from:from+n])
		for i := range n {
			valid[i] = 1
			c.words[row*m+int(nodes[i])] = tokens[i]
			for node := range p.path(int32(from + i)) {
				mask[i*m+int(node)] = 0
			}
		}
		_, err := c.run(c.g.prefill, tensors.FromScalar(int32(row)),
			tensors.FromFlatDataAndDimensions(tokens, 1, chunk), tensors.FromFlatDataAndDimensions(positions, 1, chunk),
			tensors.FromFlatDataAndDimensions(nodes, 1, chunk), tensors.FromFlatDataAndDimensions(valid, 1, chunk),
			tensors.FromFlatDataAndDimensions(mask, 1, 1, chunk, m))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *graphCache) step(s *scheduler) (chosen []int32, err error) {
	w, config := c.wave, &c.g.config
	inputs := []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(s.tokens, w.rows, w.slots), tensors.FromFlatDataAndDimensions(s.positions, w.rows, w.slots),
		tensors.FromFlatDataAndDimensions(s.nodes, w.rows, w.slots), tensors.FromFlatDataAndDimensions(c.valid, w.rows, w.slots),
		tensors.FromFlatDataAndDimensions(c.mask, w.rows, 1, w.slots, w.nodes)}
	if c.g.draws() {
		uniform := make([]float64, len(s.tokens))
		for _, at := range s.occupied() {
			uniform[at] = s.uniform(at)
			c.words[at/w.slots*w.nodes+int(s.nodes[at])] = s.tokens[at]
		}
		inputs = append(inputs, tensors.FromFlatDataAndDimensions(uniform, len(uniform), 1),
			tensors.FromFlatDataAndDimensions([]float64{config.Temperature, config.TopP, config.RepetitionPenalty}, 3),
			tensors.FromFlatDataAndDimensions(c.words, w.rows, w.nodes))
	}
	scores, err := c.run(c.g.decode, inputs...)
	if err != nil {
		return nil, err
	}
	defer release(scores)
	if config.best() || c.g.draws() {
		return tensors.CopyFlatData[int32](scores)
	}
	chosen = make([]int32, len(s.tokens))
	vocab := c.g.model.VocabSize
	err = tensors.ConstFlatData(scores, func(logits []float32) {
		s.draw(s.occupied(), chosen, func(at int) []float32 { return logits[at*vocab : (at+1)*vocab] })
	})
	return chosen, err
}

// masked is a mask of n nodes that sees none.
func masked(n int) []float32 {
	mask := make([]float32, n)
	for i := range mask {
		mask[i] = maskedScore
	}
	return mask
}
