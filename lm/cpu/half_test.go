//go:build cgo

package cpu_test

import (
	"math"
	"slices"
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

// TestRoundedProducts: where a function takes a matrix of bfloat16, products of float32 round their operands to it, of
// any layout; few rows and few columns alike. Any number of threads gives the same bits.
func TestRoundedProducts(t *testing.T) {
	tiles(t, 1)
	list := append(tiledProducts(), product{1, 16, 300, 200, true, false}, product{3, 9, 130, 64, false, true}, product{1, 500, 16, 16, false, true})
	for i, p := range list {
		a, b := p.inputs(uint64(i))
		round := func(v any) []float32 {
			rounded := slices.Clone(v.([]float32))
			for i, x := range rounded {
				rounded[i] = bfloat16.FromFloat32(x).Float32()
			}
			return rounded
		}
		want, bound := p.reference(round(a.flat), round(b.flat))
		var first []float32
		for _, threads := range []int{1, 2, 3} {
			tiles(t, threads)
			got := evaluate(t, func(f compute.Function, v []compute.Value) []compute.Value {
				return append(p.build()(f, v), must(f.ConvertDType(v[2], dtypes.Float32)))
			}, a, b, in(make([]bfloat16.BFloat16, 4), 2, 2))[0].([]float32)
			if first == nil {
				first = got
			}
			bits(t, "threads", first, got)
		}
		for j := range want {
			if e := math.Abs(float64(first[j]) - want[j]); !(e <= 1e-6*bound[j]) {
				t.Fatalf("%s: value %d is %v, want %v", p, j, first[j], want[j])
			}
		}
	}
}

// TestConversionInProduct: a product of bfloat16 rounds an operand that nothing else takes itself, with the same bits.
func TestConversionInProduct(t *testing.T) {
	tiles(t, 2)
	const m, n, k = 300, 70, 1100
	x, y := in(uniform(1, m*k, 1), m, k), in(bfloat16.FromFloat32s(uniform(2, n*k, 1)...), n, k)
	times := func(others bool) build {
		return func(f compute.Function, v []compute.Value) []compute.Value {
			half := must(f.ConvertDType(v[0], dtypes.BFloat16))
			out := []compute.Value{must(f.DotGeneral(half, []int{1}, nil, v[1], []int{1}, nil,
				compute.DotGeneralConfig{AccumulatorDType: dtypes.Float32, OutputDType: dtypes.Float32}))}
			if others {
				out = append(out, must(f.ConvertDType(half, dtypes.Float32)))
			}
			return out
		}
	}
	stop := cpu.Count()
	alone := evaluate(t, times(false), x, y)[0].([]float32)
	if n := stop()["ConvertDType"]; n != 0 {
		t.Errorf("%d conversions of an operand that one product takes, want none", n)
	}
	bits(t, "a product that rounds its operand", alone, evaluate(t, times(true), x, y)[0].([]float32))
}

// TestAddedProducts: a product that a sum alone needs is added to the sum's other operand, which stays what it is where
// something else needs it; of float32 and of bfloat16.
func TestAddedProducts(t *testing.T) {
	tiles(t, 2)
	const m, n, k = 300, 70, 40
	x, y, z := in(uniform(1, m*k, 1), m, k), in(bfloat16.FromFloat32s(uniform(2, n*k, 1)...), n, k), in(uniform(3, m*n, 1), m, n)
	for _, half := range []bool{false, true} {
		for _, kept := range []bool{false, true} {
			times := func(f compute.Function, v []compute.Value) compute.Value {
				if half {
					return must(f.DotGeneral(must(f.ConvertDType(v[0], dtypes.BFloat16)), []int{1}, nil, v[1], []int{1}, nil,
						compute.DotGeneralConfig{AccumulatorDType: dtypes.Float32, OutputDType: dtypes.Float32}))
				}
				return must(f.DotGeneral(v[0], []int{1}, nil, must(f.ConvertDType(v[1], dtypes.Float32)), []int{1}, nil, compute.DotGeneralConfig{}))
			}
			apart := evaluate(t, func(f compute.Function, v []compute.Value) []compute.Value { return []compute.Value{times(f, v)} }, x, y)[0].([]float32)
			stop := cpu.Count()
			got := evaluate(t, func(f compute.Function, v []compute.Value) []compute.Value {
				other := must(f.Neg(v[2]))
				out := []compute.Value{must(f.Add(other, times(f, v)))}
				if kept {
					out = append(out, other)
				}
				return out
			}, x, y, z)
			if counts := stop(); counts["DotGeneral"] != 0 || counts["Add"] != 1 {
				t.Errorf("%d products and %d sums, want one sum that multiplies", counts["DotGeneral"], counts["Add"])
			}
			other := make([]float32, m*n)
			for i, v := range z.flat.([]float32) {
				other[i] = -v
				if sum, want := got[0].([]float32)[i], float64(apart[i])-float64(v); math.Abs(float64(sum)-want) > 1e-5 {
					t.Fatalf("half %v, kept %v: value %d is %v, want %v", half, kept, i, sum, want)
				}
			}
			if kept {
				bits(t, "the other operand", got[1].([]float32), other)
			}
		}
	}
}
