//go:build cgo

package kernels

/*
#cgo noescape amx_pack
#cgo nocallback amx_pack
#cgo noescape amx_gemm
#cgo nocallback amx_gemm
#include "amx.h"
*/
import "C"

import "unsafe"

// TileRows is the number of rows of A that TileGemm takes at once: products are
// divided at its multiples.
const TileRows = C.AMX_ROWS

// Planes is the number of bfloat16 that a float32 of a product is split into.
type Planes C.int

// A float32 as it is, and rounded to bfloat16.
const (
	Exact   Planes = 3
	Rounded Planes = 1
)

// TilePacked is the size, in uint16, of n packed columns of B[k, n]; rounded ones
// lie as HalfPack's.
func TilePacked(planes Planes, n, k int) int {
	return int(C.amx_packed(C.int(planes), C.long(n), C.long(k)))
}

// TileWork is the size, in uint16, of TileGemm's work space.
func TileWork(planes Planes) int { return int(C.amx_work(C.int(planes))) }

// TilePack packs columns [n0,n1) of B[k,n], n0 a multiple of 16, into packed,
// where column 0 begins; it is aligned to 64 bytes. It reports whether all
// values are finite: otherwise the product is not TileGemm's. Rounded ones all
// are.
func TilePack(planes Planes, b Matrix, n0, n1, k int, packed *uint16) (finite bool) {
	return C.amx_pack(C.int(planes), f32(b.Data), C.long(b.Row), C.long(b.Col), C.long(n0), C.long(n1), C.long(k), (*C.uint16_t)(packed)) == 0
}

// TileGemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n]
// from packed columns of B; m0 is a multiple of TileRows, n0 of 16. It returns
// the first row of a block of A with a value that is not finite, where it
// stopped, or m1. It may be added to what is in C.
func TileGemm(planes Planes, a Matrix, packed *uint16, c *float32, add bool, ldc, m0, m1, n0, n1, k int, work *uint16) int {
	return int(C.amx_gemm(C.int(planes), flag(add), f32(a.Data), C.long(a.Row), C.long(a.Col), (*C.uint16_t)(packed),
		f32(c), C.long(ldc), C.long(m0), C.long(m1), C.long(n0), C.long(n1), C.long(k), (*C.uint16_t)(unsafe.Pointer(work))))
}
