//go:build cgo

package cpu_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"

	"github.com/esclab/esclab/lm/cpu"
)

// halfLevels are the kernels that multiply bfloat16 here.
func halfLevels(t *testing.T) (levels []string) {
	t.Helper()
	for _, level := range []string{"avx512", "amx", "neon"} {
		if _, err := cpu.Install(cpu.Options{Kernels: level}); err != nil {
			continue
		}
		install(t, cpu.Options{Kernels: level})
		if cpu.MultipliesHalf() {
			levels = append(levels, level)
		}
	}
	if len(levels) == 0 {
		t.Skip("this processor has no dot products of bfloat16")
	}
	return levels
}

// halfOperands are values of bfloat16, and the same as float32.
func halfOperands(seed uint64, n int) ([]bfloat16.BFloat16, []float32) {
	p := product{1, 1, n, 1, false, false}
	_, b := p.inputs(seed)
	half := bfloat16.FromFloat32s(b.flat.([]float32)...)
	wide := make([]float32, n)
	for i, v := range half {
		wide[i] = v.Float32()
	}
	return half, wide
}

// TestHalfProducts compares products of bfloat16 with float64: the operands are
// exact, so the error is that of the sums. Any number of threads gives the same
// bits, and so does each row alone.
func TestHalfProducts(t *testing.T) {
	sizes := []struct{ m, n, k int }{
		{1, 1, 1}, {1, 16, 32}, {3, 5, 7}, {16, 16, 32}, {33, 17, 100}, {128, 64, 96}, {257, 95, 1025}, {130, 49, 2111}, {300, 6000, 40}, {5, 33, 4000},
	}
	for _, level := range halfLevels(t) {
		for i, s := range sizes {
			for _, transposed := range []bool{false, true} {
				x, wideX := halfOperands(uint64(2*i), s.m*s.k)
				y, wideY := halfOperands(uint64(2*i+1), s.n*s.k)
				p := product{1, s.m, s.n, s.k, false, transposed}
				dims, axis := []int{s.k, s.n}, 0
				if transposed {
					dims, axis = []int{s.n, s.k}, 1
				}
				times := func() build {
					return func(f compute.Function, in []compute.Value) []compute.Value {
						return []compute.Value{must(f.DotGeneral(in[0], []int{1}, nil, in[1], []int{axis}, nil,
							compute.DotGeneralConfig{AccumulatorDType: dtypes.Float32, OutputDType: dtypes.Float32}))}
					}
				}
				var first []float32
				for _, threads := range []int{1, 2, 3} {
					install(t, cpu.Options{Kernels: level, Threads: threads})
					got := evaluate(t, times(), in(x, s.m, s.k), in(y, dims...))[0].([]float32)
					if first == nil {
						first = got
					}
					bits(t, "threads", first, got)
				}
				want, bound := p.reference(wideX, wideY)
				for j := range want {
					if e := math.Abs(float64(first[j]) - want[j]); !(e <= 1e-6*bound[j]) {
						t.Fatalf("%s, %v transposed=%v: value %d is %v, want %v", level, s, transposed, j, first[j], want[j])
					}
				}
				last := evaluate(t, times(), in(x[(s.m-1)*s.k:], 1, s.k), in(y, dims...))[0].([]float32)
				bits(t, "the last row alone", last, first[(s.m-1)*s.n:])
			}
		}
	}
}

// TestHalfSpecial: what is not finite in an operand reaches the results that depend on it, and no other.
func TestHalfSpecial(t *testing.T) {
	for _, level := range halfLevels(t) {
		install(t, cpu.Options{Kernels: level})
		for _, special := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			x, _ := halfOperands(1, 40*100)
			y, _ := halfOperands(2, 20*100)
			x[7*100+99] = bfloat16.FromFloat32(float32(special))
			got := evaluate(t, func(f compute.Function, in []compute.Value) []compute.Value {
				return []compute.Value{must(f.DotGeneral(in[0], []int{1}, nil, in[1], []int{1}, nil,
					compute.DotGeneralConfig{AccumulatorDType: dtypes.Float32, OutputDType: dtypes.Float32}))}
			}, in(x, 40, 100), in(y, 20, 100))[0].([]float32)
			for i, v := range got {
				if finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0); finite == (i/20 == 7) {
					t.Fatalf("%s, %v in row 7: value %d of row %d is %v", level, special, i%20, i/20, v)
				}
			}
		}
	}
}

// TestHalfConversions compares conversions at every level with the stock
// executors', which round halves to even.
func TestHalfConversions(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1.00390625, 1.01171875, 3.1415927, 1e-40, 3.4e38, -3.4e38,
		float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32}
	for i := range 100 {
		values = append(values, float32(i*i)*0.37-17)
	}
	for _, level := range []string{"portable", "avx2", "avx512", "neon"} {
		if _, err := cpu.Install(cpu.Options{Kernels: level}); err != nil {
			continue
		}
		install(t, cpu.Options{Kernels: level})
		got := evaluate(t, func(f compute.Function, in []compute.Value) []compute.Value {
			half := must(f.ConvertDType(in[0], dtypes.BFloat16))
			return []compute.Value{must(f.ConvertDType(half, dtypes.Float32))}
		}, in(append(values, float32(math.NaN())), len(values)+1))[0].([]float32)
		for i, v := range values {
			if want := bfloat16.FromFloat32(v).Float32(); math.Float32bits(got[i]) != math.Float32bits(want) {
				t.Errorf("%s: %v became %v, want %v", level, v, got[i], want)
			}
		}
		if !math.IsNaN(float64(got[len(values)])) {
			t.Errorf("%s: NaN became %v", level, got[len(values)])
		}
	}
}
