//go:build cgo

// The kernels add the products of 32 consecutive k, pair after pair, to what
// was added before, and take HALF_K of them in one pass over C, in order:
// whatever the block of C it is computed with, an element is the same. Subnormal
// operands and results count as zero.

#include "half.h"

#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prfchw,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prfchw,amx-tile,amx-bf16")
#endif

#include "tiles.inc"

int half_supported(void) {
	static _Atomic int known; // asking is slow in a virtual machine: 1 no, 2 yes
	if (!known) {
		unsigned a, b, c, d;
		known = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5) ? 2 : 1;
	}
	return known == 2;
}

// pack_b packs 32 x 16 values of B, or k x n of them and zeros, into a tile of
// pairs of rows.
INLINE void pack_b(const uint16_t *b, long bk, long bn, long n, long k, uint16_t *out) {
	__attribute__((aligned(64))) uint16_t edge[TILE];
	__m512i row[16];
	if (n < 16 || k < 32) {
		memset(edge, 0, sizeof edge);
		if (bk == 1)
			for (long j = 0; j < n; j++) memcpy(edge + j * 32, b + j * bn, k * 2);
		else
			for (long p = 0; p < k; p++) memcpy(edge + p * 16, b + p * bk, n * 2);
		b = edge;
		if (bk == 1) bn = 32;
		else bk = 16;
	}
	if (bk == 1) {
		for (int j = 0; j < 16; j++) row[j] = _mm512_loadu_si512(b + j * bn);
		transpose(row, out);
		return;
	}
	for (int p = 0; p < 16; p++) {
		__m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(b + 2 * p * bk)));
		__m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(b + (2 * p + 1) * bk)));
		_mm512_store_si512(out + p * 32, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
	}
}

// pack_a packs m rows of k values of A into tiles, those of 16 rows one after
// the other.
static void pack_a(const uint16_t *a, long lda, long m, long k, uint16_t *out) {
	long depth = tiles(k, 32);
	for (long i = 0; i < tiles(m, 16) * 16; i++) {
		uint16_t *to = out + i / 16 * depth * TILE + i % 16 * 32;
		for (long t = 0; t < depth; t++, to += TILE) {
			long n = i < m ? (k - t * 32 < 32 ? k - t * 32 : 32) : 0;
			__m512i v = _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), a + i * lda + t * 32);
			_mm512_storeu_si512(to, v);
		}
	}
}

// amx_micro adds to the rt x ct tiles of C, or stores, the product of depth
// tiles of A and B; neighbours lie sa and sb apart.
INLINE void amx_micro(const uint16_t *a, long sa, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, const int rt, const int ct) {
	begin_sums(c, ldc, add, rt, ct);
	for (long t = 0; t < depth; t++, a += TILE, b += TILE) {
		_tile_loadd(4, a, 64);
		_tile_loadd(6, b, 64);
		_tile_dpbf16ps(0, 4, 6);
		if (ct > 1) _tile_loadd(7, b + sb, 64);
		if (ct > 1) _tile_dpbf16ps(1, 4, 7);
		if (rt > 1) _tile_loadd(5, a + sa, 64);
		if (rt > 1) _tile_dpbf16ps(2, 5, 6);
		if (rt > 1 && ct > 1) _tile_dpbf16ps(3, 5, 7);
	}
	end_sums(c, ldc, rt, ct);
}

// pair_micro is amx_micro without tiles, for 8 rows of C.
INLINE void pair_micro(const uint16_t *a, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, const int ct) {
	__m512 sum[8][2];
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
#pragma GCC unroll 2
		for (int j = 0; j < ct; j++) sum[i][j] = add ? _mm512_loadu_ps(c + i * ldc + 16 * j) : _mm512_setzero_ps();
	for (long t = 0; t < depth; t++, a += TILE, b += TILE)
		for (int p = 0; p < 16; p++) {
			__m512bh y[2];
#pragma GCC unroll 2
			for (int j = 0; j < ct; j++) y[j] = (__m512bh)_mm512_load_si512(b + j * sb + p * 32);
#pragma GCC unroll 8
			for (int i = 0; i < 8; i++) {
				int32_t pair;
				memcpy(&pair, a + i * 32 + 2 * p, 4);
				__m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
				for (int j = 0; j < ct; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], x, y[j]);
			}
		}
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
#pragma GCC unroll 2
		for (int j = 0; j < ct; j++) _mm512_storeu_ps(c + i * ldc + 16 * j, sum[i][j]);
}

static void pair_micro_1(const uint16_t *a, const uint16_t *b, long sb, long depth, float *c, long ldc, int add) {
	pair_micro(a, b, sb, depth, c, ldc, add, 1);
}
static void pair_micro_2(const uint16_t *a, const uint16_t *b, long sb, long depth, float *c, long ldc, int add) {
	pair_micro(a, b, sb, depth, c, ldc, add, 2);
}

// product_of adds to, or stores, up to 32 rows and columns of C, multiples of 16.
static void product_of(int amx, const uint16_t *a, long sa, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, long rows, long columns) {
	if (!amx) {
		for (long i = 0; i < rows; i += 8)
			(columns > 16 ? pair_micro_2 : pair_micro_1)(a + i / 16 * sa + i % 16 * 32, b, sb, depth, c + i * ldc, ldc, add);
	} else if (rows > 16 && columns > 16) amx_micro(a, sa, b, sb, depth, c, ldc, add, 2, 2);
	else if (rows > 16) amx_micro(a, sa, b, sb, depth, c, ldc, add, 2, 1);
	else if (columns > 16) amx_micro(a, sa, b, sb, depth, c, ldc, add, 1, 2);
	else amx_micro(a, sa, b, sb, depth, c, ldc, add, 1, 1);
}

INLINE void begin(int amx) {
	if (amx) use_tiles(16);
}
INLINE void end(int amx) {
	if (amx) _tile_release();
}

#include "half.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
#include "half_none.inc"
#endif
