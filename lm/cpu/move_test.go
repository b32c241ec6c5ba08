//go:build cgo

package cpu_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// exact runs the function on float32, int32, int64 and bool data, and demands
// what the stock executors give.
func exact(t *testing.T, name string, dims []int, fn func(f compute.Function, x compute.Value) compute.Value) {
	t.Helper()
	n := count(dims)
	i32, i64, bs := make([]int32, n), make([]int64, n), make([]bool, n)
	for i := range n {
		r := splitMix(8, uint64(i))
		i32[i], i64[i], bs[i] = int32(r), int64(r), r%2 == 0
	}
	want, got := both(t, level(t), func(f compute.Function, p []compute.Value) []compute.Value {
		outs := []compute.Value{fn(f, must(f.Neg(p[0])))} // An owned input.
		for _, x := range p {
			outs = append(outs, fn(f, x))
		}
		return outs
	}, in(values(1, n), dims...), in(i32, dims...), in(i64, dims...), in(bs, dims...))
	for i := range want {
		same(t, fmt.Sprintf("%s %v %d", name, dims, i), want[i], got[i], 0)
	}
}

func TestTranspose(t *testing.T) {
	cases := []struct{ dims, perm []int }{
		{[]int{5}, []int{0}}, {[]int{3, 4}, []int{0, 1}}, {[]int{3, 4}, []int{1, 0}}, {[]int{33, 47}, []int{1, 0}}, {[]int{64, 32}, []int{1, 0}},
		{[]int{2, 3, 4, 5}, []int{0, 2, 1, 3}}, {[]int{2, 3, 4, 5}, []int{3, 2, 1, 0}}, {[]int{2, 18, 20}, []int{0, 2, 1}}, {[]int{2, 18, 20}, []int{2, 0, 1}}, {[]int{2, 18, 20}, []int{1, 2, 0}},
		{[]int{1, 5, 1, 6}, []int{3, 2, 1, 0}}, {[]int{1, 5, 1, 6}, []int{1, 0, 2, 3}}, {[]int{0, 3}, []int{1, 0}}, {[]int{500, 301}, []int{1, 0}}, {[]int{20, 70, 64}, []int{0, 2, 1}},
	}
	levels(t, func(t *testing.T) {
		for _, c := range cases {
			exact(t, fmt.Sprint("Transpose", c.perm), c.dims, func(f compute.Function, x compute.Value) compute.Value {
				return must(f.Transpose(x, c.perm...))
			})
		}
	})
}

func TestBroadcastInDim(t *testing.T) {
	cases := []struct{ dims, out, axes []int }{
		{nil, []int{3, 4}, nil}, {[]int{1}, []int{3, 4}, []int{1}}, {[]int{4}, []int{3, 4}, []int{1}}, {[]int{3}, []int{3, 4}, []int{0}},
		{[]int{3, 1}, []int{3, 4}, []int{0, 1}}, {[]int{2, 5}, []int{2, 3, 5, 4}, []int{0, 2}}, {[]int{1, 5}, []int{2, 3, 1, 5}, []int{0, 3}}, {[]int{3, 4}, []int{3, 4}, []int{0, 1}}, {nil, []int{70001}, nil}, {[]int{300}, []int{300, 301}, []int{0}},
	}
	levels(t, func(t *testing.T) {
		for _, c := range cases {
			exact(t, fmt.Sprint("BroadcastInDim", c.out), c.dims, func(f compute.Function, x compute.Value) compute.Value {
				shape, err := f.Shape(x)
				if err != nil {
					t.Fatal(err)
				}
				return must(f.BroadcastInDim(x, shapes.Make(shape.DType, c.out...), c.axes))
			})
		}
	})
}

