//go:build cgo

// See half_amd64.c.

#include "half.h"

#if defined(__clang__) || __GNUC__ >= 10

#include <arm_neon.h>
#include <string.h>
#if defined(__linux__)
#include <sys/auxv.h>
#else
#include <sys/sysctl.h>
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+bf16")
#endif

#include "tiles.inc"

int half_supported(void) {
#if defined(__linux__)
	return getauxval(AT_HWCAP2) >> 14 & 1; // HWCAP2_BF16
#else
	int has = 0;
	size_t size = sizeof has;
	return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, 0, 0) == 0 && has;
#endif
}

// pack_b packs k x n values of B, and zeros, into a tile of pairs of rows.
static void pack_b(const uint16_t *b, long bk, long bn, long n, long k, uint16_t *out) {
	if (n < 16 || k < 32) memset(out, 0, TILE * 2);
	for (long p = 0; p < k; p++)
		for (long j = 0; j < n; j++) out[p / 2 * 32 + 2 * j + p % 2] = b[p * bk + j * bn];
}

// pack_a packs m rows of k values of A into tiles, those of 16 rows one after
// the other.
static void pack_a(const uint16_t *a, long lda, long m, long k, uint16_t *out) {
	long depth = tiles(k, 32);
	for (long i = 0; i < tiles(m, 16) * 16; i++)
		for (long t = 0; t < depth; t++) {
			uint16_t *to = out + (i / 16 * depth + t) * TILE + i % 16 * 32;
			long n = i < m ? (k - t * 32 < 32 ? k - t * 32 : 32) : 0;
			memcpy(to, a + i * lda + t * 32, n * 2);
			memset(to + n, 0, (32 - n) * 2);
		}
}

// micro adds to 4 rows and 16 columns of C, or stores, the product of depth
// tiles of A and B.
INLINE void micro(const uint16_t *a, const uint16_t *b, long depth, float *c, long ldc, int add) {
	float32x4_t sum[4][4];
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) sum[i][j] = add ? vld1q_f32(c + i * ldc + 4 * j) : vdupq_n_f32(0);
	for (long t = 0; t < depth; t++, a += TILE, b += TILE)
		for (int p = 0; p < 16; p++) {
			bfloat16x8_t y[4];
#pragma GCC unroll 4
			for (int j = 0; j < 4; j++) y[j] = vreinterpretq_bf16_u16(vld1q_u16(b + p * 32 + 8 * j));
#pragma GCC unroll 4
			for (int i = 0; i < 4; i++) {
				uint32_t pair;
				memcpy(&pair, a + i * 32 + 2 * p, 4);
				bfloat16x8_t x = vreinterpretq_bf16_u32(vdupq_n_u32(pair));
#pragma GCC unroll 4
				for (int j = 0; j < 4; j++) sum[i][j] = vbfdotq_f32(sum[i][j], x, y[j]);
			}
		}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) vst1q_f32(c + i * ldc + 4 * j, sum[i][j]);
}

// product_of adds to, or stores, up to 32 rows and columns of C, multiples of 16.
static void product_of(int amx, const uint16_t *a, long sa, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, long rows, long columns) {
	for (long i = 0; i < rows; i += 4)
		for (long j = 0; j < columns; j += 16) micro(a + i / 16 * sa + i % 16 * 32, b + j / 16 * sb, depth, c + i * ldc + j, ldc, add);
}

INLINE void begin(int amx) {}
INLINE void end(int amx) {}

#include "half.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
#include "half_none.inc"
#endif
