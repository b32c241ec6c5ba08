//go:build cgo

package cpu

import (
	"slices"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// maxRank is the largest number of collapsed dimensions that the kernels walk.
const maxRank = 8

var binaryOps = map[compute.OpType]int{
	compute.OpTypeAdd: kernels.Add, compute.OpTypeSub: kernels.Sub, compute.OpTypeMul: kernels.Mul,
	compute.OpTypeDiv: kernels.Div, compute.OpTypeMax: kernels.Max, compute.OpTypeMin: kernels.Min,
	compute.OpTypeEqual: kernels.Eq, compute.OpTypeNotEqual: kernels.Ne,
	compute.OpTypeGreaterOrEqual: kernels.Ge, compute.OpTypeGreaterThan: kernels.Gt,
	compute.OpTypeLessOrEqual: kernels.Le, compute.OpTypeLessThan: kernels.Lt,
}

// unaryOps gives the kernel of an operation, and what an element costs compared
// with a copied one.
var unaryOps = map[compute.OpType]struct{ op, cost int }{
	compute.OpTypeNeg: {kernels.Neg, 1}, compute.OpTypeExp: {kernels.Exp, 3}, compute.OpTypeSqrt: {kernels.Sqrt, 2},
	compute.OpTypeRsqrt: {kernels.Rsqrt, 3}, compute.OpTypeLogistic: {kernels.Logistic, 4}, compute.OpTypeAbs: {kernels.Abs, 1},
	compute.OpTypeLog: {kernels.Log, 4}, compute.OpTypeTanh: {kernels.Tanh, 4},
}

// binary returns the executor of a binary operation with implicit broadcasting.
func (s *state) binary(op int) executor {
	compares := op >= kernels.Eq
	return func(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
		x, y := inputs[0], inputs[1]
		op := op
		if compares && isInt(x, y) {
			op += kernels.IntCompare
		} else if !isFloat(x, y) {
			return nil, nil
		}
		if !static(n.Shape) {
			return nil, nil
		}
		dims := n.Shape.Dimensions
		walk, sx, sy, ok := collapse(dims, broadcastStrides(x, dims), broadcastStrides(y, dims))
		if !ok {
			return nil, nil
		}
		var out *buffer
		switch {
		case !compares && owned[1] && slices.Equal(y.RawShape.Dimensions, dims):
			out, inputs[1] = y, nil
		case !compares && owned[0] && slices.Equal(x.RawShape.Dimensions, dims):
			out, inputs[0] = x, nil
		default:
			var err error
			if out, err = getBuffer(b, n.Shape); err != nil {
				return nil, err
			}
		}
		var p unsafe.Pointer
		switch v := out.Flat.(type) {
		case []float32:
			p = unsafe.Pointer(unsafe.SliceData(v))
		case []bool:
			p = unsafe.Pointer(unsafe.SliceData(v))
		}
		if n.Shape.Size() == 0 {
			return out, nil
		}
		a, c := (*float32)(address(x)), (*float32)(address(y))
		rows, cost := walk[0], 1
		if len(walk) > 1 {
			rows, cost = elements(walk[:len(walk)-1]), walk[len(walk)-1]
		}
		s.ranges(rows, cost, func(begin, end int) { kernels.Binary(op, a, c, p, walk, sx, sy, begin, end) })
		return out, nil
	}
}

// broadcastStrides returns a buffer's element strides along the dimensions that
// it is broadcast to, nil where its shape does not allow that.
func broadcastStrides(b *buffer, dims []int) []int {
	strides := make([]int, len(dims))
	own := b.RawShape.Dimensions
	if b.RawShape.Size() == 1 {
		return strides
	}
	if len(own) != len(dims) {
		return nil
	}
	stride := 1
	for i := len(own) - 1; i >= 0; i-- {
		switch own[i] {
		case dims[i]:
			strides[i] = stride
		case 1:
		default:
			return nil
		}
		stride *= own[i]
	}
	return strides
}

// collapse drops the dimensions of one element and merges neighbours that both
// operands walk as one. At least one dimension is left.
func collapse(dims, sx, sy []int) (d, x, y []int, ok bool) {
	if sx == nil || sy == nil {
		return nil, nil, nil, false
	}
	for i, size := range dims {
		if size == 1 {
			continue
		}
		if last := len(d) - 1; last >= 0 && x[last] == sx[i]*size && y[last] == sy[i]*size {
			d[last] *= size
			x[last], y[last] = sx[i], sy[i]
			continue
		}
		d, x, y = append(d, size), append(x, sx[i]), append(y, sy[i])
	}
	if len(d) == 0 {
		d, x, y = []int{1}, []int{0}, []int{0}
	}
	return d, x, y, len(d) <= maxRank
}

// elements is the product of dimensions.
func elements(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// unary returns the executor of a unary operation.
func (s *state) unary(op, cost int) executor {
	return func(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
		x := inputs[0]
		if !isFloat(x) {
			return nil, nil
		}
		out := x
		if owned[0] {
			inputs[0] = nil
		} else {
			var err error
			if out, err = getBuffer(b, x.RawShape); err != nil {
				return nil, err
			}
		}
		from, to := floats(x), floats(out)
		s.ranges(len(from), cost, func(begin, end int) { kernels.Unary(op, &from[begin], &to[begin], end-begin) })
		return out, nil
	}
}

// where executes Where: a condition of the output's shape, and values of that
// shape or scalars.
func (s *state) where(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	cond, x, y := inputs[0], inputs[1], inputs[2]
	size := n.Shape.Size()
	mask, ok := cond.Flat.([]bool)
	if !ok || !isFloat(x, y) || !static(n.Shape) || len(mask) != size || size <= 1 {
		return nil, nil
	}
	stride := func(v *buffer) (int, bool) {
		if v.RawShape.IsScalar() {
			return 0, true
		}
		return 1, slices.Equal(v.RawShape.Dimensions, n.Shape.Dimensions)
	}
	sx, okX := stride(x)
	sy, okY := stride(y)
	if !okX || !okY {
		return nil, nil
	}
	var out *buffer
	switch {
	case owned[1] && sx == 1:
		out, inputs[1] = x, nil
	case owned[2] && sy == 1:
		out, inputs[2] = y, nil
	default:
		var err error
		if out, err = getBuffer(b, n.Shape); err != nil {
			return nil, err
		}
	}
	t, f, to := floats(x), floats(y), floats(out)
	s.ranges(size, 1, func(begin, end int) {
		kernels.Where(&mask[begin], &t[begin*sx], sx, &f[begin*sy], sy, &to[begin], end-begin)
	})
	return out, nil
}

// convert executes the conversions between float32 and bfloat16, and from the
// types of tokens and masks to float32.
func (s *state) convert(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	if !static(n.Shape) {
		return nil, nil
	}
	switch from := inputs[0].Flat.(type) {
	case []bfloat16.BFloat16:
		if n.Shape.DType == dtypes.Float32 && len(from) > 0 {
			return s.convertHalf(b, n, inputs[0])
		}
	case []float32:
		if n.Shape.DType == dtypes.BFloat16 && len(from) > 0 {
			return s.convertHalf(b, n, inputs[0])
		}
	case []bool:
		if n.Shape.DType == dtypes.Float32 {
			return convertTo(s, b, n, len(from), func(to []float32, i int) {
				for j, v := range from[i : i+len(to)] {
					to[j] = 0
					if v {
						to[j] = 1
					}
				}
			})
		}
	case []int32:
		if n.Shape.DType == dtypes.Float32 {
			return convertTo(s, b, n, len(from), func(to []float32, i int) {
				for j, v := range from[i : i+len(to)] {
					to[j] = float32(v)
				}
			})
		}
	}
	return nil, nil
}

func convertTo[T any](s *state, b *backend, n *node, size int, fn func(to []T, begin int)) (*buffer, error) {
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	to := out.Flat.([]T)
	s.ranges(size, 1, func(begin, end int) { fn(to[begin:end], begin) })
	return out, nil
}
