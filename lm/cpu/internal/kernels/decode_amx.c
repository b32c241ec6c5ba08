//go:build cgo && amd64

// decode_avx512_bf16 with products on AMX's tiles, for weights in tiles: a panel
// is read as fast as memory gives it, for up to 16 rows in the same time as for
// one. Rows are rounded to bfloat16 when they are written, and so are keys and
// values.

#include "decode.h"

#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,prfchw,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,prfchw,amx-tile,amx-bf16,prefer-vector-width=512")
#endif

#define DECODE decode_amx
#define WIDTH 16        // floats in a vector
#define DECODE_ROWS 32  // of a product's tile
#define DECODE_CHAINS 4 // sums a score is added from
#define DECODE_TILES

#include "tiles.inc"
#include "vec.inc"

#define AHEAD 1536 // weights fetched ahead: three tiles

// operands are rows of bfloat16 in tiles, of as many rows as there are, 16 at
// most: those of ld columns, a multiple of 32, lie one after the other.
typedef struct {
	uint16_t *data;
	long ld, high;
} operands;

INLINE operands operands_at(address data, long k, long rows) {
	return (operands){(uint16_t *)data, tiles(k, 32) * 32, rows < 16 ? rows : 16};
}

INLINE uint16_t *operand_at(operands o, long row, long column) {
	return o.data + row / 16 * o.high * o.ld + column / 32 * o.high * 32 + row % 16 * 32 + column % 32;
}

INLINE void put(operands o, long row, long column, vf v, long n) {
	__m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)v);
	__mmask16 in = n < 16 ? (__mmask16)((1u << n) - 1) : 0xffff;
	if (column % 16 == 0) {
		_mm256_mask_storeu_epi16(operand_at(o, row, column), in, half);
		return;
	}
	__attribute__((aligned(32))) uint16_t values[16];
	_mm256_store_si256((__m256i *)values, half);
	for (long i = 0; i < n && i < 16; i++) *operand_at(o, row, column + i) = values[i];
}

// finish writes zeros behind a row's values, where adapters' are to come and
// where the weight has zeros.
INLINE void finish(operands o, long row, long n) {
	for (long i = n; i < o.ld; i++) *operand_at(o, row, i) = 0;
}

INLINE float *place(operands o, long row, long column, float *apart) {
	(void)o, (void)row, (void)column;
	return apart;
}
INLINE void settle(operands o, long row, long column, const float *values, long n) {
	for (long i = 0; i < n; i += 16) put(o, row, column + i, n - i < 16 ? load_part(values + i, n - i) : load(values + i), n - i);
}

// The cache holds bfloat16.
typedef uint16_t cached;
INLINE vf load_cached(const cached *p) {
	return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}
INLINE vf load_cached_part(const cached *p, long n) {
	return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p)), 16);
}

INLINE void keep(const float *x, cached *out, long stride, long n) {
	for (long i = 0; i < n; i += 16) {
		__attribute__((aligned(32))) uint16_t values[16];
		long count = n - i < 16 ? n - i : 16;
		_mm256_store_si256((__m256i *)values, (__m256i)_mm512_cvtneps_pbh((__m512)(count < 16 ? load_part(x + i, count) : load(x + i))));
		for (long v = 0; v < count; v++) out[(i + v) * stride] = values[v];
	}
}

INLINE long part_of(long rows, long i, long parts) {
	long end = i * tiles(rows, DECODE_ROWS) / parts * DECODE_ROWS;
	return end < rows ? end : rows;
}

INLINE void begin_products(long rows) { use_tiles(rows < 16 ? rows : 16); }
INLINE void end_products(void) { _tile_release(); }

// tile_of is tile_product for up to 16 rows or more, with a panel that is fetched
// ahead or not.
INLINE void tile_of(const uint16_t *a, long sa, long high, const uint16_t *b, long depth, float *t, const int more, const int ahead) {
	_tile_zero(0);
	_tile_zero(1);
	if (more) _tile_zero(2);
	if (more) _tile_zero(3);
	for (long s = 0; s < depth; s++, a += high * 32, b += 2 * TILE) {
		_tile_loadd(4, a, 64);
		_tile_loadd(6, b, 64);
		_tile_dpbf16ps(0, 4, 6);
		if (ahead)
			for (int i = 0; i < 16; i++) __builtin_prefetch(b + AHEAD + i * 32);
		_tile_loadd(7, b + TILE, 64);
		_tile_dpbf16ps(1, 4, 7);
		if (ahead)
			for (int i = 16; i < 32; i++) __builtin_prefetch(b + AHEAD + i * 32);
		if (more) {
			_tile_loadd(5, a + sa, 64);
			_tile_dpbf16ps(2, 5, 6);
			_tile_dpbf16ps(3, 5, 7);
		}
	}
	_tile_stored(0, t, 4 * PANEL);
	_tile_stored(1, t + 16, 4 * PANEL);
	if (more) _tile_stored(2, t + 16 * PANEL, 4 * PANEL);
	if (more) _tile_stored(3, t + 16 * PANEL + 16, 4 * PANEL);
}

static void tile_product(const panels *w, long panel, operands a, long begin, long end, int first, float *t) {
	long depth = tiles(w->k, 32), sa = a.high * a.ld;
	const uint16_t *x = operand_at(a, begin, 0), *b = (const uint16_t *)w->data + panel * depth * 2 * TILE;
	if (end - begin > 16) {
		if (first) tile_of(x, sa, a.high, b, depth, t, 1, 1);
		else tile_of(x, sa, a.high, b, depth, t, 1, 0);
	} else if (first) tile_of(x, sa, a.high, b, depth, t, 0, 1);
	else tile_of(x, sa, a.high, b, depth, t, 0, 0);
}

#include "decode.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else // never called

void decode_amx(decode_job *job, int64_t thread) { decode_avx512(job, thread); }

#endif
