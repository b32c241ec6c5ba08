//go:build cgo

package cpu_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"

	"github.com/esclab/esclab/lm/cpu"
)

// rewritten compares a function with the stock executors and checks which
// operations were executed with the kernels; -1 stands for any number.
func rewritten(t *testing.T, name string, fn build, want map[string]int, inputs ...input) {
	t.Helper()
	stock, _ := both(t, level(t), fn, inputs...)
	stop := cpu.Count()
	got := evaluate(t, fn, inputs...)
	counts := stop()
	for i := range stock {
		same(t, fmt.Sprintf("%s output %d", name, i), stock[i], got[i], 2e-6)
	}
	for op, n := range want {
		if counts[op] != n {
			t.Errorf("%s: executed %d %s, want %d: %v", name, counts[op], op, n, counts)
		}
	}
}

func TestPeelTransposes(t *testing.T) {
	none := compute.DotGeneralConfig{}
	type f = compute.Function
	type v = compute.Value
	const b, s, h, d = 2, 5, 3, 4
	x := in(uniform(1, b*s*h*d, 1), b, s, h, d)
	y := in(uniform(2, b*s*h*d, 1), b, s, h, d)
	levels(t, func(t *testing.T) {
		// Attention scores straight from [batch, seq, head, dim]: two batch axes.
		rewritten(t, "attention", func(g f, p []v) []v {
			q, k := must(g.Transpose(p[0], 0, 2, 1, 3)), must(g.Transpose(p[1], 0, 2, 1, 3))
			return []v{must(g.DotGeneral(q, []int{3}, []int{0, 1}, k, []int{3}, []int{0, 1}, none))}
		}, map[string]int{"Transpose": 0, "DotGeneral": 1}, x, y)
		// Contraction over the leading axes, as in the gradient of a weight.
		rewritten(t, "gradient", func(g f, p []v) []v {
			return []v{must(g.DotGeneral(p[0], []int{0, 1}, nil, p[1], []int{0, 1}, nil, none))}
		}, map[string]int{"Transpose": 0, "DotGeneral": 1}, x, y)
		// One side only, and the transpose has another consumer.
		rewritten(t, "shared", func(g f, p []v) []v {
			q := must(g.Transpose(p[0], 0, 2, 3, 1))
			return []v{must(g.DotGeneral(q, []int{3}, []int{0}, p[1], []int{1}, []int{0}, none)), q}
		}, map[string]int{"Transpose": 1, "DotGeneral": 1}, x, y)
		// Any permutation, grouped in any way into batch, rows and columns.
		for seed := range uint64(80) {
			random := func(i, n int) int { return int(splitMix(seed, uint64(i)) % uint64(n)) }
			dims, perm := []int{2, 3, 4, 5, 1}, []int{0, 1, 2, 3, 4}
			for i := range perm {
				j := i + random(i, len(perm)-i)
				perm[i], perm[j] = perm[j], perm[i]
			}
			groups := [3]int{1, 1, 1}
			for i, axis := range perm {
				groups[min(2, i*random(9, 4)/3)] *= dims[axis]
			}
			other := in(uniform(seed, groups[0]*groups[2]*6, 1), groups[0], 6, groups[2])
			if random(10, 2) == 0 {
				other.dims = []int{groups[0], groups[2], 6}
			}
			x := in(uniform(seed+1, 120, 1), dims...)
			rewritten(t, fmt.Sprint("permutation ", perm, groups), func(g f, p []v) []v {
				q := must(g.Reshape(must(g.Transpose(p[0], perm...)), groups[:]...))
				axis := 2
				if other.dims[2] == 6 {
					axis = 1
				}
				l := must(g.DotGeneral(q, []int{2}, []int{0}, p[1], []int{axis}, []int{0}, none))
				r := must(g.DotGeneral(p[1], []int{axis}, []int{0}, q, []int{2}, []int{0}, none))
				return []v{l, r}
			}, map[string]int{"DotGeneral": 2}, x, other)
		}
		// Rows that have no one stride stay transposed.
		rewritten(t, "kept", func(g f, p []v) []v {
			q := must(g.Reshape(must(g.Transpose(p[0], 0, 2, 1, 3)), b*h, s*d))
			r := must(g.Reshape(must(g.Transpose(p[1], 1, 0, 3, 2)), b*s, h*d))
			return []v{
				must(g.DotGeneral(q, []int{0}, nil, q, []int{0}, nil, none)),
				must(g.DotGeneral(r, []int{1}, nil, r, []int{1}, nil, none)),
			}
		}, map[string]int{"DotGeneral": 2}, x, y)
	})
}

