//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
)

func level(t *testing.T) string {
	name := t.Name()
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	return name
}

func TestBinary(t *testing.T) {
	type f = compute.Function
	ops := map[string]func(f, compute.Value, compute.Value) (compute.Value, error){
		"Add": f.Add, "Sub": f.Sub, "Mul": f.Mul, "Div": f.Div, "Max": f.Max, "Min": f.Min,
		"Equal": f.Equal, "NotEqual": f.NotEqual, "GreaterOrEqual": f.GreaterOrEqual, "GreaterThan": f.GreaterThan,
		"LessOrEqual": f.LessOrEqual, "LessThan": f.LessThan,
	}
	cases := [][2][]int{
		{{1}, {1}}, {{37}, {37}}, {{4, 33}, {4, 33}}, {{4, 33}, {4, 1}}, {{4, 1}, {4, 33}}, {{4, 33}, {1, 33}}, {{1, 33}, {4, 33}},
		{{4, 1}, {1, 33}}, {{2, 3, 4, 5}, {1, 3, 1, 5}}, {{2, 1, 4, 1}, {1, 3, 1, 5}}, {{3, 5}, {}}, {{}, {3, 5}}, {{}, {}},
		{{2, 3, 1, 5, 1, 2}, {2, 1, 4, 5, 3, 1}}, {{0, 3}, {0, 3}}, {{70000}, {70000}}, {{300, 301}, {300, 1}}, {{7, 1, 129}, {7, 200, 129}},
	}
	levels(t, func(t *testing.T) {
		for name, op := range ops {
			for i, c := range cases {
				x, y := in(values(uint64(2*i), count(c[0])), c[0]...), in(values(uint64(2*i+1), count(c[1])), c[1]...)
				fn := func(f compute.Function, p []compute.Value) []compute.Value {
					// Twice on parameters, which are not owned, and once on
					// owned intermediates of either side.
					a := must(op(f, p[0], p[1]))
					b := must(op(f, must(f.Neg(p[0])), p[1]))
					c := must(op(f, p[0], must(f.Neg(p[1]))))
					return []compute.Value{a, b, c}
				}
				want, got := both(t, level(t), fn, x, y)
				for j := range want {
					same(t, fmt.Sprintf("%s%v %d", name, c, j), want[j], got[j], 0)
				}
			}
		}
	})
}

// TestCompareIntegers compares int32, also far beyond float32's precision.
func TestCompareIntegers(t *testing.T) {
	type f = compute.Function
	ops := []func(f, compute.Value, compute.Value) (compute.Value, error){f.Equal, f.NotEqual, f.GreaterOrEqual, f.GreaterThan, f.LessOrEqual, f.LessThan}
	levels(t, func(t *testing.T) {
		for _, c := range [][2][]int{{{37}, {37}}, {{4, 33}, {4, 1}}, {{1, 33}, {4, 1}}, {{3, 5}, {}}, {{}, {3, 5}}, {{}, {}}, {{0, 3}, {0, 3}}, {{300, 301}, {300, 301}}} {
			x, y := make([]int32, count(c[0])), make([]int32, count(c[1]))
			for i := range x {
				x[i] = 1<<30 + int32(splitMix(1, uint64(i))%3)
			}
			for i := range y {
				y[i] = 1<<30 + int32(splitMix(2, uint64(i))%3)
			}
			fn := func(f compute.Function, p []compute.Value) (outs []compute.Value) {
				for _, op := range ops {
					outs = append(outs, must(op(f, p[0], p[1])))
				}
				return outs
			}
			want, got := both(t, level(t), fn, in(x, c[0]...), in(y, c[1]...))
			for i := range want {
				same(t, fmt.Sprintf("operation %d on %v", i, c), want[i], got[i], 0)
			}
		}
	})
}