func TestSlice(t *testing.T) {
	cases := []struct{ dims, starts, limits, strides []int }{
		{[]int{7}, []int{2}, []int{6}, nil}, {[]int{7}, []int{1}, []int{7}, []int{3}}, {[]int{4, 9}, []int{1, 2}, []int{3, 9}, []int{1, 2}},
		{[]int{4, 9}, []int{1, 2}, []int{3, 2}, nil}, {[]int{2, 3, 8, 10}, []int{0, 1, 0, 5}, []int{2, 3, 8, 10}, nil}, {[]int{9, 8}, []int{0, 3}, []int{9, 4}, []int{2, 1}}, {[]int{400, 300}, []int{3, 0}, []int{400, 299}, nil},
	}
	levels(t, func(t *testing.T) {
		for _, c := range cases {
			exact(t, fmt.Sprint("Slice", c.starts, c.limits, c.strides), c.dims, func(f compute.Function, x compute.Value) compute.Value {
				return must(f.Slice(x, c.starts, c.limits, c.strides))
			})
		}
	})
}

func TestConcatenateAndPad(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, dims := range [][]int{{5}, {3, 4}, {2, 3, 5}, {2, 3, 4, 16}, {3, 0, 2}, {130, 300}, {2 << 13}} {
			for axis := range dims {
				exact(t, fmt.Sprint("Concatenate", axis), dims, func(f compute.Function, x compute.Value) compute.Value {
					return must(f.Concatenate(axis, x, x, x))
				})
			}
			fill := func(f compute.Function, x compute.Value) compute.Value {
				shape, err := f.Shape(x)
				if err != nil {
					t.Fatal(err)
				}
				switch shape.DType {
				case dtypes.Float32:
					return must(f.Constant([]float32{3}))
				case dtypes.Int32:
					return must(f.Constant([]int32{0}))
				case dtypes.Int64:
					return must(f.Constant([]int64{4}))
				}
				return must(f.Constant([]bool{true}))
			}
			for _, p := range []compute.PadAxis{{}, {Start: 2}, {End: 3}, {Start: 1, End: 1}, {Start: 1, Interior: 2}} {
				config := make([]compute.PadAxis, len(dims))
				config[len(dims)-1] = p
				config[0] = p
				exact(t, fmt.Sprint("Pad", p), dims, func(f compute.Function, x compute.Value) compute.Value {
					return must(f.Pad(x, fill(f, x), config...))
				})
			}
		}
	})
}

func TestGatherAndScatterSum(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, width := range []int{1, 5, 64, 130} {
			const rows = 40
			table := values(1, rows*width)
			indices := make([]int32, 300)
			for i := range indices {
				indices[i] = int32(splitMix(2, uint64(i)) % rows)
			}
			wild := append([]int32{-3, 1000, rows}, indices...) // Gather clamps them.
			fn := func(f compute.Function, p []compute.Value) []compute.Value {
				gather := func(i compute.Value) compute.Value {
					return must(f.Gather(p[0], i, 1, []int{1}, []int{0}, []int{0}, []int{1, width}, false))
				}
				i64 := must(f.ConvertDType(p[1], dtypes.Int64))
				g := gather(p[1])
				scatter := func(x, i compute.Value) compute.Value {
					return must(f.ScatterSum(x, i, g, 1, []int{1}, []int{0}, []int{0}, false, false))
				}
				return []compute.Value{g, gather(i64), gather(p[2]), scatter(p[0], p[1]), scatter(must(f.Neg(p[0])), i64)}
			}
			want, got := both(t, level(t), fn, in(table, rows, width), in(indices, len(indices), 1), in(wild, len(wild), 1))
			for i := range want {
				same(t, fmt.Sprintf("width %d output %d", width, i), want[i], got[i], 0)
			}
		}
		// Two indices pick single values, as in the cross entropy.
		pairs := []int32{0, 0, 2, 3, 1, 4, 2, 3}
		fn := func(f compute.Function, p []compute.Value) []compute.Value {
			g := must(f.Gather(p[0], p[1], 1, []int{}, []int{0, 1}, []int{0, 1}, []int{1, 1}, false))
			return []compute.Value{g, must(f.ScatterSum(p[0], p[1], g, 1, []int{}, []int{0, 1}, []int{0, 1}, false, false))}
		}
		want, got := both(t, level(t), fn, in(uniform(1, 15, 1), 3, 5), in(pairs, 4, 2))
		for i := range want {
			same(t, fmt.Sprint("pairs ", i), want[i], got[i], 0)
		}
	})
}