func TestFuse(t *testing.T) {
	type f = compute.Function
	type v = compute.Value
	x, y := in(values(1, 6*40), 6, 40), in(uniform(2, 6*40, 1), 6, 40)
	row, column := in(uniform(3, 40, 1), 40), in(uniform(4, 6, 1), 6, 1)
	cond := make([]bool, 6*40)
	for i := range cond {
		cond[i] = i%3 == 1
	}
	mask := in(cond, 6, 40)
	long := in(uniform(5, 100003, 1), 100003)
	shape := shapes.Make(dtypes.Float32, 6, 40)
	levels(t, func(t *testing.T) {
		rewritten(t, "chain", func(g f, p []v) []v {
			a := must(g.Mul(p[0], p[1]))
			return []v{must(g.Exp(must(g.Neg(must(g.Abs(must(g.Add(a, p[1]))))))))}
		}, map[string]int{"Exp": 1, "Neg": 0, "Abs": 0, "Add": 0, "Mul": 0}, x, y)
		rewritten(t, "several inputs and a shared intermediate", func(g f, p []v) []v {
			a := must(g.Add(p[0], p[1]))
			b := must(g.Mul(a, a))
			c := must(g.Where(p[2], b, must(g.Sub(a, p[3]))))
			return []v{must(g.Div(c, must(g.Max(b, must(g.BroadcastInDim(p[4], shape, []int{1}))))))}
		}, map[string]int{"Div": 1, "Add": 0, "Mul": 0, "Sub": 0, "Where": 0, "Max": 0, "BroadcastInDim": 0}, x, y, mask, column, row)
		rewritten(t, "a comparison", func(g f, p []v) []v {
			two := must(g.Constant([]float32{0.2}))
			keep := must(g.GreaterOrEqual(p[1], two))
			return []v{must(g.Where(keep, must(g.Mul(p[0], two)), must(g.Neg(p[0]))))}
		}, map[string]int{"Where": 1, "GreaterOrEqual": 0, "Mul": 0, "Neg": 0}, x, y)
		rewritten(t, "a comparison of integers", func(g f, p []v) []v {
			keep := must(g.GreaterOrEqual(p[1], p[1]))
			return []v{must(g.Where(keep, must(g.Neg(p[0])), p[0]))}
		}, map[string]int{"Where": 1, "GreaterOrEqual": 1, "Neg": 0}, x, in(make([]int32, 6*40), 6, 40))
		rewritten(t, "an intermediate that is an output", func(g f, p []v) []v {
			a := must(g.Add(p[0], p[1]))
			return []v{must(g.Neg(a)), a}
		}, map[string]int{"Neg": 1, "Add": 1}, x, y)
		rewritten(t, "an intermediate that a reduction needs", func(g f, p []v) []v {
			a := must(g.Add(p[0], p[1]))
			return []v{must(g.Mul(must(g.Neg(a)), p[1])), must(g.ReduceMax(a, 1))}
		}, map[string]int{"Neg": 0, "Add": 1, "Mul": 1}, x, y)
		rewritten(t, "scalars", func(g f, p []v) []v {
			two := must(g.Constant([]float32{2}))
			a := must(g.Mul(p[0], two))
			b := must(g.Where(p[1], a, must(g.BroadcastInDim(two, shape, nil))))
			return []v{must(g.Sub(b, must(g.Exp(two))))}
		}, map[string]int{"Sub": 1, "Mul": 0, "Where": 0, "BroadcastInDim": 0}, x, mask)
		rewritten(t, "long", func(g f, p []v) []v {
			a := must(g.Tanh(must(g.Logistic(p[0]))))
			return []v{must(g.Add(must(g.Sqrt(must(g.Abs(p[0])))), must(g.Mul(a, must(g.Neg(a))))))}
		}, map[string]int{"Add": 1, "Tanh": 0, "Mul": 0}, long)
		rewritten(t, "more than one program holds", func(g f, p []v) []v {
			a := p[0]
			for i := range 60 {
				a = must(g.Add(must(g.Mul(a, p[1])), must(g.Constant([]float32{float32(i)}))))
			}
			return []v{a}
		}, map[string]int{"Mul": 0}, y, y)
		// A balanced tree over many inputs, which needs several registers.
		var inputs []input
		for i := range 32 {
			inputs = append(inputs, in(uniform(uint64(i), 240, 1), 6, 40))
		}
		rewritten(t, "tree", func(g f, p []v) []v {
			for len(p) > 1 {
				var next []v
				for i := 0; i < len(p); i += 2 {
					next = append(next, must(g.Mul(must(g.Neg(p[i])), p[i+1])))
				}
				p = next
			}
			return p
		}, nil, inputs...)
	})
}