// TestUnary bounds the error in units in the last place against float64.
func TestUnary(t *testing.T) {
	type f = compute.Function
	ops := []struct {
		name string
		op   func(f, compute.Value) (compute.Value, error)
		fn   func(float64) float64
		ulps float64
	}{
		{"Neg", f.Neg, func(x float64) float64 { return -x }, 0},
		{"Abs", f.Abs, math.Abs, 0},
		{"Sqrt", f.Sqrt, math.Sqrt, 0.5},
		{"Rsqrt", f.Rsqrt, func(x float64) float64 { return 1 / math.Sqrt(x) }, 1.5},
		{"Exp", f.Exp, math.Exp, 2},
		{"Log", f.Log, math.Log, 2},
		{"Logistic", f.Logistic, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 3},
		{"Tanh", f.Tanh, math.Tanh, 4},
	}
	var xs []float32
	xs = append(xs, values(1, 1000)...)
	xs = append(xs, uniform(2, 3000, 100)...)
	xs = append(xs, uniform(3, 3000, 3)...)
	xs = append(xs, uniform(4, 1000, 1e-3)...)
	xs = append(xs, 88.722, 88.73, 89, 89.5, 200, -87.3, -87.4, -100, -103.9, -104, -105, -1e30, 1, 0.5, 2, 1e-38, 1e-45)
	levels(t, func(t *testing.T) {
		for _, o := range ops {
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				return []compute.Value{must(o.op(f, p[0])), must(o.op(f, must(f.Neg(p[0]))))}
			}
			got := evaluate(t, fn, in(xs, len(xs)))
			for j, sign := range []float64{1, -1} {
				for i, g := range got[j].([]float32) {
					exact := o.fn(sign * float64(xs[i]))
					want := float32(exact)
					if want == g || want != want && g != g {
						continue
					}
					// One unit is at least the smallest subnormal.
					unit := math.Max(math.Abs(float64(math.Nextafter32(want, 2*want)-want)), 1e-45)
					if e := math.Abs(float64(g)-exact) / unit; !(e <= o.ulps) {
						t.Fatalf("%s(%v) = %v, want %v: %.2f ulp", o.name, sign*float64(xs[i]), g, want, e)
					}
				}
			}
			for _, n := range []int{0, 1, 15, 16, 17, 100001} {
				x := in(uniform(9, n, 2), n)
				want, got := both(t, level(t), fn, x)
				same(t, fmt.Sprint(o.name, n), want[0], got[0], 1e-6)
				same(t, fmt.Sprint(o.name, n), want[1], got[1], 1e-6)
			}
		}
	})
}

func TestWhere(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 5, 64, 70001} {
			cond := make([]bool, n)
			for i := range cond {
				cond[i] = splitMix(1, uint64(i))%3 == 0
			}
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				c, x, y, s := p[0], p[1], p[2], p[3]
				outs := []compute.Value{
					must(f.Where(c, x, y)), must(f.Where(c, must(f.Neg(x)), y)), must(f.Where(c, x, must(f.Neg(y)))),
				}
				if n > 0 {
					outs = append(outs, must(f.Where(c, s, y)), must(f.Where(c, x, s)), must(f.Where(c, s, s)))
				}
				return outs
			}
			if n == 0 {
				continue // The stock executor reads the first value of nothing.
			}
			want, got := both(t, level(t), fn, in(cond, n), in(values(1, n), n), in(values(2, n), n), in([]float32{7}))
			for j := range want {
				same(t, fmt.Sprintf("Where %d %d", n, j), want[j], got[j], 0)
			}
		}
	})
}

func TestConvertDType(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 33, 70001} {
			b, i := make([]bool, n), make([]int32, n)
			for j := range b {
				r := splitMix(5, uint64(j))
				b[j], i[j] = r%2 == 0, int32(r)
			}
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				return []compute.Value{must(f.ConvertDType(p[0], dtypes.Float32)), must(f.ConvertDType(p[1], dtypes.Float32)), must(f.ConvertDType(p[1], dtypes.Int64))}
			}
			want, got := both(t, level(t), fn, in(b, n), in(i, n))
			for j := range want {
				same(t, fmt.Sprintf("ConvertDType %d %d", n, j), want[j], got[j], 0)
			}
		}
	})
}
