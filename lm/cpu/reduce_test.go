//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"

	"github.com/esclab/esclab/lm/cpu"
)

func TestReduce(t *testing.T) {
	type f = compute.Function
	ops := map[string]func(f, compute.Value, ...int) (compute.Value, error){"Sum": f.ReduceSum, "Max": f.ReduceMax, "Min": f.ReduceMin}
	cases := []struct{ dims, axes []int }{
		{[]int{5}, []int{0}}, {[]int{70}, nil}, {[]int{6, 33}, []int{1}}, {[]int{6, 33}, []int{0}}, {[]int{6, 33}, nil},
		{[]int{3, 4, 65}, []int{0, 1}}, {[]int{3, 4, 65}, []int{1}}, {[]int{3, 4, 65}, []int{0, 2}}, {[]int{3, 4, 65}, []int{2, 0}},
		{[]int{2, 3, 4, 5, 6}, []int{0, 2, 4}}, {[]int{2, 3, 4, 5, 6}, []int{1, 3}}, {[]int{2, 1, 3}, []int{1}}, {[]int{1, 1}, []int{0}},
		{[]int{0, 3}, []int{0}}, {[]int{3, 0}, []int{0}}, {[]int{200000}, nil}, {[]int{2, 100001}, []int{1}}, {[]int{2049, 130}, []int{0}}, {[]int{300, 517}, []int{1}}, {[]int{70, 40, 9}, []int{1}},
	}
	levels(t, func(t *testing.T) {
		for name, op := range ops {
			for i, c := range cases {
				fn := func(f compute.Function, p []compute.Value) []compute.Value {
					return []compute.Value{must(op(f, p[0], c.axes...))}
				}
				n := count(c.dims)
				// The stock sum is sequential: its own error grows with n.
				tolerance := 1e-6 * math.Sqrt(float64(n+1)) * 4
				want, got := both(t, level(t), fn, in(uniform(uint64(i), n, 1), c.dims...))
				same(t, fmt.Sprint(name, c), want[0], got[0], tolerance)
				if name != "Sum" {
					want, got = both(t, level(t), fn, in(values(uint64(i), n), c.dims...))
					same(t, fmt.Sprint(name, c), want[0], got[0], 0)
				}
			}
		}
	})
}

// TestReduceAccuracy compares long sums with float64.
func TestReduceAccuracy(t *testing.T) {
	levels(t, func(t *testing.T) {
		x := uniform(1, 300000, 1)
		var want float64
		for _, v := range x {
			want += float64(v)
		}
		got := evaluate(t, func(f compute.Function, p []compute.Value) []compute.Value {
			return []compute.Value{must(f.ReduceSum(p[0]))}
		}, in(x, len(x)))[0].([]float32)[0]
		if math.Abs(float64(got)-want) > 1e-3 {
			t.Errorf("sum is %v, want %v", got, want)
		}
	})
}

func TestReduceThreads(t *testing.T) {
	levels(t, func(t *testing.T) {
		var first []any
		for _, threads := range []int{1, 2, 5} {
			install(t, cpu.Options{Kernels: level(t), Threads: threads})
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				return []compute.Value{must(f.ReduceSum(p[0])), must(f.ReduceSum(p[0], 0)), must(f.ReduceSum(p[0], 1)), must(f.FusedSoftmax(p[0], 1))}
			}
			got := evaluate(t, fn, in(uniform(1, 333*1000, 1), 333, 1000))
			if first == nil {
				first = got
			}
			for i := range got {
				bits(t, fmt.Sprint(threads, " threads"), first[i].([]float32), got[i].([]float32))
			}
			install(t, cpu.Options{Kernels: level(t)})
		}
	})
}

func TestSoftmax(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, c := range []struct {
			dims []int
			axis int
		}{{[]int{1}, 0}, {[]int{3, 5}, 1}, {[]int{3, 5}, 0}, {[]int{2, 7, 100}, 2}, {[]int{1000, 257}, 1}} {
			x := uniform(1, count(c.dims), 20)
			x[0] = -1e9
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				return []compute.Value{must(f.FusedSoftmax(p[0], c.axis)), must(f.FusedSoftmax(must(f.Neg(p[0])), c.axis))}
			}
			want, got := both(t, level(t), fn, in(x, c.dims...))
			same(t, fmt.Sprint("Softmax", c), want[0], got[0], 1e-5)
			same(t, fmt.Sprint("Softmax", c), want[1], got[1], 1e-5)
		}
	})
}
