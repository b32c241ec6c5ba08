package lm

import (
	"context"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// Shapes in this file: D cache rows, M nodes a row, S slots a row; a chunk is N tokens of a row being loaded.
// K key-value heads, C head dimension, L layers.

// kvCache holds keys and values of all layers on the device: keys of layer 0, values of layer 0, keys of layer 1…,
// each [D, K, M, C]. What no mask names is never read as more than a finite number.
type kvCache struct {
	wave    *wave
	tensors []*tensors.Tensor
}

func (g *Generator) newCache(w *wave) *kvCache {
	c := &kvCache{wave: w, tensors: make([]*tensors.Tensor, 2*g.model.NumHiddenLayers)}
	for i := range c.tensors {
		c.tensors[i] = zeros([]int{w.rows, g.model.NumKeyValueHeads, w.nodes, g.model.HeadDim})
	}
	return c
}

func (c *kvCache) release() { release(c.tensors...) }

// run runs a program over the weights, the cache (which it replaces) and inputs; it returns the result that is not
// the cache, nil where there is none.
func (g *Generator) run(p *program, cache *kvCache, inputs ...*tensors.Tensor) (*tensors.Tensor, error) {
	all := append(keep(g.operands.tensors...), donate(cache.tensors...)...)
	results, err := p.run(append(all, donate(inputs...)...))
	if err != nil {
		return nil, err
	}
	cache.tensors = results[:len(cache.tensors)]
	if len(results) > len(cache.tensors) {
		return results[len(cache.tensors)], nil
	}
	return nil, nil
}

// cacheWriter writes new keys and values into the cache's nodes.
type cacheWriter struct {
	cache  []*Node
	index  *Node // [rows·K·N, 3]: row, head, node of each new key
	valid  *Node // [rows·K·N, 1]: 1, or 0 for padding, which changes nothing
	chosen func(cache *Node) *Node
}

// attend stores a layer's keys and values, [B, K, N, C], and returns all of the rows', [B, K, M, C].
func (w *cacheWriter) attend(layer int, keys, values *Node) (*Node, *Node) {
	return w.write(2*layer, keys), w.write(2*layer+1, values)
}

func (w *cacheWriter) write(i int, x *Node) *Node {
	cache := w.cache[i]
	c := x.Shape().Dimensions[3]
	fresh := Mul(Reshape(x, x.Shape().Size()/c, c), w.valid) // [rows·K·N, C]
	stale := Mul(Gather(cache, w.index), w.valid)
	// There is no scatter that replaces on every engine. x + -x is exactly 0 and 0 + y exactly y, so two sums do.
	cache = ScatterSum(cache, w.index, Neg(stale), false, true)
	cache = ScatterSum(cache, w.index, fresh, false, true)
	w.cache[i] = cache
	return w.chosen(cache)
}

// cacheIndex is the index of a cacheWriter for nodes [B, N] of rows [B] (int32): [B·K·N, 3].
func cacheIndex(rows, nodes *Node, heads int) *Node {
	b, n := nodes.Shape().Dimensions[0], nodes.Shape().Dimensions[1]
	g := nodes.Graph()
	dims := []int{b, heads, n, 1}
	return Reshape(Concatenate([]*Node{
		BroadcastToDims(Reshape(rows, b, 1, 1, 1), dims...),
		Iota(g, shapes.Make(dtypes.Int32, dims...), 1),
		BroadcastToDims(Reshape(nodes, b, 1, n, 1), dims...),
	}, 3), b*heads*n, 3)
}

// perHead repeats valid [B, N] for each key-value head: [B·K·N, 1].
func perHead(valid *Node, heads int) *Node {
	b, n := valid.Shape().Dimensions[0], valid.Shape().Dimensions[1]
	return Reshape(BroadcastToDims(Reshape(valid, b, 1, n), b, heads, n), b*heads*n, 1)
}

// bind splits a program's inputs into the decoder, the cache and the rest.
func (g *Generator) bind(inputs []*Node) (d *decoder, cache, rest []*Node) {
	weights, layers := len(g.operands.tensors), 2*g.model.NumHiddenLayers
	return g.operands.decoder(inputs[:weights]), inputs[weights : weights+layers], inputs[weights+layers:]
}

// buildDecode computes one token for every slot. Inputs after weights and cache: tokens, positions, nodes [D, S]
// (int32), valid [D, S], mask [D, 1, S, M]. Results: the cache, then the logits [D·S, V], or, where the most likely
// token is all that is asked for, that token [D·S] (int32).
func (g *Generator) buildDecode(inputs []*Node) []*Node {
	d, cache, rest := g.bind(inputs)
	tokens, positions, nodes, valid, mask := rest[0], rest[1], rest[2], rest[3], rest[4]
	heads := g.model.NumKeyValueHeads
	rows := Iota(tokens.Graph(), shapes.Make(dtypes.Int32, tokens.Shape().Dimensions[0]), 0)
	w := &cacheWriter{cache: append([]*Node(nil), cache...), index: cacheIndex(rows, nodes, heads), valid: perHead(valid, heads),
		chosen: func(cache *Node) *Node { return cache }}
	x := d.forward(tokens, positions, mask, w.attend)
	scores := d.logits(x) // [D·S, V]
	if g.config.Temperature == 0 {
		scores = ArgMax(scores, -1, dtypes.Int32)
	}
	return append(w.cache, scores)
}

// buildPrefill computes a chunk of a tree. Inputs after weights and cache: row (scalar, int32), tokens, positions,
// nodes [1, N] (int32), valid [1, N], mask [1, 1, N, M]. Result: the cache.
func (g *Generator) buildPrefill(inputs []*Node) []*Node {
	d, cache, rest := g.bind(inputs)
	row, tokens, positions, nodes, valid, mask := rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]
	heads := g.model.NumKeyValueHeads
	w := &cacheWriter{cache: append([]*Node(nil), cache...), index: cacheIndex(Reshape(row, 1), nodes, heads), valid: perHead(valid, heads),
		chosen: func(cache *Node) *Node { return Gather(cache, Reshape(row, 1, 1)) }} // [1, K, M, C]
	d.forward(tokens, positions, mask, w.attend)
	return w.cache
}

