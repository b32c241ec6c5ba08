//go:build cgo

package cpu

import (
	"sync/atomic"
	"unsafe"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// tiled tells whether the product is large enough for tiles, for which both
// operands are packed first. It depends on the shape and layout alone.
func (p *product) tiled() bool {
	if p.rounded {
		return p.k >= 8 && p.m >= 96 && p.n >= 8
	}
	if p.k < 16 || p.m*p.n*p.k < 1<<18 {
		return false
	}
	// A narrow product spends its time on reading its wide operand, which the
	// ordinary kernel does better where it is read across its rows.
	return p.m >= 96 && (p.n >= 32 || p.n >= 16 && p.aCol == 1)
}

// multiplySwapped computes a rounded product of few rows as one of few columns,
// so that the wide operand is read once, and only the narrow one packed before.
func (s *state) multiplySwapped(p product, x, y, out []float32) {
	withScratch(4*len(out), func(memory unsafe.Pointer) {
		turned := unsafe.Slice((*float32)(memory), len(out)) // [batch, n, m]
		s.multiplyTiles(p.swapped(), y, x, turned)
		s.copyStrided(memory, unsafe.Pointer(unsafe.SliceData(out)), 0, 0, 4, []int{p.batch, p.m, p.n}, []int{p.m * p.n, 1, p.m}, []int{p.m * p.n, p.n, 1})
	})
}

// packedMax bounds the packed columns of B that exist at once, in uint16 (16 MiB).
const packedMax = 8 << 20

// multiplyTiles computes the product on AMX's tiles. Blocks of rows with values
// that are not finite, and products with such a B, go to the ordinary kernel.
func (s *state) multiplyTiles(p product, x, y, out []float32) {
	tasks := s.tileTasks(p)
	width := min(p.n, max(32, packedMax/kernels.TilePacked(p.planes(), 16, p.k)*16/32*32)) // Columns packed at once.
	if p.batch >= tasks {
		s.parallel(tasks, func(t int) {
			withTiles(kernels.TilePacked(p.planes(), width, p.k), func(packed *uint16) {
				withTiles(kernels.TileWork(p.planes()), func(work *uint16) {
					for i := t * p.batch / tasks; i < (t+1)*p.batch/tasks; i++ {
						for from := 0; from < p.n; from += width {
							columns := min(width, p.n-from)
							b := columnsFrom(p.b(y, i), from)
							finite := kernels.TilePack(p.planes(), b, 0, columns, p.k, packed)
							c := &out[i*p.m*p.n+from]
							tileRows(p, p.a(x, i), b, c, finite, packed, 0, p.m, 0, columns, work)
						}
					}
				})
			})
		})
		return
	}
	withTiles(kernels.TilePacked(p.planes(), width, p.k), func(packed *uint16) {
		for i := range p.batch {
			for from := 0; from < p.n; from += width {
				columns := min(width, p.n-from)
				b := columnsFrom(p.b(y, i), from)
				var bad atomic.Bool
				steps := (columns + 15) / 16
				s.ranges(steps, 16*p.k, func(begin, end int) {
					if !kernels.TilePack(p.planes(), b, begin*16, min(end*16, columns), p.k, packed) {
						bad.Store(true)
					}
				})
				c := &out[i*p.m*p.n+from]
				s.blocks(p.m, columns, tasks, func(m0, m1, n0, n1 int) {
					withTiles(kernels.TileWork(p.planes()), func(work *uint16) {
						tileRows(p, p.a(x, i), b, c, !bad.Load(), packed, m0, m1, n0, n1, work)
					})
				})
			}
		}
	})
}

// tileTasks is the number of tasks of a product on packed operands. One takes at
// least some 4M multiply-adds, some ten microseconds.
func (s *state) tileTasks(p product) int {
	const grain = 1 << 22
	if s.threads <= 1 {
		return 1
	}
	return max(1, min(2*s.threads, p.batch*p.m*p.n*p.k/grain))
}

// blocks divides m rows and packed columns among tasks, rows first: at the blocks
// that they are packed in, of which the kernels of float32 and bfloat16 have the
// same.
func (s *state) blocks(m, columns, tasks int, task func(m0, m1, n0, n1 int)) {
	blocks, pairs := (m+kernels.TileRows-1)/kernels.TileRows, (columns+31)/32
	high := min(blocks, tasks)
	wide := min(pairs, (tasks+high-1)/high)
	s.parallel(high*wide, func(t int) {
		r, q := t/wide, t%wide
		task(r*blocks/high*kernels.TileRows, min((r+1)*blocks/high*kernels.TileRows, m), q*pairs/wide*32, min((q+1)*pairs/wide*32, columns))
	})
}

// columnsFrom is the matrix without its first columns.
func columnsFrom(m kernels.Matrix, first int) kernels.Matrix {
	m.Data = (*float32)(unsafe.Add(unsafe.Pointer(m.Data), 4*first*m.Col))
	return m
}

// tileRows computes rows [m0,m1) and columns [n0,n1) of C.
func tileRows(p product, a, b kernels.Matrix, c *float32, finite bool, packed *uint16, m0, m1, n0, n1 int, work *uint16) {
	for m0 < m1 {
		stop := m0
		if finite {
			stop = kernels.TileGemm(p.planes(), a, packed, c, p.add, p.n, m0, m1, n0, n1, p.k, work)
		}
		if stop < m1 {
			next := min(stop+kernels.TileRows, m1)
			withWorkspace(func(work *float32) { kernels.Gemm(a, b, c, p.n, stop, next, n0, n1, p.k, work) })
			stop = next
		}
		m0 = stop
	}
}

// withTiles calls fn with room for n uint16.
func withTiles(n int, fn func(buffer *uint16)) {
	withScratch(2*n, func(memory unsafe.Pointer) { fn((*uint16)(memory)) })
}
