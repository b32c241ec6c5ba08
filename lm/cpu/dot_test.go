//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"

	"github.com/esclab/esclab/lm/cpu"
)

// product is a test case: A [batch, m, k] and B [batch, k, n], each possibly
// stored with its two last axes exchanged.
type product struct {
	batch, m, n, k int
	ta, tb         bool
}

func (p product) String() string {
	return fmt.Sprintf("%dx[%d,%d]x[%d,%d],%t,%t", p.batch, p.m, p.k, p.k, p.n, p.ta, p.tb)
}

func (p product) inputs(seed uint64) (a, b input) {
	a = in(uniform(seed, p.batch*p.m*p.k, 1), p.batch, p.m, p.k)
	if p.ta {
		a.dims = []int{p.batch, p.k, p.m}
	}
	b = in(uniform(seed+1, p.batch*p.n*p.k, 1), p.batch, p.k, p.n)
	if p.tb {
		b.dims = []int{p.batch, p.n, p.k}
	}
	return a, b
}

func (p product) build() build {
	ca, cb := 2, 1
	if p.ta {
		ca = 1
	}
	if p.tb {
		cb = 2
	}
	return func(f compute.Function, v []compute.Value) []compute.Value {
		return []compute.Value{must(f.DotGeneral(v[0], []int{ca}, []int{0}, v[1], []int{cb}, []int{0}, compute.DotGeneralConfig{}))}
	}
}

// reference computes the product in float64, with the sum of the magnitudes
// that bounds the rounding error.
func (p product) reference(a, b []float32) (c, bound []float64) {
	c, bound = make([]float64, p.batch*p.m*p.n), make([]float64, p.batch*p.m*p.n)
	for q := range p.batch {
		for i := range p.m {
			for j := range p.n {
				var sum, size float64
				for k := range p.k {
					x := a[q*p.m*p.k+i*p.k+k]
					if p.ta {
						x = a[q*p.m*p.k+k*p.m+i]
					}
					y := b[q*p.n*p.k+k*p.n+j]
					if p.tb {
						y = b[q*p.n*p.k+j*p.k+k]
					}
					sum += float64(x) * float64(y)
					size += math.Abs(float64(x) * float64(y))
				}
				c[(q*p.m+i)*p.n+j], bound[(q*p.m+i)*p.n+j] = sum, size
			}
		}
	}
	return c, bound
}

func TestDotGeneral(t *testing.T) {
	var cases []product
	for _, m := range []int{1, 2, 3, 7, 12, 13, 24, 25, 61} {
		for _, n := range []int{1, 5, 16, 17, 31, 32, 33, 70} {
			for _, k := range []int{1, 3, 16, 19} {
				for l := range 4 {
					cases = append(cases, product{1 + (m+n)%3, m, n, k, l&1 != 0, l&2 != 0})
				}
			}
		}
	}
	for l := range 4 {
		ta, tb := l&1 != 0, l&2 != 0
		cases = append(cases,
			product{1, 150, 130, 300, ta, tb}, // Several blocks of k and m.
			product{1, 30, 1100, 40, ta, tb},  // Several blocks of n.
			product{1, 16, 64, 2048, ta, tb},  // A LoRA gradient.
			product{5, 64, 96, 64, ta, tb},    // Attention.
			product{0, 2, 3, 4, ta, tb}, product{2, 0, 3, 4, ta, tb}, product{2, 3, 0, 4, ta, tb}, product{2, 3, 4, 0, ta, tb})
	}
	levels(t, func(t *testing.T) {
		for i, p := range cases {
			a, b := p.inputs(uint64(i))
			got := evaluate(t, p.build(), a, b)[0].([]float32)
			want, bound := p.reference(a.flat.([]float32), b.flat.([]float32))
			if len(got) != len(want) {
				t.Fatalf("%s: %d values, want %d", p, len(got), len(want))
			}
			for j := range want {
				if e := math.Abs(float64(got[j]) - want[j]); !(e <= 1e-6*bound[j]+1e-30) {
					t.Fatalf("%s: value %d is %v, want %v", p, j, got[j], want[j])
				}
			}
		}
	})
}

// TestDotGeneralThreads demands the same bits from any number of threads.
func TestDotGeneralThreads(t *testing.T) {
	levels(t, func(t *testing.T) {
		level := cpu.Options{Kernels: t.Name()[len("TestDotGeneralThreads/"):]}
		for i, p := range []product{{1, 513, 260, 300, false, true}, {1, 40, 2100, 300, false, false}, {9, 130, 70, 128, false, true}, {1, 3, 9000, 128, false, true}, {1, 260, 257, 1000, true, false}} {
			a, b := p.inputs(uint64(i))
			var first []float32
			for _, level.Threads = range []int{1, 2, 3, 7} {
				install(t, level)
				got := evaluate(t, p.build(), a, b)[0].([]float32)
				if first == nil {
					first = got
				}
				bits(t, fmt.Sprintf("%s on %d threads", p, level.Threads), first, got)
			}
		}
	})
}

// TestDotGeneralSpecial checks that NaN and infinities come through, and that
// padding does not touch them.
func TestDotGeneralSpecial(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, p := range []product{{1, 30, 18, 5, false, true}, {1, 3, 18, 5, false, true}, {1, 30, 18, 5, false, false}} {
			a, b := p.inputs(3)
			a.flat.([]float32)[7] = float32(math.NaN())
			b.flat.([]float32)[0] = float32(math.Inf(1))
			got := evaluate(t, p.build(), a, b)[0].([]float32)
			want, _ := p.reference(a.flat.([]float32), b.flat.([]float32))
			for i := range want {
				g := float64(got[i])
				if math.IsNaN(want[i]) != math.IsNaN(g) || math.IsInf(want[i], 0) != math.IsInf(g, 0) {
					t.Fatalf("%s: value %d is %v, want %v", p, i, g, want[i])
				}
			}
		}
	})
}
