//go:build cgo && arm64

// decode_portable with dot products of pairs of bfloat16, for weights in
// bfloat16.

#include "decode.h"

#if defined(__clang__) || __GNUC__ >= 10

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+bf16")
#endif

#define DECODE decode_neon_bf16
#define WIDTH 4           // floats in a vector
#define DECODE_ROWS 4     // rows and vectors of a product's tile
#define DECODE_VECTORS 2
#define DECODE_CHAINS 1   // sums a score is added from
#define DECODE_AHEAD 2048 // floats of weights fetched ahead
#define DECODE_PAIRS

#include "vec.inc"

#include <arm_neon.h>

typedef bfloat16x8_t pairs;

INLINE pairs load_pairs(const uint16_t *p) { return vreinterpretq_bf16_u16(vld1q_u16(p)); }
INLINE pairs same_pair(const uint16_t *p) {
	uint32_t v;
	memcpy(&v, p, 4);
	return vreinterpretq_bf16_u32(vdupq_n_u32(v));
}
INLINE vf add_pairs(vf sum, pairs x, pairs y) { return (vf)vbfdotq_f32((float32x4_t)sum, x, y); }

// narrow_row rounds n values to bfloat16.
INLINE void narrow_row(const float *a, uint16_t *out, long n) {
	for (long i = 0; i < n; i++) {
		bfloat16_t v = vcvth_bf16_f32(a[i]);
		memcpy(out + i, &v, 2);
	}
}

#include "decode.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else // never called

void decode_neon_bf16(decode_job *job, int64_t thread) { decode_portable(job, thread); }

#endif
