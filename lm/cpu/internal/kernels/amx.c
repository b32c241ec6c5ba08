//go:build cgo

// A float32 is the sum of three bfloat16 to its last bit: x = x1 + x2 + x3,
// each the rest rounded to eight bits. Of the nine products of two such sums,
// x1y1, x1y2, x2y1, x2y2, x1y3 and x3y1 are added in float32 on the tiles; the
// other three are below 2^-25 of the product. A tile adds 32 products before it
// rounds into the sum, so that the outcome is closer to the exact one than a
// chain of float32 multiply-adds. (After Henry, Tang and Heinecke, "Leveraging
// the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", 2019.) Subnormal operands and results count as zero.
//
// With one plane operands are rounded to bfloat16, halves to even, and one
// product is added.
//
// Every element of C adds the products of DEPTH consecutive k at a time in
// order, whatever the block of C it is computed with.

#include "amx.h"
#include "half.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prfchw,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prfchw,amx-tile,amx-bf16")
#endif

#include "tiles.inc"

#define PLANES 3   // tiles for one of float32, at most: x1, x2, x3

// Rows of A that are packed at once, and k of one pass over C.
#define ROWS(planes) ((planes) == 1 ? 2 * AMX_ROWS : AMX_ROWS)
#define DEPTH(planes) ((planes) == 1 ? 1024 : 256)

int amx_supported(void) {
	unsigned a, b, c, d;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
	const unsigned bf16 = 1u << 22, tile = 1u << 24;
	if (!(d & bf16) || !(d & tile) || !half_supported()) return 0;
	// Linux keeps tiles from a process until it asks: ARCH_REQ_XCOMP_PERM for
	// the state component XTILEDATA.
	return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

long amx_packed(int planes, long n, long k) { return tiles(n, 16) * tiles(k, 32) * planes * TILE; }

long amx_work(int planes) { return amx_packed(planes, ROWS(planes), DEPTH(planes)); }

// upper rounds to bfloat16, halves away from zero.
INLINE __m512 upper(__m512 x) {
	__m512i v = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
	return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
}

// split gives the three parts, each in the upper half of its lanes, and collects
// the lanes whose first part is not finite.
INLINE void split(__m512 x, __m512i part[PLANES], __mmask16 *bad) {
	__m512 p = upper(x), r = x - p, q = upper(r);
	*bad |= _mm512_fpclass_ps_mask(p, 0x99); // NaN and infinities
	part[0] = _mm512_castps_si512(p);
	part[1] = _mm512_castps_si512(q);
	part[2] = _mm512_castps_si512(r - q);
}

// rows_of splits 32 neighbours into a row of three tiles.
INLINE void rows_of(__m512 x, __m512 y, __m512i row[PLANES], const int planes, __mmask16 *bad) {
	if (planes == 1) {
		row[0] = (__m512i)_mm512_cvtne2ps_pbh(y, x);
		return;
	}
	const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33,
		31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
	__m512i u[PLANES], v[PLANES];
	split(x, u, bad);
	split(y, v, bad);
	for (int p = 0; p < PLANES; p++) row[p] = _mm512_permutex2var_epi16(u[p], odd, v[p]);
}

// pairs_of splits two rows of 16 into one row of pairs of three tiles.
INLINE void pairs_of(__m512 x, __m512 y, __m512i row[PLANES], const int planes, __mmask16 *bad) {
	if (planes == 1) {
		const __m512i pair = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
			23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
		row[0] = _mm512_permutexvar_epi16(pair, (__m512i)_mm512_cvtne2ps_pbh(y, x));
		return;
	}
	__m512i u[PLANES], v[PLANES];
	split(x, u, bad);
	split(y, v, bad);
	for (int p = 0; p < PLANES; p++) row[p] = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(u[p], 16), v[p]);
}

