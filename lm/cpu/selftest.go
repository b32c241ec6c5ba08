//go:build cgo

package cpu

import (
	"fmt"
	"math"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
)

// trial is one operation of the self-test on parameters x [3,5,7], y [3,1,7],
// m (bool) and i (indices [4,1]).
type trial struct {
	op    compute.OpType
	build func(f compute.Function, x, y, m, i compute.Value) (compute.Value, error)
}

const trialX, trialY = 3 * 5 * 7, 3 * 7 // Elements of x and y.

// trialInputs returns the values of x and y.
func trialInputs() (x, y []float32) {
	x, y = make([]float32, trialX), make([]float32, trialY)
	for i := range x {
		x[i] = float32(i*37%trialX-trialX/3) / 11
	}
	for i := range y {
		y[i] = float32(i*5%trialY-trialY/2) / 3
	}
	return x, y
}

// trialProduct is the result of DotGeneral's trial: the stock executor reads
// beyond its operands, which a program built to check pointers does not survive.
func trialProduct() []float64 {
	x, y := trialInputs()
	var product []float64
	for i := range 3 * 5 {
		var sum float64
		for k := range 7 {
			sum += float64(x[i*7+k]) * float64(y[i/5*7+k])
		}
		product = append(product, sum)
	}
	return product
}

func trials() []trial {
	type f = compute.Function
	type v = compute.Value
	two := func(op compute.OpType, fn func(f, v, v) (v, error)) trial {
		return trial{op, func(g f, x, y, _, _ v) (v, error) { return fn(g, x, y) }}
	}
	one := func(op compute.OpType, fn func(f, v) (v, error)) trial {
		return trial{op, func(g f, x, _, _, _ v) (v, error) { return fn(g, x) }}
	}
	float := func(dims ...int) shapes.Shape { return shapes.Make(dtypes.Float32, dims...) }
	return []trial{
		two(compute.OpTypeDotGeneral, func(g f, x, y v) (v, error) {
			return g.DotGeneral(x, []int{2}, []int{0}, y, []int{2}, []int{0}, compute.DotGeneralConfig{})
		}),
		two(compute.OpTypeAdd, f.Add), two(compute.OpTypeSub, f.Sub), two(compute.OpTypeMul, f.Mul), two(compute.OpTypeDiv, f.Div),
		two(compute.OpTypeMax, f.Max), two(compute.OpTypeMin, f.Min),
		two(compute.OpTypeEqual, f.Equal), two(compute.OpTypeNotEqual, f.NotEqual),
		two(compute.OpTypeGreaterOrEqual, f.GreaterOrEqual), two(compute.OpTypeGreaterThan, f.GreaterThan),
		two(compute.OpTypeLessOrEqual, f.LessOrEqual), two(compute.OpTypeLessThan, f.LessThan),
		one(compute.OpTypeNeg, f.Neg), one(compute.OpTypeExp, f.Exp), one(compute.OpTypeSqrt, f.Sqrt), one(compute.OpTypeRsqrt, f.Rsqrt),
		one(compute.OpTypeLogistic, f.Logistic), one(compute.OpTypeAbs, f.Abs), one(compute.OpTypeLog, f.Log), one(compute.OpTypeTanh, f.Tanh),
		one(compute.OpTypeReduceSum, func(g f, x v) (v, error) { return g.ReduceSum(x, 0, 2) }),
		one(compute.OpTypeReduceMax, func(g f, x v) (v, error) { return g.ReduceMax(x, 2) }),
		one(compute.OpTypeReduceMin, func(g f, x v) (v, error) { return g.ReduceMin(x, 1) }),
		{compute.OpTypeWhere, func(g f, x, _, m, _ v) (v, error) { return g.Where(m, x, x) }},
		{compute.OpTypeConvertDType, func(g f, _, _, m, _ v) (v, error) { return g.ConvertDType(m, dtypes.Float32) }},
		one(compute.OpTypeFusedSoftmax, func(g f, x v) (v, error) { return g.FusedSoftmax(x, 2) }),
		one(compute.OpTypeTranspose, func(g f, x v) (v, error) { return g.Transpose(x, 2, 0, 1) }),
		one(compute.OpTypeBroadcastInDim, func(g f, x v) (v, error) { return g.BroadcastInDim(x, float(3, 2, 5, 7), []int{0, 2, 3}) }),
		one(compute.OpTypeSlice, func(g f, x v) (v, error) { return g.Slice(x, []int{0, 1, 2}, []int{3, 4, 7}, []int{2, 1, 2}) }),
		two(compute.OpTypeConcatenate, func(g f, x, y v) (v, error) { return g.Concatenate(1, x, y, x) }),
		one(compute.OpTypePad, func(g f, x v) (v, error) {
			fill, err := g.Constant([]float32{2})
			if err != nil {
				return nil, err
			}
			return g.Pad(x, fill, compute.PadAxis{}, compute.PadAxis{Start: 1}, compute.PadAxis{Start: 1, End: 2})
		}),
		{compute.OpTypeGather, func(g f, x, _, _, i v) (v, error) {
			return g.Gather(x, i, 1, []int{1, 2}, []int{0}, []int{0}, []int{1, 5, 7}, false)
		}},
		{compute.OpTypeScatterSum, func(g f, x, _, _, i v) (v, error) {
			updates, err := g.Gather(x, i, 1, []int{1, 2}, []int{0}, []int{0}, []int{1, 5, 7}, false)
			if err != nil {
				return nil, err
			}
			return g.ScatterSum(x, i, updates, 1, []int{1, 2}, []int{0}, []int{0}, false, false)
		}},
	}
}