// TestRandomGraphs compares random graphs of exact operations, whose nodes have
// any number of consumers, with the stock executors.
func TestRandomGraphs(t *testing.T) {
	type f = compute.Function
	type v = compute.Value
	binary := []func(f, v, v) (v, error){f.Add, f.Sub, f.Mul, f.Max, f.Min}
	compare := []func(f, v, v) (v, error){f.LessThan, f.Equal, f.GreaterOrEqual}
	unary := []func(f, v) (v, error){f.Neg, f.Abs, f.Sqrt}
	full := shapes.Make(dtypes.Float32, 3, 5, 37)
	var inputs []input
	for i, dims := range [][]int{{3, 5, 37}, {3, 5, 37}, {3, 1, 37}, {1, 5, 1}, {1, 1, 1}} {
		inputs = append(inputs, in(uniform(uint64(i), count(dims), 1), dims...))
	}
	inputs = append(inputs, in(uniform(9, 37, 1), 37))
	levels(t, func(t *testing.T) {
		for seed := range uint64(60) {
			random := func(i, n int) int { return int(splitMix(seed, uint64(i)) % uint64(n)) }
			fn := func(g f, p []v) (outs []v) {
				row := p[5]
				nodes := append([]v(nil), p[:5]...)
				pick := func(i int) v { return nodes[len(nodes)-1-random(i, min(len(nodes), 7))] }
				wide := func(x v) v { // Of the full shape.
					return must(g.Add(x, must(g.BroadcastInDim(row, full, []int{2}))))
				}
				for i := range 25 {
					k := 10 * i
					var n v
					switch random(k, 8) {
					case 0, 1, 2:
						n = must(binary[random(k+1, len(binary))](g, pick(k+2), pick(k+3)))
					case 3, 4:
						n = must(unary[random(k+1, len(unary))](g, pick(k+2)))
					case 5:
						c := must(compare[random(k+1, len(compare))](g, wide(pick(k+2)), wide(pick(k+3))))
						n = must(g.Where(c, wide(pick(k+4)), wide(pick(k+5))))
					case 6:
						n = wide(pick(k + 2))
					case 7:
						sum := must(g.ReduceMax(wide(pick(k+2)), 1))
						n = must(g.Reshape(sum, 3, 1, 37))
					}
					nodes = append(nodes, n)
					if random(k+6, 6) == 0 {
						outs = append(outs, n)
					}
				}
				return append(outs, nodes[len(nodes)-1])
			}
			rewritten(t, fmt.Sprint("graph ", seed), fn, nil, inputs...)
		}
	})
}

// TestClosures runs branches that capture intermediates of the main function,
// and that hold chains of their own.
func TestClosures(t *testing.T) {
	type f = compute.Function
	type v = compute.Value
	levels(t, func(t *testing.T) {
		for _, yes := range []bool{true, false} {
			rewritten(t, fmt.Sprint("branch ", yes), func(g f, p []v) []v {
				a := must(g.Mul(must(g.Neg(p[0])), p[0]))
				branch := func(op func(f, v) (v, error)) f {
					c, err := g.Closure()
					if err != nil {
						t.Fatal(err)
					}
					chain := must(op(c, must(c.Add(must(c.Abs(a)), a))))
					product := must(c.DotGeneral(must(c.Transpose(chain, 1, 0)), []int{0}, nil, p[0], []int{1}, nil, compute.DotGeneralConfig{}))
					if err := c.Return([]v{must(c.Neg(must(c.Abs(product))))}, nil); err != nil {
						t.Fatal(err)
					}
					return c
				}
				outs, err := g.If(p[1], branch(f.Exp), branch(f.Tanh))
				if err != nil {
					t.Fatal(err)
				}
				return []v{must(g.Neg(must(g.Abs(outs[0])))), must(g.Sub(a, must(g.Abs(a))))}
			}, nil, in(uniform(1, 40, 1), 5, 8), in([]bool{yes}))
		}
	})
}