// load computes the keys and values of a tree that has been given nodes of a row.
func (g *Generator) load(ctx context.Context, cache *kvCache, r *cacheRow, row int, p *promptTree) error {
	chunk, m := cache.wave.chunk, cache.wave.nodes
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
			p.see(int32(from+i), mask[i*m:(i+1)*m])
		}
		_, err := g.run(g.prefill, cache, tensors.FromScalar(int32(row)),
			tensors.FromFlatDataAndDimensions(tokens, 1, chunk), tensors.FromFlatDataAndDimensions(positions, 1, chunk),
			tensors.FromFlatDataAndDimensions(nodes, 1, chunk), tensors.FromFlatDataAndDimensions(valid, 1, chunk),
			tensors.FromFlatDataAndDimensions(mask, 1, 1, chunk, m))
		if err != nil {
			return err
		}
		g.stats.PrefillTokens += n
	}
	return nil
}

// step computes one token for every slot and returns the logits or the most likely tokens.
func (g *Generator) step(cache *kvCache, s *scheduler) (*tensors.Tensor, error) {
	w := cache.wave
	g.stats.Steps++
	g.stats.SlotSteps += w.rows * w.slots
	return g.run(g.decode, cache,
		tensors.FromFlatDataAndDimensions(s.tokens, w.rows, w.slots), tensors.FromFlatDataAndDimensions(s.positions, w.rows, w.slots),
		tensors.FromFlatDataAndDimensions(s.nodes, w.rows, w.slots), tensors.FromFlatDataAndDimensions(s.valid, w.rows, w.slots),
		tensors.FromFlatDataAndDimensions(s.mask, w.rows, 1, w.slots, w.nodes))
}

// masked is a mask of n nodes that sees none.
func masked(n int) []float32 {
	mask := make([]float32, n)
	for i := range mask {
		mask[i] = maskedScore
	}
	return mask
}
