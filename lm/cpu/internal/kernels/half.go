//go:build cgo

package kernels

/*
#cgo noescape half_pack
#cgo nocallback half_pack
#cgo noescape half_gemm
#cgo nocallback half_gemm
#include "half.h"
*/
import "C"

import "unsafe"

// Half tells whether products may use HalfPack and HalfGemm.
func Half() bool {
	return level == NEON || (level == AVX512 || level == AMX) && C.half_supported() != 0
}

// HalfPacked is the size, in uint16, of n packed columns of B[k, n].
func HalfPacked(n, k int) int { return int(C.half_packed(C.long(n), C.long(k))) }

// HalfWork is the size, in uint16, of HalfGemm's work space.
func HalfWork() int { return int(C.half_work()) }

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

func u16(p *uint16) *C.uint16_t { return (*C.uint16_t)(unsafe.Pointer(p)) }

// HalfPack packs columns [n0,n1) of B[k,n] of bfloat16, n0 a multiple of 16, into
// packed, where column 0 begins; it is aligned to 64 bytes. Element (i, j) of B
// is at i*row + j*col, of which one is 1.
func HalfPack(b *uint16, row, col, n0, n1, k int, packed *uint16) {
	C.half_pack(u16(b), C.long(row), C.long(col), C.long(n0), C.long(n1), C.long(k), u16(packed))
}

// HalfGemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n]
// of bfloat16 with sums in float32, from packed columns of B; A is row-major
// with row stride lda, m0 a multiple of TileRows and n0 of 16. It may be added to
// what is in C.
func HalfGemm(a *uint16, lda int, packed *uint16, c *float32, add bool, ldc, m0, m1, n0, n1, k int, work *uint16) {
	C.half_gemm(flag(Tiles()), flag(add), u16(a), C.long(lda), u16(packed), f32(c), C.long(ldc), C.long(m0), C.long(m1), C.long(n0), C.long(n1), C.long(k), u16(work))
}
