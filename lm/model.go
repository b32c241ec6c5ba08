package lm

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
)

// A decoder builds the graph of a Llama or Qwen2 model. Weights are graph nodes given by name, so that the same
// code serves training (some of them trainable), scoring and generation (with cached keys and values).
//
// Shapes: B rows, N tokens a row, T = B·N tokens, D hidden size, H heads, K key-value heads, G = H/K, C head
// dimension, M keys attended to (N, or those up to a block's end). Activations outside attention are flat, [T, D].
// Reference: transformers' modeling_llama.py and modeling_qwen2.py.
type decoder struct {
	config *Config
	// weights are the base's by Hugging Face name, matrices in float32 or bfloat16, and an adapter's as
	// "<module>.lora_A.weight" and "<module>.lora_B.weight".
	weights map[string]*Node
	rope    [2]*Node // cos and sin tables, [positions, C/2]
	lora    *LoRA    // nil without an adapter
	dropout *dropout // nil where nothing is dropped: always outside training
	// training says that gradients of what is computed will be asked for: of the adapter, or without one of all weights.
	training bool
	// checkpointing recomputes each layer on the way back instead of keeping its activations.
	checkpointing bool
	// maxLogits bounds the logits that exist at once; 0: the package's bound.
	maxLogits int
	// ablated are the changes that a benchmark leaves out (Engine.Ablate).
	ablated map[string]bool
}

// attend is a layer's attention: of queries [B, H, N, C] among its new keys and values, [B, K, N, C], and whatever keys
// and values there were before: [T, H·C].
type attend func(layer int, q, k, v *Node) *Node

// forward runs all layers over tokens [B, N] at positions [B, N] (int32) that attend to each other, and returns normed
// hidden states [T, D]. mask is additive, [B or 1, 1, N, N]: 0 where a token attends, a large negative number where
// not. No token may see one behind it, as in a tree laid out depth first.
func (d *decoder) forward(tokens, positions, mask *Node) *Node {
	x := d.embed(tokens) // [T, D]
	cos, sin := d.rotation(positions)
	if d.halved(tokens.Graph()) && !d.ablated[ablateAttention] {
		return d.layers(x, cos, sin, func(_ int, q, k, v *Node) *Node { return d.halfAttention(q, k, v, mask) })
	}
	masks := []*Node{mask}
	if !onXLA(tokens.Graph()) { // XLA compiles kernels for each block's shape: minutes, to save milliseconds
		masks = causalBlocks(mask)
	}
	return d.layers(x, cos, sin, func(_ int, q, k, v *Node) *Node { return d.attention(q, k, v, masks) })
}

// layers runs all layers over x [T, D] and returns normed hidden states [T, D].
func (d *decoder) layers(x, cos, sin *Node, attention attend) *Node {
	for i := range d.config.NumHiddenLayers {
		if d.checkpointing {
			x = x.Checkpoint()
		}
		x = d.layer(i, x, cos, sin, attention)
	}
	if d.checkpointing {
		x = x.StopCheckpoint()
	}
	return rmsNorm(x, d.weights["model.norm.weight"], d.config.RMSNormEps)
}

// embed looks tokens [B, N] up: [T, D].
func (d *decoder) embed(tokens *Node) *Node {
	return lookUp(d.weights["model.embed_tokens.weight"], Reshape(tokens, tokens.Shape().Size(), 1))
}

// rotation looks cos and sin of positions [B, N] up: [B, 1, N, C/2] each.
func (d *decoder) rotation(positions *Node) (cos, sin *Node) {
	b, n := positions.Shape().Dimensions[0], positions.Shape().Dimensions[1]
	index := Reshape(positions, b*n, 1)
	look := func(table *Node) *Node {
		return Reshape(Gather(table, index), b, 1, n, d.config.HeadDim/2)
	}
	return look(d.rope[0]), look(d.rope[1])
}

// layer is one decoder block over x [T, D].
func (d *decoder) layer(i int, x, cos, sin *Node, attention attend) *Node {
	name := layerName(i)
	h := rmsNorm(x, d.weights[name+"input_layernorm.weight"], d.config.RMSNormEps)
	q, k, v := d.queryKeyValue(i, h, cos, sin)
	x = Add(x, d.linears(attention(i, q, k, v), name+"self_attn.o_proj")[0])
	h = rmsNorm(x, d.weights[name+"post_attention_layernorm.weight"], d.config.RMSNormEps)
	return Add(x, d.mlp(i, h))
}

