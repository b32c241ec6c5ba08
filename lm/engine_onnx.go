//go:build cgo && linux && (amd64 || arm64)

package lm

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	onnxbackend "github.com/gomlx/compute-onnx"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// onnxGraphs is compute-onnx's backend with functions that build some operations otherwise than it does: right where its
// own are wrong, and faster where ONNX Runtime has a faster operation.
//
// ONNX Runtime's ScatterND adds with several threads and without a lock: where an index comes twice, one of the two
// additions may be lost (measured with 1.30 on two cores: 2,000 updates of 256 numbers to 40 places came out wrong in 8
// of 20 runs, and the embedding's gradient of a training by up to 7 % of its largest element). So every ScatterSum is
// built from operations that are right: repeated indices are summed by a matrix product first, and each index is written
// once. It is deterministic, too.
type onnxGraphs struct{ compute.Backend }

func (b onnxGraphs) Builder(name string) compute.Builder {
	builder := b.Backend.Builder(name)
	return onnxBuilder{builder, &onnxFunction{Function: builder.Main(), narrow: map[compute.Value]compute.Value{}}}
}

type onnxBuilder struct {
	compute.Builder
	main *onnxFunction
}

func (b onnxBuilder) Main() compute.Function { return b.main }

type onnxFunction struct {
	compute.Function
	narrow map[compute.Value]compute.Value // of what BroadcastInDim stretched, the same with length 1 along those axes
}

// ScatterSum adds updates [N…, W…] to the operand [P…, W…] at indices [N…, k] of its first k axes, any of which may
// come several times. Memory and time are quadratic in N: a row of a micro-batch, not a corpus.
func (f *onnxFunction) ScatterSum(operand, indices, updates compute.Value, indexVectorAxis int,
	updateWindowAxes, insertedWindowAxes, scatterAxesToOperandAxes []int, sorted, unique bool) (compute.Value, error) {
	if unique {
		return f.Function.ScatterSum(operand, indices, updates, indexVectorAxis, updateWindowAxes, insertedWindowAxes,
			scatterAxesToOperandAxes, sorted, unique)
	}
	b := chain{f: f}
	shape, at, from := b.shape(operand), b.shape(indices), b.shape(updates)
	if b.err != nil {
		return nil, b.err
	}
	k := at.Dimensions[at.Rank()-1]
	leading := slices.Equal(scatterAxesToOperandAxes, count(0, k)) && slices.Equal(insertedWindowAxes, count(0, k)) &&
		indexVectorAxis == at.Rank()-1 && slices.Equal(updateWindowAxes, count(at.Rank()-1, from.Rank()))
	if !leading || from.DType != shape.DType {
		return nil, fmt.Errorf("scatter of %s at %s into %s on engine onnx: only leading axes are indexed here", from, at, shape)
	}
	n, places, width := shapeSize(at.Dimensions[:at.Rank()-1]), shapeSize(shape.Dimensions[:k]), shapeSize(shape.Dimensions[k:])

	// linear [N]: the place that each update goes to.
	vectors := b.do(f.Reshape(b.do(f.ConvertDType(indices, dtypes.Int64)), n, k))
	linear := b.ints(0, n)
	for axis, stride := range strides(shape.Dimensions[:k]) {
		column := b.do(f.Reshape(b.do(f.Slice(vectors, []int{0, axis}, []int{n, axis + 1}, []int{1, 1})), n))
		linear = b.do(f.Add(linear, b.do(f.Mul(column, b.ints(stride, n)))))
	}
	// same [N, N]: 1 where two updates go to one place. sums [N, W]: all that go to the place of an update.
	short := linear // what is compared N² times
	if places <= math.MaxInt32 {
		short = b.do(f.ConvertDType(linear, dtypes.Int32))
	}
	same := b.do(f.ConvertDType(b.do(f.Equal(b.do(f.Reshape(short, n, 1)), b.do(f.Reshape(short, 1, n)))), shape.DType))
	sums := b.do(f.DotGeneral(same, []int{1}, nil, b.do(f.Reshape(updates, n, width)), []int{0}, nil, compute.DotGeneralConfig{}))
	// The first update of each place writes its sum there; the others write into N spare places behind the operand.
	order := b.do(f.Iota(shapes.Make(dtypes.Int64, n), 0))
	first := b.do(f.Equal(b.do(f.ArgMinMax(same, 1, dtypes.Int64, false)), order)) // of equals, the first is found
	spare := b.do(f.Add(order, b.ints(places, n)))
	to := b.do(f.Where(first, linear, spare))
	room := b.do(f.BroadcastInDim(b.do(f.ConvertDType(b.do(f.Constant([]float32{0})), shape.DType)), shapes.Make(shape.DType, n, width), nil))
	table := b.do(f.Concatenate(0, b.do(f.Reshape(operand, places, width)), room)) // [P+N, W]
	table = b.do(f.Function.ScatterSum(table, b.do(f.Reshape(to, n, 1)), sums, 1, []int{1}, []int{0}, []int{0}, false, true))
	return b.do(f.Reshape(b.do(f.Slice(table, []int{0, 0}, []int{places, width}, []int{1, 1})), shape.Dimensions...)), b.err
}