// stockResults are the results of the trials by the stock executors.
var stockResults = sync.OnceValues(func() ([][]float64, error) {
	results := make([][]float64, len(trials()))
	for i, t := range trials() {
		var err error
		if t.op == compute.OpTypeDotGeneral {
			results[i] = trialProduct()
		} else if results[i], err = t.run(); err != nil {
			return nil, fmt.Errorf("%s by the stock executor: %w", t.op, err)
		}
	}
	return results, nil
})

// selfTest runs every operation with the chosen kernels and compares it with
// the stock executor; those that differ are left to it. It
// returns their names.
func selfTest(s *state) (failed []string, err error) {
	s.on.Store(false)
	want, err := stockResults()
	if err != nil {
		return nil, err
	}
	s.on.Store(true)
	defer s.on.Store(false)
	for i, t := range trials() {
		s.skip[t.op] = false
		got, err := t.run()
		if err != nil || !close(got, want[i]) {
			s.skip[t.op] = true
			failed = append(failed, t.op.String())
		}
	}
	return failed, nil
}

func close(got, want []float64) bool {
	if len(got) != len(want) {
		return false
	}
	for i, g := range got {
		w := want[i]
		if g != w && !(math.IsNaN(g) && math.IsNaN(w)) && !(math.Abs(g-w) <= 1e-6+1e-5*math.Abs(w)) {
			return false
		}
	}
	return true
}

// run compiles and executes the trial on a backend of its own.
func (t trial) run() (result []float64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	b, err := gobackend.New("ops_sequential")
	if err != nil {
		return nil, err
	}
	defer b.Finalize()
	x, y := trialInputs()
	m := make([]bool, trialX)
	for i := range m {
		m[i] = i%3 == 0
	}
	flats := []any{x, y, m, []int32{2, 0, 1, 2}}
	sizes := []shapes.Shape{
		shapes.Make(dtypes.Float32, 3, 5, 7), shapes.Make(dtypes.Float32, 3, 1, 7),
		shapes.Make(dtypes.Bool, 3, 5, 7), shapes.Make(dtypes.Int32, 4, 1),
	}
	builder := b.Builder("selftest")
	f := builder.Main()
	params := make([]compute.Value, len(flats))
	buffers := make([]compute.Buffer, len(flats))
	for i, flat := range flats {
		if params[i], err = f.Parameter(fmt.Sprint(i), sizes[i], nil); err != nil {
			return nil, err
		}
		if buffers[i], err = b.BufferFromFlatData(0, flat, sizes[i]); err != nil {
			return nil, err
		}
	}
	out, err := t.build(f, params[0], params[1], params[2], params[3])
	if err != nil {
		return nil, err
	}
	if err := f.Return([]compute.Value{out}, nil); err != nil {
		return nil, err
	}
	exec, err := builder.Compile()
	if err != nil {
		return nil, err
	}
	outs, err := exec.Execute(buffers, nil, 0)
	if err != nil {
		return nil, err
	}
	shape, err := outs[0].Shape()
	if err != nil {
		return nil, err
	}
	if shape.DType == dtypes.Bool {
		flat := make([]bool, shape.Size())
		if err := outs[0].ToFlatData(flat); err != nil {
			return nil, err
		}
		for _, v := range flat {
			if v {
				result = append(result, 1)
			} else {
				result = append(result, 0)
			}
		}
		return result, nil
	}
	flat := make([]float32, shape.Size())
	if err := outs[0].ToFlatData(flat); err != nil {
		return nil, err
	}
	for _, v := range flat {
		result = append(result, float64(v))
	}
	return result, nil
}
