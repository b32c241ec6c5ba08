//go:build cgo && amd64

// decode_avx512 with dot products of pairs of bfloat16, for weights in bfloat16.

#include "decode.h"

#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,prfchw,prefer-vector-width=512")
#endif

#define DECODE decode_avx512_bf16
#define WIDTH 16          // floats in a vector
#define DECODE_ROWS 12    // rows and vectors of a product's tile
#define DECODE_VECTORS 2
#define DECODE_CHAINS 4   // sums a score is added from
#define DECODE_AHEAD 2048 // floats of weights fetched ahead
#define DECODE_PAIRS

#include "vec.inc"

typedef __m512bh pairs;

INLINE pairs load_pairs(const uint16_t *p) { return (pairs)_mm512_loadu_si512(p); }
INLINE pairs same_pair(const uint16_t *p) {
	int32_t v;
	memcpy(&v, p, 4);
	return (pairs)_mm512_set1_epi32(v);
}
INLINE vf add_pairs(vf sum, pairs x, pairs y) { return (vf)_mm512_dpbf16_ps((__m512)sum, x, y); }

// narrow_row rounds n values to bfloat16.
INLINE void narrow_row(const float *a, uint16_t *out, long n) {
	for (long i = 0; i < n; i += 16) {
		__mmask16 in = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
		_mm256_mask_storeu_epi16(out + i, in, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(in, a + i)));
	}
}

#include "decode.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else // never called

void decode_avx512_bf16(decode_job *job, int64_t thread) { decode_avx512(job, thread); }

#endif