// DotGeneral is a MatMul, batched where there are batch axes, rather than compute-onnx's Einsum, where each operand's
// axes are already in order: batch axes first, then the others, those that are contracted before or behind the rest.
func (f *onnxFunction) DotGeneral(lhs compute.Value, lhsContracting, lhsBatch []int, rhs compute.Value, rhsContracting, rhsBatch []int,
	config compute.DotGeneralConfig) (compute.Value, error) {
	b := chain{f: f}
	left, right := b.shape(lhs), b.shape(rhs)
	if b.err != nil {
		return nil, b.err
	}
	l, ok := matrixOf(left, lhsContracting, lhsBatch)
	r, okRight := matrixOf(right, rhsContracting, rhsBatch)
	main, okFunction := f.Function.(*onnxbackend.Function)
	if !ok || !okRight || !okFunction || len(lhsBatch) == 0 || left.DType != dtypes.Float32 || right.DType != dtypes.Float32 || config != (compute.DotGeneralConfig{}) {
		return f.Function.DotGeneral(lhs, lhsContracting, lhsBatch, rhs, rhsContracting, rhsBatch, config)
	}
	batch := len(lhsBatch)
	swapped := append(count(0, batch), batch+1, batch)
	matrices := func(v compute.Value, m matrixAxes, contractedLast bool) *onnxbackend.Node {
		rows, columns := m.others, m.contracted
		if m.contractedFirst {
			rows, columns = columns, rows
		}
		v = b.do(f.Reshape(v, append(slices.Clone(m.batch), rows, columns)...))
		if m.contractedFirst == contractedLast { // ONNX Runtime takes this transposition into the product
			v = b.do(f.Transpose(v, swapped...))
		}
		node, _ := v.(*onnxbackend.Node)
		return node
	}
	x, y := matrices(lhs, l, true), matrices(rhs, r, false)
	if b.err != nil {
		return nil, b.err
	}
	product := main.AddCustomNode("MatMul", []*onnxbackend.Node{x, y}, shapes.Make(left.DType, append(slices.Clone(l.batch), l.others, r.others)...))
	return f.Reshape(product, slices.Concat(l.batch, l.otherAxes, r.otherAxes)...)
}

// matrixAxes is an operand of a product as matrices.
type matrixAxes struct {
	batch, otherAxes   []int // lengths
	others, contracted int   // numbers in a matrix along those axes
	contractedFirst    bool
}

// matrixOf reads an operand as matrices, where it can be read so without moving anything.
func matrixOf(shape shapes.Shape, contracting, batch []int) (m matrixAxes, ok bool) {
	rank, from := shape.Rank(), len(batch)
	if !slices.Equal(batch, count(0, from)) || len(contracting) == 0 {
		return m, false
	}
	m.contractedFirst = slices.Equal(contracting, count(from, from+len(contracting)))
	if !m.contractedFirst && !slices.Equal(contracting, count(rank-len(contracting), rank)) {
		return m, false
	}
	m.batch = shape.Dimensions[:from]
	contracted := shape.Dimensions[rank-len(contracting):]
	m.otherAxes = shape.Dimensions[from : rank-len(contracting)]
	if m.contractedFirst {
		contracted, m.otherAxes = shape.Dimensions[from:from+len(contracting)], shape.Dimensions[from+len(contracting):]
	}
	m.others, m.contracted = shapeSize(m.otherAxes), shapeSize(contracted)
	return m, true
}