// pack_tile packs 16 x 32 values x[i*si + p*sp], i < n and p < k, the rest zero,
// into a tile a plane: of A, whose rows are i, or of B, whose rows are pairs of p.
INLINE void pack_tile(const float *x, long si, long sp, long n, long k, uint16_t *out, const int b, const int planes, __mmask16 *bad) {
	__attribute__((aligned(64))) float edge[512];
	if (n < 16 || k < 32 || (si != 1 && sp != 1)) {
		if (n < 16 || k < 32) memset(edge, 0, sizeof edge);
		if (si == 1) {
			for (long p = 0; p < k; p++) memcpy(edge + p * 16, x + p * sp, n * 4);
			sp = 16;
		} else {
			for (long i = 0; i < n; i++)
				for (long p = 0; p < k; p++) edge[i * 32 + p] = x[i * si + p * sp];
			si = 32, sp = 1;
		}
		x = edge;
	}
	__m512i row[PLANES], all[PLANES][16];
	if (sp == 1) {
		for (int i = 0; i < 16; i++) {
			rows_of(_mm512_loadu_ps(x + i * si), _mm512_loadu_ps(x + i * si + 16), row, planes, bad);
			for (int q = 0; q < planes; q++)
				if (b) all[q][i] = row[q];
				else _mm512_store_si512(out + q * TILE + i * 32, row[q]);
		}
	} else {
		for (int i = 0; i < 16; i++) {
			pairs_of(_mm512_loadu_ps(x + 2 * i * sp), _mm512_loadu_ps(x + (2 * i + 1) * sp), row, planes, bad);
			for (int q = 0; q < planes; q++)
				if (b) _mm512_store_si512(out + q * TILE + i * 32, row[q]);
				else all[q][i] = row[q];
		}
	}
	if ((sp == 1) == b)
		for (int q = 0; q < planes; q++) transpose(all[q], out + q * TILE);
}

INLINE int pack(const int planes, const float *b, long bk, long bn, long n0, long n1, long k, uint16_t *out) {
	__mmask16 bad = 0;
	long depth = tiles(k, 32), across = tiles(n1 - n0, 16);
	// Along the rows of what is read.
	long outer = bk == 1 ? across : depth, inner = bk == 1 ? depth : across;
	for (long u = 0; u < outer; u++)
		for (long v = 0; v < inner; v++) {
			long t = bk == 1 ? v : u, j = n0 + 16 * (bk == 1 ? u : v);
			pack_tile(b + j * bn + t * 32 * bk, bn, bk, n1 - j < 16 ? n1 - j : 16, k - t * 32 < 32 ? k - t * 32 : 32,
				out + (j / 16 * depth + t) * planes * TILE, 1, planes, &bad);
		}
	return bad != 0;
}

int amx_pack(int planes, const float *b, long bk, long bn, long n0, long n1, long k, uint16_t *out) {
	return planes == 1 ? pack(1, b, bk, bn, n0, n1, k, out) : pack(PLANES, b, bk, bn, n0, n1, k, out);
}

// step multiplies the loaded tiles of A, 4 and 5, and of B, 6 and 7.
#define STEP(rt, ct)                      \
	do {                                  \
		_tile_dpbf16ps(0, 4, 6);          \
		if (ct > 1) _tile_dpbf16ps(1, 4, 7); \
		if (rt > 1) _tile_dpbf16ps(2, 5, 6); \
		if (rt > 1 && ct > 1) _tile_dpbf16ps(3, 5, 7); \
	} while (0)
#define LOAD_A(rt, p)                                   \
	do {                                                \
		_tile_loadd(4, a + (p)*TILE, 64);               \
		if (rt > 1) _tile_loadd(5, a + sa + (p)*TILE, 64); \
	} while (0)
#define LOAD_B(ct, p)                                   \
	do {                                                \
		_tile_loadd(6, b + (p)*TILE, 64);               \
		if (ct > 1) _tile_loadd(7, b + sb + (p)*TILE, 64); \
	} while (0)

// micro adds (or stores) to the rt x ct tiles of C the product of depth tiles of
// A and B; neighbours lie sa and sb apart.
INLINE void micro(const int planes, const uint16_t *a, long sa, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, const int rt, const int ct) {
	// The lines of C are on their way while the products are summed.
	for (int i = 0; i < 16 * rt; i++)
		for (int j = 0; j < ct; j++) __builtin_prefetch(c + i * ldc + 16 * j, 1);
	begin_sums(c, ldc, add, rt, ct);
	for (long t = 0; planes == 1 && t < depth; t++, a += TILE, b += TILE) {
		LOAD_A(rt, 0);
		LOAD_B(ct, 0);
		STEP(rt, ct);
	}
	for (long t = 0; planes > 1 && t < depth; t++, a += PLANES * TILE, b += PLANES * TILE) {
		LOAD_A(rt, 0);
		LOAD_B(ct, 2);
		STEP(rt, ct);
		LOAD_B(ct, 1);
		STEP(rt, ct);
		LOAD_A(rt, 1);
		STEP(rt, ct);
		LOAD_B(ct, 0);
		STEP(rt, ct);
		LOAD_A(rt, 2);
		STEP(rt, ct);
		LOAD_A(rt, 0);
		STEP(rt, ct);
	}
	end_sums(c, ldc, rt, ct);
}

