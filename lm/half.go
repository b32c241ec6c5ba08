package lm

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file

	"github.com/esclab/esclab/lm/cpu"
)

// BaseType is how the matrices of a model that is not trained itself are kept.
type BaseType string

const (
	// Float32 keeps everything in float32.
	Float32 BaseType = "float32"
	// BFloat16 keeps matrices and embeddings in bfloat16, half the memory; norms, biases, adapters, the residual stream
	// and all sums stay in float32. Engines that multiply bfloat16 (xla; go where the processor does) take both operands
	// of a base product in it; xla keeps activations so (half_graph.go), and go on AMX's tiles rounds operands of all
	// products, and keys and values (package lm/cpu). The rest converts a matrix just before its product, which gives what
	// float32 does with the rounded weights.
	BFloat16 BaseType = "bfloat16"
)

// check refuses unknown types.
func (b BaseType) check() error {
	switch b {
	case "", Float32, BFloat16:
		return nil
	}
	return fmt.Errorf("base type %q: it must be %s or %s", b, Float32, BFloat16)
}

// dtype is how a parameter is kept.
func (b BaseType) dtype(p parameter) dtypes.DType {
	if b == BFloat16 && len(p.shape) > 1 {
		return dtypes.BFloat16
	}
	return dtypes.Float32
}

// Keeps says whether an engine can work with base weights of a type: onnx has no bfloat16 on the CPU.
func (e *Engine) Keeps(b BaseType) error {
	if err := b.check(); err != nil {
		return err
	}
	if b == BFloat16 && e.Name == "onnx" {
		return fmt.Errorf("engine onnx has no bfloat16: use base type %s or another engine", Float32)
	}
	return nil
}

// multipliesHalf says whether an engine has matrix products of bfloat16, with sums in float32: XLA, and go on processors
// with dot products of bfloat16. The others convert a weight to float32 just before its product.
func multipliesHalf(b compute.Backend) bool {
	return isXLA(b) || b.Name() == "Go Backend" && cpu.MultipliesHalf()
}

// lookUp gathers rows of a base weight [V, D], in float32: indices [n, 1] -> [n, D].
func lookUp(table, indices *Node) *Node { return widen(Gather(table, indices)) }

// widen converts to float32.
func widen(x *Node) *Node { return ConvertDType(x, dtypes.Float32) }

// baseProduct is x [T, in] times a base weight w [out, in] transposed: [T, out], in float32 whatever the weight's type.
// Weights in bfloat16 are not trained, so the gradient is that of x alone, v·w, given by hand: derived, it would keep
// every converted weight until the way back, and multiply in float32 there.
func (d *decoder) baseProduct(x, w *Node) *Node {
	if w.DType() == dtypes.Float32 {
		return product(x, w)
	}
	if !d.training {
		return halfProduct(x, w, 1)
	}
	y, ok := InternalFusedOpCaller(
		func() *Node { return halfProduct(x, w, 1) },
		func() *Node { return slopeOf(x, w) }, true) // where the gradient goes; what it is itself is never computed
	if !ok { // GOMLX_FUSION is off: y is slopeOf
		y = Add(StopGradient(halfProduct(x, w, 1)), Sub(y, StopGradient(y)))
	}
	return y
}

// slopeOf is something of shape [T, out] that depends on x [T, in] as the product with w [out, in] does: a gradient v
// that arrives leaves as v·w. (A gradient can be given by hand for the identity alone, so x is widened first.)
func slopeOf(x, w *Node) *Node {
	out, in := w.Shape().Dimensions[0], w.Shape().Dimensions[1]
	wide := max(in, out)
	x = IdentityWithCustomGradient(stretch(x, wide), func(_, v *Node) *Node {
		return stretch(halfProduct(stretch(v, out), w, 0), wide)
	})
	return stretch(x, out)
}

// stretch cuts x [T, n] to a width, or fills it up with zeros.
func stretch(x *Node, width int) *Node {
	switch n := x.Shape().Dimensions[1]; {
	case n > width:
		return SliceAxis(x, 1, AxisRangeFromStart(width))
	case n < width:
		return Pad(x, ScalarZero(x.Graph(), x.DType()), compute.PadAxis{}, compute.PadAxis{End: width - n})
	}
	return x
}

// halfProduct contracts the second axis of x [T, n] with the given axis of w, a matrix of float32 or bfloat16: float32.
func halfProduct(x, w *Node, axis int) *Node {
	switch {
	case w.DType() == dtypes.Float32:
	case multipliesHalf(x.Graph().Backend()):
		return Dot(ConvertDType(x, w.DType()), w).WithAccumulatorDType(dtypes.Float32).WithOutputDType(dtypes.Float32).
			General([]int{1}, nil, []int{axis}, nil)
	default: // tied to x, so that it is converted when it is needed, and anew where x is computed anew
		w = widen(SchedulingBarrier(w, x))
	}
	return DotGeneral(x, []int{1}, nil, w, []int{axis}, nil)
}