// Reshape leaves out what changes nothing.
func (f *onnxFunction) Reshape(x compute.Value, dimensions ...int) (compute.Value, error) {
	if shape, err := f.Shape(x); err == nil && slices.Equal(shape.Dimensions, dimensions) {
		return x, nil
	}
	return f.Function.Reshape(x, dimensions...)
}

// Transpose leaves out what changes nothing.
func (f *onnxFunction) Transpose(x compute.Value, permutation ...int) (compute.Value, error) {
	if slices.IsSorted(permutation) {
		return x, nil
	}
	return f.Function.Transpose(x, permutation...)
}

// BroadcastInDim remembers the value before it is stretched. Arithmetic is given that one, which ONNX Runtime stretches
// itself without making a copy.
func (f *onnxFunction) BroadcastInDim(x compute.Value, output shapes.Shape, axes []int) (compute.Value, error) {
	shape, err := f.Shape(x)
	if err != nil {
		return nil, err
	}
	wide, err := f.Function.BroadcastInDim(x, output, axes)
	if err != nil {
		return nil, err
	}
	dimensions := slices.Repeat([]int{1}, output.Rank())
	for i, axis := range axes {
		dimensions[axis] = shape.Dimensions[i]
	}
	if f.narrow[wide], err = f.Function.Reshape(x, dimensions...); err != nil {
		return nil, err
	}
	return wide, nil
}

// narrowed gives arithmetic one of its operands, of one shape, as it was before it was stretched.
func (f *onnxFunction) narrowed(lhs, rhs compute.Value) (compute.Value, compute.Value) {
	left, err := f.Shape(lhs)
	if err != nil {
		return lhs, rhs
	}
	if right, err := f.Shape(rhs); err != nil || !left.Equal(right) {
		return lhs, rhs
	}
	if narrow := f.narrow[rhs]; narrow != nil {
		return lhs, narrow
	}
	if narrow := f.narrow[lhs]; narrow != nil {
		return narrow, rhs
	}
	return lhs, rhs
}

func (f *onnxFunction) Add(lhs, rhs compute.Value) (compute.Value, error) {
	return f.Function.Add(f.narrowed(lhs, rhs))
}

func (f *onnxFunction) Sub(lhs, rhs compute.Value) (compute.Value, error) {
	return f.Function.Sub(f.narrowed(lhs, rhs))
}

func (f *onnxFunction) Mul(lhs, rhs compute.Value) (compute.Value, error) {
	return f.Function.Mul(f.narrowed(lhs, rhs))
}

func (f *onnxFunction) Div(lhs, rhs compute.Value) (compute.Value, error) {
	return f.Function.Div(f.narrowed(lhs, rhs))
}

// chain builds operations of which the first error stands. After it, the operations fail on what it left them.
type chain struct {
	f   compute.Function
	err error
}

func (c *chain) do(v compute.Value, err error) compute.Value {
	if c.err == nil {
		c.err = err
	}
	return v
}

func (c *chain) shape(v compute.Value) shapes.Shape {
	s, err := c.f.Shape(v)
	if c.err == nil {
		c.err = err
	}
	return s
}

// ints is a vector of n times the same number.
func (c *chain) ints(value, n int) compute.Value {
	return c.do(c.f.BroadcastInDim(c.do(c.f.Constant([]int64{int64(value)})), shapes.Make(dtypes.Int64, n), nil))
}

// strides are the distances between neighbours along each axis of a row-major layout.
func strides(dimensions []int) []int {
	s := make([]int, len(dimensions))
	for i := range s {
		s[i] = shapeSize(dimensions[i+1:])
	}
	return s
}

// count lists from, from+1, …, to-1.
func count(from, to int) []int {
	var list []int
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
