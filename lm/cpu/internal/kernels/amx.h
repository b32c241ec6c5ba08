// Matrix products on AMX's tiles (Sapphire Rapids and later): float32 by six
// products of bfloat16, with three planes, or rounded to bfloat16 with one.
#ifndef ESCLAB_AMX_H
#define ESCLAB_AMX_H

#include <stdint.h>

// AMX_ROWS is how many rows of A are packed at once, or a part of them. Who
// divides a product must cut it at multiples.
#define AMX_ROWS 128

// amx_supported tells whether the processor has bfloat16 tiles and the system
// lets this process use them, for which it asks.
int amx_supported(void);

// amx_packed is the size, in elements, of n packed columns of B[k, n]; with one
// plane they lie as half_pack's.
long amx_packed(int planes, long n, long k);

// amx_work is the number of elements that amx_gemm packs rows of A into.
long amx_work(int planes);

// amx_pack packs columns [n0,n1) of B[k,n], n0 a multiple of 16, into out, where
// column 0 begins. It reports whether a value is not finite, or so large that
// its upper half is not: the product then needs gemm. One plane takes all values.
int amx_pack(int planes, const float *b, long bk, long bn, long n0, long n1, long k, uint16_t *out);

// amx_gemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n],
// m0 a multiple of AMX_ROWS and n0 of 16, with B packed. It returns the first
// row of a block that has values for which amx_pack reports true, or m1: the
// rows from there on are not computed. With add the product is added to C.
long amx_gemm(int planes, int add, const float *a, long am, long ak, const uint16_t *b,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, uint16_t *work);

#endif
