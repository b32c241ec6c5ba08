//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"

	"github.com/esclab/esclab/lm/cpu"
)

// input is one parameter of an evaluated function.
type input struct {
	flat any
	dims []int
}

func in(flat any, dims ...int) input { return input{flat, dims} }

// build adds operations on the parameters and returns the outputs.
type build func(f compute.Function, p []compute.Value) []compute.Value

// must unwraps the result of an operation; evaluate turns the panic into a
// failure of the test.
func must(v compute.Value, err error) compute.Value {
	if err != nil {
		panic(err)
	}
	return v
}

// evaluate runs the function once and returns the flat outputs.
func evaluate(t *testing.T, fn build, inputs ...input) []any {
	t.Helper()
	b, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Finalize()
	bl := b.Builder("test")
	f := bl.Main()
	var params []compute.Value
	var buffers []compute.Buffer
	for i, x := range inputs {
		var dt dtypes.DType
		switch x.flat.(type) {
		case []float32:
			dt = dtypes.Float32
		case []bfloat16.BFloat16:
			dt = dtypes.BFloat16
		case []int32:
			dt = dtypes.Int32
		case []int64:
			dt = dtypes.Int64
		case []bool:
			dt = dtypes.Bool
		}
		shape := shapes.Make(dt, x.dims...)
		params = append(params, must(f.Parameter(fmt.Sprint(i), shape, nil)))
		buffer, err := b.BufferFromFlatData(0, x.flat, shape)
		if err != nil {
			t.Fatal(err)
		}
		buffers = append(buffers, buffer)
	}
	if err := f.Return(fn(f, params), nil); err != nil {
		t.Fatal(err)
	}
	exec, err := bl.Compile()
	if err != nil {
		t.Fatal(err)
	}
	outs, err := exec.Execute(buffers, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var results []any
	for _, o := range outs {
		shape, err := o.Shape()
		if err != nil {
			t.Fatal(err)
		}
		var flat any
		switch shape.DType {
		case dtypes.Float32:
			flat = make([]float32, shape.Size())
		case dtypes.Int32:
			flat = make([]int32, shape.Size())
		case dtypes.Int64:
			flat = make([]int64, shape.Size())
		case dtypes.Bool:
			flat = make([]bool, shape.Size())
		default:
			t.Fatalf("output of type %s", shape.DType)
		}
		if err := o.ToFlatData(flat); err != nil {
			t.Fatal(err)
		}
		results = append(results, flat)
	}
	return results
}

// install switches the kernels for the rest of the test.
func install(t testing.TB, o cpu.Options) cpu.Status {
	t.Helper()
	status, err := cpu.Install(o)
	if err != nil {
		t.Fatal(err)
	}
	if status.Reason != "" && o.Kernels != "off" {
		t.Logf("%s: %s", o.Kernels, status.Reason)
	}
	t.Cleanup(func() { cpu.Install(cpu.Options{}) })
	return status
}

// levels runs the test once for each kind of kernels that this machine has; it
// skips where ESCLAB_CPU_KERNELS or the build leaves none.
func levels(t *testing.T, test func(t *testing.T)) {
	if status, err := cpu.Install(cpu.Options{}); err != nil || !status.Active() {
		t.Skipf("no kernels here: %+v %v", status, err)
	}
	for _, level := range []string{"portable", "avx2", "avx512", "amx", "neon"} {
		if _, err := cpu.Install(cpu.Options{Kernels: level}); err != nil {
			t.Log(err)
			continue
		}
		t.Run(level, func(t *testing.T) {
			install(t, cpu.Options{Kernels: level})
			test(t)
		})
	}
}

// both evaluates the function with the stock executors and with the installed
// kernels.
func both(t *testing.T, level string, fn build, inputs ...input) (stock, ours []any) {
	t.Helper()
	if _, err := cpu.Install(cpu.Options{Kernels: "off"}); err != nil {
		t.Fatal(err)
	}
	stock = evaluate(t, fn, inputs...)
	if _, err := cpu.Install(cpu.Options{Kernels: level}); err != nil {
		t.Fatal(err)
	}
	return stock, evaluate(t, fn, inputs...)
}

// same compares two flat slices; floats may differ by the relative tolerance
// (0: same value, zeros of either sign, any NaN).
func same(t *testing.T, name string, want, got any, tolerance float64) {
	t.Helper()
	w, okW := want.([]float32)
	g, okG := got.([]float32)
	if !okW || !okG {
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		return
	}
	if len(w) != len(g) {
		t.Errorf("%s: %d values, want %d", name, len(g), len(w))
		return
	}
	for i := range w {
		a, b := float64(w[i]), float64(g[i])
		if a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= tolerance*math.Max(1, math.Abs(a)) {
			continue
		}
		t.Errorf("%s: value %d of %d is %v, want %v", name, i, len(w), b, a)
		return
	}
}

// bits compares two results bit for bit.
func bits(t *testing.T, name string, want, got []float32) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			t.Fatalf("%s: value %d is %v, want the same bits as %v", name, i, got[i], want[i])
		}
	}
}

// values returns n values among which NaN, infinities, zeros and subnormals.
func values(seed uint64, n int) []float32 {
	v := uniform(seed, n, 4)
	special := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), 1e-42, -1e38, 3e38}
	for i := 3; i < n; i += 7 {
		v[i] = special[splitMix(seed+99, uint64(i))%uint64(len(special))]
	}
	return v
}

func count(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func newBackend(t *testing.T) compute.Backend {
	t.Helper()
	b, err := gobackend.New(sequential)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}
