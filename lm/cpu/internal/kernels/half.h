// Matrix products of bfloat16 with sums in float32, where the processor has
// them: on AMX's tiles, or by AVX-512's dot products of pairs.
#ifndef ESCLAB_HALF_H
#define ESCLAB_HALF_H

#include <stdint.h>

#include "amx.h" // AMX_ROWS, which divides the rows of A that are packed at once here, too

// half_supported tells whether the processor has dot products of pairs of
// bfloat16.
int half_supported(void);

// half_packed is the size, in elements, of n packed columns of B[k, n], and
// half_work that of the rows of A that half_gemm packs.
long half_packed(long n, long k);
long half_work(void);

// half_pack packs columns [n0,n1) of B[k,n], n0 a multiple of 16, into out, where
// column 0 begins. bk or bn is 1.
void half_pack(const uint16_t *b, long bk, long bn, long n0, long n1, long k, uint16_t *out);

// half_gemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n],
// m0 a multiple of AMX_ROWS and n0 of 16, with B packed and A's rows lda apart;
// on AMX's tiles, which amx_supported must have asked for, or without. With add
// the product is added to C.
void half_gemm(int amx, int add, const uint16_t *a, long lda, const uint16_t *b,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, uint16_t *work);

#endif
