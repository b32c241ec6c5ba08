//go:build cgo

package cpu

import (
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// MultipliesHalf tells whether products of bfloat16 run on the processor's own
// dot products of bfloat16, with sums in float32. Without, they are the
// backend's, which are slow.
func MultipliesHalf() bool {
	return current.on.Load() && !current.skip[compute.OpTypeDotGeneral] && kernels.Half()
}

// halves returns a buffer's bfloat16 values, nil for another type.
func halves(b *buffer) []bfloat16.BFloat16 {
	v, _ := b.Flat.([]bfloat16.BFloat16)
	return v
}

// halfProduct describes the product of a DotGeneral node of bfloat16 with the
// result in float32, false for one that the kernels do not take.
func halfProduct(d *dotData) (product, bool) {
	if d.InputDType != dtypes.BFloat16 || d.OutputDType != dtypes.Float32 || d.BatchSize != 1 || !kernels.Half() {
		return product{}, false
	}
	return productIn(d)
}

// multiplyHalf computes the product of x [m, k], which is rounded to bfloat16 or
// wide, and y of bfloat16. Columns of y are packed once, and read by all rows of x.
func (s *state) multiplyHalf(p product, x []bfloat16.BFloat16, wide []float32, y []bfloat16.BFloat16, out []float32) {
	if p.k == 0 || len(out) == 0 {
		clear(out)
		return
	}
	from := func(v []bfloat16.BFloat16, at int) *uint16 { return (*uint16)(unsafe.Pointer(&v[at])) }
	tasks := s.tileTasks(p)
	width := min(p.n, max(32, packedMax/kernels.HalfPacked(16, p.k)*16/32*32)) // columns packed at once
	withTiles(kernels.HalfPacked(width, p.k), func(packed *uint16) {
		for first := 0; first < p.n; first += width {
			columns := min(width, p.n-first)
			b := from(y, first*p.bCol)
			s.ranges((columns+15)/16, 16*p.k, func(begin, end int) {
				kernels.HalfPack(b, p.bRow, p.bCol, begin*16, min(end*16, columns), p.k, packed)
			})
			s.blocks(p.m, columns, tasks, func(m0, m1, n0, n1 int) {
				if wide != nil {
					withTiles(kernels.TileWork(kernels.Rounded), func(work *uint16) {
						kernels.TileGemm(kernels.Rounded, p.a(wide, 0), packed, &out[first], p.add, p.n, m0, m1, n0, n1, p.k, work)
					})
					return
				}
				withTiles(kernels.HalfWork(), func(work *uint16) {
					kernels.HalfGemm(from(x, 0), p.k, packed, &out[first], p.add, p.n, m0, m1, n0, n1, p.k, work)
				})
			})
		}
	})
}

// convertHalf executes the conversions between float32 and bfloat16.
func (s *state) convertHalf(b *backend, n *node, x *buffer) (*buffer, error) {
	if from := halves(x); from != nil {
		return convertTo(s, b, n, len(from), func(to []float32, i int) {
			kernels.Widen((*uint16)(unsafe.Pointer(&from[i])), &to[0], len(to))
		})
	}
	from := floats(x)
	return convertTo(s, b, n, len(from), func(to []bfloat16.BFloat16, i int) {
		kernels.Narrow(&from[i], (*uint16)(unsafe.Pointer(&to[0])), len(to))
	})
}