// block is micro for rows x columns of C, at most 32 each.
INLINE void block(const int planes, const uint16_t *a, long sa, const uint16_t *b, long sb, long depth, float *c, long ldc, int add, long rows, long columns) {
	__attribute__((aligned(64))) float edge[32 * 32];
	float *to = c;
	long ld = ldc;
	int whole = rows % 16 == 0 && columns % 16 == 0;
	if (!whole) {
		to = edge, ld = 32;
		if (add)
			for (long i = 0; i < rows; i++) memcpy(edge + i * 32, c + i * ldc, columns * 4);
	}
	if (rows > 16 && columns > 16) micro(planes, a, sa, b, sb, depth, to, ld, add, 2, 2);
	else if (rows > 16) micro(planes, a, sa, b, sb, depth, to, ld, add, 2, 1);
	else if (columns > 16) micro(planes, a, sa, b, sb, depth, to, ld, add, 1, 2);
	else micro(planes, a, sa, b, sb, depth, to, ld, add, 1, 1);
	if (!whole)
		for (long i = 0; i < rows; i++) memcpy(c + i * ldc, edge + i * 32, columns * 4);
}

INLINE long gemm(const int planes, int add, const float *a, long am, long ak, const uint16_t *b,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, uint16_t *work) {
	use_tiles(16);
	long depth = tiles(k, 32), sb = depth * planes * TILE, i0 = m0;
	for (; i0 < m1; i0 += ROWS(planes)) {
		long mc = m1 - i0 < ROWS(planes) ? m1 - i0 : ROWS(planes);
		__mmask16 bad = 0;
		for (long p = 0; p < k; p += DEPTH(planes)) {
			long kc = k - p < DEPTH(planes) ? k - p : DEPTH(planes), d = tiles(kc, 32), sa = d * planes * TILE;
			long across = tiles(mc, 16), outer = ak == 1 ? across : d, inner = ak == 1 ? d : across;
			for (long u = 0; u < outer; u++)
				for (long v = 0; v < inner; v++) {
					long t = ak == 1 ? v : u, i = 16 * (ak == 1 ? u : v);
					pack_tile(a + (i0 + i) * am + (p + t * 32) * ak, am, ak, mc - i < 16 ? mc - i : 16, kc - t * 32 < 32 ? kc - t * 32 : 32,
						work + i / 16 * sa + t * planes * TILE, 0, planes, &bad);
				}
			if (bad) break;
			for (long j = n0; j < n1; j += 32) {
				const uint16_t *panel = b + j / 16 * sb + p / 32 * planes * TILE;
				for (long i = 0; i < mc; i += 32)
					block(planes, work + i / 16 * sa, sa, panel, sb, d, c + (i0 + i) * ldc + j, ldc, add || p > 0,
						mc - i < 32 ? mc - i : 32, n1 - j < 32 ? n1 - j : 32);
			}
		}
		if (bad) break;
	}
	_tile_release();
	return i0 < m1 ? i0 : m1;
}

long amx_gemm(int planes, int add, const float *a, long am, long ak, const uint16_t *b,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, uint16_t *work) {
	return planes == 1 ? gemm(1, add, a, am, ak, b, c, ldc, m0, m1, n0, n1, k, work) : gemm(PLANES, add, a, am, ak, b, c, ldc, m0, m1, n0, n1, k, work);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else // no tiles: never called

int amx_supported(void) { return 0; }
long amx_packed(int planes, long n, long k) { return 0; }
long amx_work(int planes) { return 0; }
int amx_pack(int planes, const float *b, long bk, long bn, long n0, long n1, long k, uint16_t *out) { return 1; }
long amx_gemm(int planes, int add, const float *a, long am, long ak, const uint16_t *b,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, uint16_t *work) { return m0; }

#endif
