package lm

import (
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// The decoder of a base kept in bfloat16 on an engine that multiplies it, as mixed precision is usual: every product
// takes operands of bfloat16 and sums in float32, on the way there and on the way back; the residual stream, norms,
// rotations, softmax, the adapter's weights and their optimizer are float32. Attention and SwiGLU compute their inner
// values again on the way back, so that what is kept of a layer is its inputs, in bfloat16.

// halved says whether a graph's products take operands of bfloat16: where its engine multiplies them and the base, by
// its embedding's type, is kept in it.
func halved(engine compute.Backend, base dtypes.DType) bool {
	return isXLA(engine) && base == dtypes.BFloat16
}

func (d *decoder) halved(g *Graph) bool {
	return halved(g.Backend(), d.weights["model.embed_tokens.weight"].DType())
}

// narrow converts to bfloat16.
func narrow(x *Node) *Node { return ConvertDType(x, dtypes.BFloat16) }

// wideSums contracts operands of bfloat16 with the result in float32. It has no gradient in bfloat16: for what is
// derived by hand.
func wideSums(x *Node, xAxes, xBatch []int, y *Node, yAxes, yBatch []int) *Node {
	return Dot(x, y).WithAccumulatorDType(dtypes.Float32).WithOutputDType(dtypes.Float32).General(xAxes, xBatch, yAxes, yBatch)
}

// A slope makes a node's gradient of the one that arrives at a value, which has the value's shape.
type slope struct {
	of   *Node
	from func(arrived *Node) *Node
}

// byHand is value with gradients from slopes, of nodes of its rank and type; of others it has none. What a slope takes
// from the way there is kept until the way back; what it computes anew it ties to what arrives (SchedulingBarrier).
func byHand(value func() *Node, slopes ...slope) *Node {
	y, ok := InternalFusedOpCaller(value, func() *Node { // where the gradient goes
		var sum *Node
		for _, s := range slopes {
			if x := s.passes(value().Shape()); sum == nil {
				sum = x
			} else {
				sum = Add(sum, x)
			}
		}
		return sum
	}, true)
	if !ok { // GOMLX_FUSION is off: y is what the slopes pass
		y = Add(StopGradient(value()), Sub(y, StopGradient(y)))
	}
	return y
}

// again is byHand for one node that the value is computed of, and computed of again on the way back.
func again(x *Node, value func(x *Node) *Node, from func(x, arrived *Node) *Node) *Node {
	return byHand(func() *Node { return value(x) },
		slope{x, func(arrived *Node) *Node { return from(SchedulingBarrier(x, arrived), arrived) }})
}

// passes is something of a shape that depends on the node as the slope says. (A gradient can be given by hand for the
// identity alone, so the node is filled up with zeros, and cut, to shapes that hold both.)
func (s slope) passes(shape shapes.Shape) *Node {
	both := slices.Clone(shape.Dimensions)
	for i, dim := range s.of.Shape().Dimensions {
		both[i] = max(both[i], dim)
	}
	x := IdentityWithCustomGradient(fitted(s.of, both), func(_, arrived *Node) *Node {
		return fitted(s.from(fitted(arrived, shape.Dimensions)), both)
	})
	return fitted(x, shape.Dimensions)
}

// fitted cuts x to dimensions, and fills it up with zeros.
func fitted(x *Node, dimensions []int) *Node {
	cut, fill, pads := make([]SliceAxisSpec, len(dimensions)), make([]compute.PadAxis, len(dimensions)), false
	for i, dim := range dimensions {
		have := x.Shape().Dimensions[i]
		cut[i] = AxisRangeFromStart(min(dim, have))
		fill[i].End = max(0, dim-have)
		pads = pads || dim > have
	}
	x = Slice(x, cut...)
	if pads {
		x = Pad(x, ScalarZero(x.Graph(), x.DType()), fill...)
	}
	return x
}

// times contracts an axis of x with one of w, both matrices of bfloat16: a matrix of bfloat16. Its derived gradient
// would multiply in float32.
func times(x *Node, axis int, w *Node, other int) *Node {
	return Dot(x, w).General([]int{axis}, nil, []int{other}, nil)
}

// halfBase is x [T, in] times a base weight w [out, in] transposed: [T, out], all bfloat16.
func halfBase(x, w *Node) *Node {
	return byHand(func() *Node { return times(x, 1, w, 1) }, slope{x, func(v *Node) *Node { return times(v, 1, w, 0) }})
}

// halfTrained is x [T, in], with its elements dropped where drop does so, times w [out, in] transposed: [T, out], all
// bfloat16, with the gradients of both. The dropped x is made again on the way back rather than kept.
func halfTrained(x, w *Node, drop func(x, after *Node) *Node) *Node {
	return byHand(func() *Node { return times(drop(x, nil), 1, w, 1) },
		slope{x, func(v *Node) *Node { return drop(times(v, 1, w, 0), v) }},
		slope{w, func(v *Node) *Node { return times(v, 0, drop(x, v), 0) }})
}

// halfAdapted is x [T, in] times a base weight w [out, in] transposed, plus low [T, rank] times b [out, rank] transposed:
// [T, out], all bfloat16, with the gradients of x, low and b. The two are one product there, and those of x and low one
// on the way back, of w and b side by side, which is made again there rather than kept.
func halfAdapted(x, low, w, b *Node) *Node {
	beside := func(x, y *Node) *Node { return Concatenate([]*Node{x, y}, 1) }
	both := beside(x, low)
	return byHand(func() *Node { return times(both, 1, beside(w, b), 1) },
		slope{both, func(v *Node) *Node { return times(v, 1, beside(w, SchedulingBarrier(b, v)), 0) }},
		slope{b, func(v *Node) *Node { return times(v, 0, low, 0) }})
}

// besides says whether the product of an adapter's B joins that of the base. It saves passing over [T, out] three more
// times, written and read on the way there and read on the way back, for writing w [out, in] once more and reading that
// each way: fewer bytes where there are more than 4/3·in tokens.
func besides(tokens, in int) bool { return 3*tokens > 4*in }

// halfLinears maps x [T, in] by modules that read the same input: [T, out] of each, in float32.
func (d *decoder) halfLinears(x *Node, modules []string) []*Node {
	y := d.halfJoint(x, modules)
	results, at := make([]*Node, len(modules)), 0
	for i, module := range modules {
		out := d.config.rowsOf(module)
		results[i] = SliceAxis(y, 1, AxisRange(at, at+out))
		at += out
	}
	return results
}

// halfJoint maps x [T, in] by modules that read the same input, side by side: [T, sum of out], in float32. Their
// adapters are one product each way: A's rows lie one below the other, and B's blocks along a diagonal.
func (d *decoder) halfJoint(x *Node, modules []string) *Node {
	x = widen(x) // its gradients, one of each product, are summed in float32
	g := x.Graph()
	name := jointName(modules[0])
	if d.ablated[ablateJoint] {
		if len(modules) > 1 {
			each := make([]*Node, len(modules))
			for i := range modules {
				each[i] = d.halfJoint(x, modules[i:i+1])
			}
			return Concatenate(each, 1)
		}
		name = modules[0] + ".weight"
	}
	w := d.weights[name] // [sum of out, in]
	var down, up, biases []*Node
	rank, biased := 0, false
	for _, module := range modules {
		if a := d.weights[module+".lora_A.weight"]; a != nil {
			down = append(down, a)
			rank += a.Shape().Dimensions[0]
		}
		bias := d.weights[module+".bias"]
		if biased = biased || bias != nil; bias == nil {
			bias = Zeros(g, shapes.Make(dtypes.Float32, d.config.rowsOf(module)))
		}
		biases = append(biases, bias)
	}
	withBias := func(y *Node) *Node {
		if !biased {
			return y
		}
		return Add(y, InsertAxes(Concatenate(biases, 0), 0))
	}
	if len(down) == 0 {
		return withBias(widen(halfBase(narrow(x), w)))
	}
	column := 0
	for _, module := range modules {
		if b := d.weights[module+".lora_B.weight"]; b != nil { // [out, rank of it], with zeros around
			r := b.Shape().Dimensions[1]
			up = append(up, Pad(b, ScalarZero(g, b.DType()), compute.PadAxis{}, compute.PadAxis{Start: column, End: rank - column - r}))
			column += r
		} else {
			up = append(up, Zeros(g, shapes.Make(dtypes.Float32, d.config.rowsOf(module), rank)))
		}
	}
	scale := d.lora.Scale()
	if d.dropout != nil {
		scale /= 1 - d.lora.Dropout
	}
	low := halfTrained(narrow(x), narrow(Concatenate(down, 0)), func(x, after *Node) *Node {
		if d.dropout == nil {
			return x
		}
		return d.dropout.dropped(x, modules[0], after)
	})
	low = narrow(MulScalar(widen(low), scale)) // [T, rank]
	b := narrow(Concatenate(up, 0))            // [sum of out, rank]
	if !d.ablated[ablateBeside] && besides(x.Shape().Dimensions[0], x.Shape().Dimensions[1]) {
		return withBias(widen(halfAdapted(narrow(x), low, w, b)))
	}
	y := withBias(widen(halfBase(narrow(x), w)))
	return Add(y, widen(halfTrained(low, b, func(x, _ *Node) *Node { return x })))
}

// dropped zeroes elements of x [T, in] with the dropout's probability, without rescaling. Which is decided by a hash of
// the micro-batch's seed, the module and the element's index (lowbias32, Wellons 2018), computed where it is needed:
// after is what it waits for, so that no mask is kept for the way back.
func (o *dropout) dropped(x *Node, module string, after *Node) *Node {
	g, seed := x.Graph(), o.noise
	if after != nil {
		seed = SchedulingBarrier(seed, after)
	}
	constant := func(v uint32) *Node { return Const(g, v) }
	hash := func(x *Node) *Node {
		x = BitwiseXor(x, BitwiseShiftRightLogical(x, constant(16)))
		x = Mul(x, constant(0x7feb352d))
		x = BitwiseXor(x, BitwiseShiftRightLogical(x, constant(15)))
		x = Mul(x, constant(0x846ca68b))
		return BitwiseXor(x, BitwiseShiftRightLogical(x, constant(16)))
	}
	first := SliceAxis(seed, 0, AxisElem(0)) // [1]
	second := SliceAxis(seed, 0, AxisElem(1))
	key := Add(hash(BitwiseXor(first, constant(uint32(mix(named(module)))))), second)
	t, in := x.Shape().Dimensions[0], x.Shape().Dimensions[1]
	index := Reshape(Iota(g, shapes.Make(dtypes.Uint32, t*in), 0), t, in)
	bits := hash(Add(hash(index), Reshape(key, 1, 1)))
	kept := GreaterOrEqual(bits, constant(uint32(math.Round(o.rate*(1<<32)))))
	return Where(kept, x, ScalarZero(g, x.DType()))
}

// dropoutSeed is what dropped is decided by, [2] uint32.
func dropoutSeed(seed uint64) *tensors.Tensor {
	s := stream{seed}
	z := s.next()
	return tensors.FromFlatDataAndDimensions([]uint32{uint32(z), uint32(z >> 32)}, 2)
}

// halfMLP is SwiGLU over h [T, D]: [T, D].
func (d *decoder) halfMLP(name string, h *Node) *Node {
	x := narrow(d.halfJoint(h, []string{name + "gate_proj", name + "up_proj"})) // [T, 2·I]
	width := x.Shape().Dimensions[1] / 2
	parts := func(both *Node) (gate, up *Node) {
		return widen(SliceAxis(both, 1, AxisRangeFromStart(width))), widen(SliceAxis(both, 1, AxisRangeToEnd(width)))
	}
	value := func(both *Node) *Node {
		gate, up := parts(both)
		return narrow(Mul(Mul(gate, Logistic(gate)), up))
	}
	if !d.training {
		return d.halfJoint(value(x), []string{name + "down_proj"})
	}
	x = again(x, value, func(both, v *Node) *Node { // v [T, I]
		gate, up := parts(both)
		v = widen(v)
		s := Logistic(gate)
		silu := Mul(gate, s)
		rise := Add(s, Mul(silu, OneMinus(s))) // of silu
		return Concatenate([]*Node{narrow(Mul(Mul(v, up), rise)), narrow(Mul(v, silu))}, 1)
	})
	return d.halfJoint(x, []string{name + "down_proj"})
}

// halfAttention is softmax(q kᵀ / √C + mask) v of q [B, H, N, C] over k, v [B, K, N, C]: [T, H·C], in bfloat16. On the
// way back the weights are computed again from q and k (Dao et al. 2022, algorithm 4, in one tile): nothing of size
// [N, N] is kept.
func (d *decoder) halfAttention(q, k, v, mask *Node) *Node {
	b, h, n, c := q.Shape().Dimensions[0], q.Shape().Dimensions[1], q.Shape().Dimensions[2], q.Shape().Dimensions[3]
	kv := k.Shape().Dimensions[1]
	scale := 1 / math.Sqrt(float64(c))
	batch := []int{0, 1}
	grouped := func(x *Node) *Node { // [B, H, N, ·] -> [B, K, G·N, ·]
		return Reshape(x, b, kv, h/kv*n, x.Shape().Dimensions[3])
	}
	single := func(x *Node) *Node { return Reshape(x, b, h, n, x.Shape().Dimensions[3]) } // and back
	parts := func(all *Node) (q, k, v *Node) {
		return grouped(SliceAxis(all, 1, AxisRangeFromStart(h))), SliceAxis(all, 1, AxisRange(h, h+kv)), SliceAxis(all, 1, AxisRangeToEnd(h+kv))
	}
	// weights are e^(score - highest) of products [B, H, N, N], and their sums, [B, H, N, 1].
	weights := func(products *Node) (e, sum *Node) {
		scores := Add(MulScalar(products, scale), mask)
		e = Exp(Sub(scores, ReduceAndKeep(scores, ReduceMax, -1)))
		return e, ReduceAndKeep(e, ReduceSum, -1)
	}
	value := func(all *Node) *Node {
		q, k, v := parts(all)
		e, sum := weights(single(wideSums(q, []int{3}, batch, k, []int{3}, batch)))
		out := single(wideSums(grouped(narrow(e)), []int{3}, batch, v, []int{2}, batch))
		return narrow(Mul(out, Reciprocal(sum)))
	}
	all := Concatenate([]*Node{narrow(q), narrow(k), narrow(v)}, 1) // [B, H + 2·K, N, C]
	var out *Node
	if d.training {
		out = again(all, value, func(all, arrived *Node) *Node { // arrived [B, H, N, C]
			q, k, v := parts(all)
			// Products of q and of what arrives are one product over twice the heads.
			joint := func(x, y *Node) *Node { return Concatenate([]*Node{x, y}, 1) }
			given := joint(q, grouped(arrived)) // [B, 2·K, G·N, C]
			halves := wideSums(given, []int{3}, batch, joint(k, v), []int{3}, batch)
			scores, dp := single(SliceAxis(halves, 1, AxisRangeFromStart(kv))), single(SliceAxis(halves, 1, AxisRangeToEnd(kv)))
			e, sum := weights(scores)
			p := Mul(e, Reciprocal(sum)) // [B, H, N, N]
			ds := Mul(p, Sub(dp, ReduceAndKeep(Mul(p, dp), ReduceSum, -1)))
			ds = grouped(narrow(MulScalar(ds, scale)))
			dq := single(wideSums(ds, []int{3}, batch, k, []int{2}, batch))
			dkv := wideSums(joint(ds, grouped(narrow(p))), []int{2}, batch, given, []int{2}, batch) // [B, 2·K, N, C]
			return joint(narrow(dq), narrow(dkv))
		})
	} else {
		out = value(all)
	}
	return Reshape(TransposeAllAxes(out, 0, 2, 1, 3), b*n, h*c)
}