// queryKeyValue projects h [T, D] and rotates queries and keys: q [B, H, N, C], k and v [B, K, N, C].
func (d *decoder) queryKeyValue(i int, h, cos, sin *Node) (q, k, v *Node) {
	c, name := d.config, layerName(i)+"self_attn."
	b, n := cos.Shape().Dimensions[0], cos.Shape().Dimensions[2]
	heads := func(x *Node, count int) *Node { // [T, count·C] -> [B, count, N, C]
		return TransposeAllAxes(Reshape(x, b, n, count, c.HeadDim), 0, 2, 1, 3)
	}
	all := d.linears(h, name+"q_proj", name+"k_proj", name+"v_proj")
	q = rotate(heads(all[0], c.NumAttentionHeads), cos, sin)
	k = rotate(heads(all[1], c.NumKeyValueHeads), cos, sin)
	return q, k, heads(all[2], c.NumKeyValueHeads)
}

// attention of q [B, H, N, C] over k, v [B, K, N, C] under additive masks: [T, H·C]. One mask covers all queries,
// [B or 1, 1, N, N]; several cover them block by block, each with the keys that the block can see.
func (d *decoder) attention(q, k, v *Node, masks []*Node) *Node {
	b, h, n, c := q.Shape().Dimensions[0], q.Shape().Dimensions[1], q.Shape().Dimensions[2], q.Shape().Dimensions[3]
	q = MulScalar(q, 1/math.Sqrt(float64(c))) // on q rather than on the scores: C numbers a token, not M
	var out *Node
	if len(masks) == 1 {
		out = attendTo(q, k, v, masks[0])
	} else {
		blocks, from := make([]*Node, len(masks)), 0
		for i, mask := range masks {
			to := from + mask.Shape().Dimensions[2]
			seen := AxisRangeFromStart(mask.Shape().Dimensions[3])
			blocks[i] = attendTo(SliceAxis(q, 2, AxisRange(from, to)), SliceAxis(k, 2, seen), SliceAxis(v, 2, seen), mask)
			from = to
		}
		out = Concatenate(blocks, 2)
	}
	return Reshape(TransposeAllAxes(out, 0, 2, 1, 3), b*n, h*c) // [B, N, H, C] -> [T, H·C]
}

// attendTo is softmax(q kᵀ + mask) v for scaled q: [B, H, N, C]. The G query heads of a key-value head are stacked
// along the query axis, so that keys are never repeated. The softmax is normalised after the product with v: that
// keeps passes over [N, M], which cost more than the products on a CPU, down to five, and two on the way back.
func attendTo(q, k, v, mask *Node) *Node {
	b, h, n, c := q.Shape().Dimensions[0], q.Shape().Dimensions[1], q.Shape().Dimensions[2], q.Shape().Dimensions[3]
	kv, m := k.Shape().Dimensions[1], k.Shape().Dimensions[2]
	q = Reshape(q, b, kv, h/kv*n, c)
	scores := DotGeneral(q, []int{3}, []int{0, 1}, k, []int{3}, []int{0, 1}) // [B, K, G·N, M]
	scores = Add(Reshape(scores, b, h, n, m), mask)                          // [B, H, N, M]
	e := Exp(Sub(scores, StopGradient(ReduceAndKeep(scores, ReduceMax, -1))))
	sum := ReduceAndKeep(e, ReduceSum, -1) // [B, H, N, 1]
	e = Reshape(e, b, kv, h/kv*n, m)
	out := DotGeneral(e, []int{3}, []int{0, 1}, v, []int{2}, []int{0, 1}) // [B, K, G·N, C]
	return Mul(Reshape(out, b, h, n, c), Reciprocal(sum))
}

// Queries of a causal mask are taken in blocks of at least blockTokens, at most maxBlocks of them.
const (
	blockTokens = 128
	maxBlocks   = 6
)

// causalBlocks cuts a mask [B, 1, N, N] whose tokens see none behind them into blocks of queries, each with the keys up
// to its end: almost half of the scores are never computed.
func causalBlocks(mask *Node) []*Node {
	n := mask.Shape().Dimensions[2]
	count := min(maxBlocks, n/blockTokens)
	if count < 2 {
		return []*Node{mask}
	}
	blocks := make([]*Node, count)
	for i := range blocks {
		from, to := i*n/count, (i+1)*n/count
		blocks[i] = Slice(mask, AxisRange(), AxisRange(), AxisRange(from, to), AxisRangeFromStart(to))
	}
	return blocks
}

