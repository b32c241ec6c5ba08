//go:build cgo

package cpu_test

import (
	"math"
	"testing"

	"github.com/esclab/esclab/lm/cpu"
)

// tiles installs the kernels with AMX's tiles, or skips.
func tiles(t *testing.T, threads int) {
	t.Helper()
	if status, err := cpu.Install(cpu.Options{}); err != nil || !status.Active() {
		t.Skipf("no kernels here: %+v %v", status, err)
	}
	if _, err := cpu.Install(cpu.Options{Kernels: "amx"}); err != nil {
		t.Skip(err)
	}
	install(t, cpu.Options{Kernels: "amx", Threads: threads})
}

// tiledProducts are large enough for tiles, with edges in every direction.
func tiledProducts() []product {
	var list []product
	for l := range 4 {
		ta, tb := l&1 != 0, l&2 != 0
		list = append(list,
			product{1, 96, 48, 64, ta, tb}, product{1, 257, 33, 47, ta, tb}, product{3, 130, 70, 129, ta, tb},
			product{1, 128, 32, 256, ta, tb}, product{1, 385, 17, 300, ta, tb}, product{1, 113, 95, 1029, ta, tb},
			product{7, 101, 64, 80, ta, tb})
	}
	return append(list, product{1, 100, 5000, 900, false, true}) // Columns packed in parts.
}

// TestTilesPrecision compares the tiles with float64: the error is that of
// float32, and no larger than the AVX-512 kernel's over all products.
func TestTilesPrecision(t *testing.T) {
	tiles(t, 2)
	var sums [2]float64
	for i, p := range tiledProducts() {
		a, b := p.inputs(uint64(i))
		want, bound := p.reference(a.flat.([]float32), b.flat.([]float32))
		for l, level := range []string{"amx", "avx512"} {
			install(t, cpu.Options{Kernels: level, Threads: 2})
			got := evaluate(t, p.build(), a, b)[0].([]float32)
			for j := range want {
				e := math.Abs(float64(got[j])-want[j]) / bound[j]
				if !(e <= 3e-7) {
					t.Fatalf("%s, %s: value %d is %v, want %v", level, p, j, got[j], want[j])
				}
				sums[l] += e * e
			}
		}
	}
	if sums[0] > sums[1] {
		t.Errorf("the tiles' squared error is %v, the vectors' %v", sums[0], sums[1])
	}
}

// TestTilesRange checks operands far from 1: parts below float32's range count
// as zero, which may cost what a subnormal would.
func TestTilesRange(t *testing.T) {
	tiles(t, 2)
	p := product{1, 130, 40, 100, false, true}
	for _, scale := range [][2]float32{{1e30, 1e-30}, {1e-30, 1e30}, {1e-20, 1e-10}, {1e18, 1e18}} {
		a, b := p.inputs(1)
		for i := range a.flat.([]float32) {
			a.flat.([]float32)[i] *= scale[0]
		}
		for i := range b.flat.([]float32) {
			b.flat.([]float32)[i] *= scale[1]
		}
		got := evaluate(t, p.build(), a, b)[0].([]float32)
		want, bound := p.reference(a.flat.([]float32), b.flat.([]float32))
		for j := range want {
			if e := math.Abs(float64(got[j]) - want[j]); !(e <= 1e-6*bound[j]+1e-36) {
				t.Fatalf("scales %v: value %d is %v, want %v", scale, j, got[j], want[j])
			}
		}
	}
}

// TestTilesSpecial puts values that are not finite, or nearly not, into either
// operand: the results are the ordinary kernel's for any number of threads.
func TestTilesSpecial(t *testing.T) {
	p := product{2, 300, 70, 300, false, true}
	for _, special := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat32} {
		for _, operand := range []int{0, 1} {
			var first []float32
			for _, threads := range []int{1, 2, 3} {
				tiles(t, threads)
				a, b := p.inputs(3)
				in := [][]float32{a.flat.([]float32), b.flat.([]float32)}
				in[operand][20*p.k+290] = float32(special)
				got := evaluate(t, p.build(), a, b)[0].([]float32)
				if first == nil {
					first = got
				}
				bits(t, "threads", first, got)
				want, _ := p.reference(in[0], in[1])
				for i := range want {
					g, w := float64(got[i]), want[i]
					if math.IsNaN(w) != math.IsNaN(g) || math.IsInf(w, 1) != math.IsInf(g, 1) || math.IsInf(w, -1) != math.IsInf(g, -1) {
						t.Fatalf("%v in operand %d: value %d is %v, want %v", special, operand, i, g, w)
					}
				}
			}
		}
	}
}