// TestShareSoftmax checks that a softmax computed twice, fused for its value
// and decomposed for its gradient, is computed once.
func TestShareSoftmax(t *testing.T) {
	type f = compute.Function
	type v = compute.Value
	levels(t, func(t *testing.T) {
		rewritten(t, "softmax", func(g f, p []v) []v {
			shape := shapes.Make(dtypes.Float32, 4, 33)
			keep := func(r v) v {
				return must(g.BroadcastInDim(must(g.Reshape(r, 4, 1)), shape, []int{0, 1}))
			}
			value := must(g.FusedSoftmax(p[0], 1))
			e := must(g.Exp(must(g.Sub(p[0], keep(must(g.ReduceMax(p[0], 1)))))))
			return []v{must(g.Add(must(g.Div(e, keep(must(g.ReduceSum(e, 1))))), value))}
		}, map[string]int{"FusedSoftmax": 0, "ReduceMax": 1}, in(uniform(1, 4*33, 5), 4, 33))
	})
}

func TestInstall(t *testing.T) {
	t.Cleanup(func() { cpu.Install(cpu.Options{}) })
	if _, err := cpu.Install(cpu.Options{Kernels: "fast"}); err == nil || !strings.Contains(err.Error(), cpu.EnvKernels) {
		t.Errorf("unknown kernels give error %v, want one that names %s", err, cpu.EnvKernels)
	}
	status, err := cpu.Install(cpu.Options{Kernels: "off"})
	if err != nil || status.Active() || status.Kernels != "off" || status.Reason == "" {
		t.Errorf("off gives %+v, %v", status, err)
	}
	t.Setenv(cpu.EnvKernels, "off")
	if status, err := cpu.Install(cpu.Options{}); err != nil || status.Active() {
		t.Errorf("%s=off gives %+v, error %v, want no operations", cpu.EnvKernels, status, err)
	}
	status, err = cpu.Install(cpu.Options{Kernels: "portable"})
	if err != nil || status.Kernels != "portable" || !status.Active() || status.Reason != "" {
		t.Errorf("portable gives %+v, %v: an operation fails its self-test", status, err)
	}
}

// TestGraphsOutliveSwitch runs a graph compiled with kernels after they were
// switched off, and the other way round.
func TestGraphsOutliveSwitch(t *testing.T) {
	if status := install(t, cpu.Options{}); !status.Active() {
		t.Skipf("no kernels here: %+v", status)
	}
	for _, first := range []string{"", "off"} {
		second := map[string]string{"": "off", "off": "portable"}[first]
		install(t, cpu.Options{Kernels: first})
		b, m := newBackend(t), tinyLlama(0)
		m.init()
		exec := m.step(b)
		losses := m.run(t, b, exec, 0, 1)
		install(t, cpu.Options{Kernels: second})
		m.init()
		same(t, first+" then "+second, losses, m.run(t, b, exec, 0, 1), 1e-5)
	}
}

func TestSameLayout(t *testing.T) {
	type inner struct{ A, B int32 }
	type real struct {
		X *inner
		Y []inner
	}
	type innerLong struct{ A, B int64 }
	type innerNamed struct{ A, C int32 }
	for _, c := range []struct {
		mirror reflect.Type
		ok     bool
	}{
		{reflect.TypeFor[struct {
			X *inner
			Y []inner
		}](), true},
		{reflect.TypeFor[struct {
			X *innerLong
			Y []inner
		}](), false},
		{reflect.TypeFor[struct {
			X *inner
			Y []innerNamed
		}](), false},
		{reflect.TypeFor[struct {
			Y []inner
			X *inner
		}](), false},
		{reflect.TypeFor[struct{ X *inner }](), false},
	} {
		if err := cpu.SameLayout(c.mirror, reflect.TypeFor[real](), 0); (err == nil) != c.ok {
			t.Errorf("%s: error %v, want the same layout: %v", c.mirror, err, c.ok)
		}
	}
}

// TestPadCutOff: a pad and the slice that undoes it move nothing; any other slice does.
func TestPadCutOff(t *testing.T) {
	type f = compute.Function
	type v = compute.Value
	x := in(uniform(1, 12, 1), 3, 4)
	padded := func(g f, x v) v {
		return must(g.Pad(x, must(g.Constant([]float32{0})), compute.PadAxis{}, compute.PadAxis{Start: 1, End: 2}))
	}
	levels(t, func(t *testing.T) {
		rewritten(t, "cut off", func(g f, p []v) []v {
			return []v{must(g.Neg(must(g.Slice(padded(g, p[0]), []int{0, 1}, []int{3, 5}, []int{1, 1}))))}
		}, map[string]int{"Pad": 0, "Slice": 0}, x)
		rewritten(t, "cut elsewhere", func(g f, p []v) []v {
			return []v{must(g.Neg(must(g.Slice(padded(g, p[0]), []int{0, 2}, []int{3, 6}, []int{1, 1}))))}
		}, map[string]int{"Pad": 1, "Slice": 1}, x)
	})
}