// mlp is SwiGLU over h [T, D].
func (d *decoder) mlp(i int, h *Node) *Node {
	name := layerName(i) + "mlp."
	if d.halved(h.Graph()) {
		return d.halfMLP(name, h)
	}
	gate := d.linear(h, name+"gate_proj")
	up := d.linear(h, name+"up_proj")
	return d.linear(Mul(Mul(gate, Logistic(gate)), up), name+"down_proj")
}

// head returns the output embedding [V, D].
func (d *decoder) head() *Node {
	if d.config.TieWordEmbeddings {
		return d.weights["model.embed_tokens.weight"]
	}
	return d.weights["lm_head.weight"]
}

// logits of hidden states x [T, D]: [T, V].
func (d *decoder) logits(x *Node) *Node { return d.baseProduct(x, d.head()) }

// linears maps x [T, in] by modules that read the same input: [T, out] of each.
func (d *decoder) linears(x *Node, modules ...string) []*Node {
	if d.halved(x.Graph()) {
		return d.halfLinears(x, modules)
	}
	results := make([]*Node, len(modules))
	for i, module := range modules {
		results[i] = d.linear(x, module)
	}
	return results
}

// linear maps x [T, in] by the named module's weight [out, in], bias and adapter, where it has them.
func (d *decoder) linear(x *Node, module string) *Node {
	a := d.weights[module+".lora_A.weight"] // [rank, in]
	whole := a != nil && d.addsLoRAToWeights(x.Graph())
	var y *Node
	if whole {
		y = wholeProduct(x, d.weights[module+".weight"], a, d.weights[module+".lora_B.weight"], d.lora.Scale())
	} else {
		y = d.baseProduct(x, d.weights[module+".weight"])
	}
	if bias := d.weights[module+".bias"]; bias != nil {
		y = Add(y, InsertAxes(bias, 0))
	}
	if a == nil || whole {
		return y
	}
	scale := d.lora.Scale()
	if d.dropout != nil {
		x = d.dropout.apply(x, module)
		scale /= 1 - d.lora.Dropout // once, on the small product
	}
	low := MulScalar(product(x, a), scale)                          // [T, rank]
	return Add(y, product(low, d.weights[module+".lora_B.weight"])) // lora_B [out, rank]
}

// product is x [T, in] times w [out, in] transposed: [T, out].
func product(x, w *Node) *Node { return DotGeneral(x, []int{1}, nil, w, []int{1}, nil) }

// rmsNorm scales x [T, D] to unit mean square and by weight [D]. (Rsqrt has no gradient in GoMLX.)
func rmsNorm(x, weight *Node, eps float64) *Node {
	square := AddScalar(ReduceAndKeep(Square(x), ReduceMean, -1), eps) // [T, 1]
	return Mul(Mul(x, Reciprocal(Sqrt(square))), InsertAxes(weight, 0))
}

// rotate applies rotary positions to x [B, heads, N, C], the first half of C paired with the second
// ("rotate_half"); cos and sin are [B, 1, N, C/2].
func rotate(x, cos, sin *Node) *Node {
	half := x.Shape().Dimensions[3] / 2
	a := SliceAxis(x, 3, AxisRangeFromStart(half))
	b := SliceAxis(x, 3, AxisRangeToEnd(half))
	return Concatenate([]*Node{Sub(Mul(a, cos), Mul(b, sin)), Add(Mul(b, cos), Mul(a, sin))}, 3)
}

// treeMask is the additive attention mask of a prefix tree, [B, 1, N, N]: token i attends to j iff
// enter[j] <= enter[i] < exit[j]. enter and exit are [B, N].
func treeMask(enter, exit *Node) *Node { return maskOf(visible(enter, exit, enter)) }

// visible says where numbers [B, N] lie between from and to [B, M], to excluded: [B, 1, N, M], bool.
func visible(from, to, numbers *Node) *Node {
	b, n, m := numbers.Shape().Dimensions[0], numbers.Shape().Dimensions[1], from.Shape().Dimensions[1]
	numbers = Reshape(numbers, b, 1, n, 1)
	from, to = Reshape(from, b, 1, 1, m), Reshape(to, b, 1, 1, m)
	return LogicalAnd(LessOrEqual(from, numbers), LessThan(numbers, to))
}

// maskOf is the additive mask that hides what is not visible.
func maskOf(visible *Node) *Node {
	g := visible.Graph()
	return Where(visible, Const(g, float32(0)), Const(g, float32(maskedScore)))
}

// maskedScore is far below any score, and finite so that a row without any visible key has no NaN.
const maskedScore = -1e9
