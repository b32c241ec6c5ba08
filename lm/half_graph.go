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

// byHand is value, of one of x's rank, whose gradient with respect to x comes from slope: of x and the gradient that
// arrives, shaped as value is, it makes that of x. What slope computes of x is not shared with the way there.
func byHand(x *Node, value func(x *Node) *Node, slope func(x, arrived *Node) *Node) *Node {
	y, ok := InternalFusedOpCaller(
		func() *Node { return value(x) },
		func() *Node { return passes(x, value(x).Shape(), slope) }, true) // where the gradient goes
	if !ok { // GOMLX_FUSION is off: y is what passes gives
		y = Add(StopGradient(value(x)), Sub(y, StopGradient(y)))
	}
	return y
}

// passes is something of a shape that depends on x as byHand says. (A gradient can be given by hand for the identity
// alone, so x is filled up with zeros, and cut, to shapes that hold both.)
func passes(x *Node, shape shapes.Shape, slope func(x, arrived *Node) *Node) *Node {
	own, both := x.Shape().Dimensions, slices.Clone(shape.Dimensions)
	for i, dim := range own {
		both[i] = max(both[i], dim)
	}
	x = IdentityWithCustomGradient(fitted(x, both), func(x, arrived *Node) *Node {
		arrived = fitted(arrived, shape.Dimensions)
		return fitted(slope(SchedulingBarrier(fitted(x, own), arrived), arrived), both)
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
	return byHand(x, func(x *Node) *Node { return times(x, 1, w, 1) }, func(_, v *Node) *Node { return times(v, 1, w, 0) })
}

// halfTrained is x [T, in], with its elements dropped where drop does so, times w [out, in] transposed: [T, out], all
// bfloat16, with the gradients of both. The dropped x is made again on the way back rather than kept.
func halfTrained(x, w *Node, drop func(x, after *Node) *Node) *Node {
	t := x.Shape().Dimensions[0]
	parts := func(both *Node) (x, w *Node) {
		return SliceAxis(both, 0, AxisRangeFromStart(t)), SliceAxis(both, 0, AxisRangeToEnd(t))
	}
	return byHand(Concatenate([]*Node{x, w}, 0), // [T + out, in]
		func(both *Node) *Node {
			x, w := parts(both)
			return times(drop(x, nil), 1, w, 1)
		},
		func(both, v *Node) *Node { // v [T, out]
			x, w := parts(both)
			return Concatenate([]*Node{drop(times(v, 1, w, 0), v), times(v, 0, drop(x, v), 0)}, 0)
		})
}

// halfLinears maps x [T, in] by modules that read the same input: [T, out] of each, in float32. Their adapters are one
// product each way: A's rows lie one below the other, and B's blocks along a diagonal.
func (d *decoder) halfLinears(x *Node, modules []string) []*Node {
	x = widen(x) // its gradients, one of each product, are summed in float32
	results, rank := make([]*Node, len(modules)), 0
	var down, up []*Node
	for i, module := range modules {
		results[i] = widen(halfBase(narrow(x), d.weights[module+".weight"]))
		if bias := d.weights[module+".bias"]; bias != nil {
			results[i] = Add(results[i], InsertAxes(bias, 0))
		}
		if a := d.weights[module+".lora_A.weight"]; a != nil {
			down, up = append(down, a), append(up, d.weights[module+".lora_B.weight"])
			rank += a.Shape().Dimensions[0]
		}
	}
	if len(down) == 0 {
		return results
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
	for i, at := 0, 0; i < len(up); i++ {
		r := up[i].Shape().Dimensions[1]
		up[i] = Pad(up[i], ScalarZero(x.Graph(), up[i].DType()), compute.PadAxis{}, compute.PadAxis{Start: at, End: rank - at - r})
		at += r
	}
	added := halfTrained(low, narrow(Concatenate(up, 0)), func(x, _ *Node) *Node { return x }) // [T, sum of out]
	for i, at, n := 0, 0, 0; i < len(modules); i++ {
		if d.weights[modules[i]+".lora_A.weight"] == nil {
			continue
		}
		out := up[n].Shape().Dimensions[0]
		results[i] = Add(results[i], widen(SliceAxis(added, 1, AxisRange(at, at+out))))
		at += out
		n++
	}
	return results
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
	both := d.halfLinears(h, []string{name + "gate_proj", name + "up_proj"})
	width := both[0].Shape().Dimensions[1]
	parts := func(both *Node) (gate, up *Node) {
		return widen(SliceAxis(both, 1, AxisRangeFromStart(width))), widen(SliceAxis(both, 1, AxisRangeToEnd(width)))
	}
	value := func(both *Node) *Node {
		gate, up := parts(both)
		return narrow(Mul(Mul(gate, Logistic(gate)), up))
	}
	x := Concatenate([]*Node{narrow(both[0]), narrow(both[1])}, 1) // [T, 2·I]
	if !d.training {
		return d.halfLinears(value(x), []string{name + "down_proj"})[0]
	}
	x = byHand(x, value, func(both, v *Node) *Node { // v [T, I]
		gate, up := parts(both)
		v = widen(v)
		s := Logistic(gate)
		silu := Mul(gate, s)
		slope := Add(s, Mul(silu, OneMinus(s))) // of silu
		return Concatenate([]*Node{narrow(Mul(Mul(v, up), slope)), narrow(Mul(v, silu))}, 1)
	})
	return d.halfLinears(x, []string{name + "down_proj"})[0]
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
	// weights are e^(score - highest), [B, H, N, N], and their sums, [B, H, N, 1].
	weights := func(q, k *Node) (e, sum *Node) {
		scores := Add(MulScalar(single(wideSums(q, []int{3}, batch, k, []int{3}, batch)), scale), mask)
		e = Exp(Sub(scores, ReduceAndKeep(scores, ReduceMax, -1)))
		return e, ReduceAndKeep(e, ReduceSum, -1)
	}
	value := func(all *Node) *Node {
		q, k, v := parts(all)
		e, sum := weights(q, k)
		out := single(wideSums(grouped(narrow(e)), []int{3}, batch, v, []int{2}, batch))
		return narrow(Mul(out, Reciprocal(sum)))
	}
	all := Concatenate([]*Node{narrow(q), narrow(k), narrow(v)}, 1) // [B, H + 2·K, N, C]
	var out *Node
	if d.training {
		out = byHand(all, value, func(all, arrived *Node) *Node { // arrived [B, H, N, C]
			q, k, v := parts(all)
			arrived = grouped(arrived)
			e, sum := weights(q, k)
			p := Mul(e, Reciprocal(sum))
			dp := single(wideSums(arrived, []int{3}, batch, v, []int{3}, batch)) // [B, H, N, N]
			ds := Mul(p, Sub(dp, ReduceAndKeep(Mul(p, dp), ReduceSum, -1)))
			ds = grouped(narrow(MulScalar(ds, scale)))
			dq := single(wideSums(ds, []int{3}, batch, k, []int{2}, batch))
			dk := wideSums(ds, []int{2}, batch, q, []int{2}, batch) // [B, K, N, C]
			dv := wideSums(grouped(narrow(p)), []int{2}, batch, arrived, []int{2}, batch)
			return Concatenate([]*Node{narrow(dq), narrow(dk), narrow(dv)}, 1)
		})
	} else {
		out = value(all)
	}
	return Reshape(TransposeAllAxes(out, 0, 2, 1, 3), b*n, h*c)
}
