// A decoder's forward over a key-value cache as one call: all layers of a Llama
// or Qwen2 model, divided among threads that meet without the scheduler.
//
// T tokens, D hidden size, H heads, K key-value heads, G = H/K, C head size, I
// intermediate size, V vocabulary. All arrays are float32 unless said.
#ifndef ESCLAB_DECODE_H
#define ESCLAB_DECODE_H

#include <stdatomic.h>
#include <stdint.h>

// Columns of a packed panel of weights, and nodes of a block of the cache.
enum { PANEL = 32, NODES = 16 };

// Addresses are integers: the structs live in Go's memory, which holds no
// pointers that C could not be given.
typedef uintptr_t address;

// panels is a weight [n, k] as ceil(n/PANEL) panels [k][PANEL], zero behind n; in
// bfloat16, with k even, as panels [k/2][PANEL][2] (half is PAIRS); or in tiles for
// AMX, as panels [ceil(k/32)][PANEL/16][16][16][2], zero behind k (half is TILED).
enum { PAIRS = 1, TILED = 2 };
typedef struct {
	address data;
	int64_t n, k, half;
} panels;

// A low-rank adapter widens what a weight reads: down makes R values of the k
// that the weight reads without it, which are written behind them, and the
// weight is [n, k + R].
typedef struct {
	panels qkv, out, up, down; // up: 16 columns of gate and 16 of up in each panel
	panels qkv_down, out_down, up_down, down_down; // of adapters; n is 0 without
	address qkv_bias;          // [(H+2K)·C], or 0
	address norm1, norm2;      // [D]
} decode_layer;

typedef struct {
	int64_t layers, hidden, heads, kv_heads, head_dim, inner;
	float eps, scale; // scale of queries
	address layer;    // decode_layer[layers]
	address norm;     // [D]
	panels head;
	address cos, sin; // [positions, C/2]
	int64_t half;     // PAIRS: some panels are; TILED: all are
} decode_model;

// seen names nodes of a block of the cache: those of the set bits.
typedef struct {
	int32_t block;
	uint32_t mask;
} seen;

enum { PICK_NOTHING, PICK_BEST, PICK_LOG_SUM };

typedef struct {
	address model;
	int64_t tokens;         // T
	address position, node; // int32 [T]
	address seen, seen_from; // seen[], int64 [T+1]: what each token attends to, itself included, in order
	int64_t outputs;        // tokens whose logits are computed
	address output;         // int32 [outputs], rising
	// The cache: keys [layers, K, blocks, C, NODES], values [layers, K, blocks, NODES, C];
	// in bfloat16 with weights TILED.
	address keys, values;
	int64_t blocks;
	// Work: x [T, D] holds the embeddings; y [outputs, D], h [T, max(D, H·C) + R], qkv [T, (H+2K)·C], inner [T, I + R].
	// With weights TILED h and inner are tiles of bfloat16: T is rounded up to 16, columns to 32.
	address x, y, h, qkv, inner;
	address logits;  // [outputs, V]
	int64_t pick;    // what is computed from the logits
	address best;    // int32 [outputs], PICK_BEST: of the highest logit, the first of equals
	address log_sum; // [outputs], PICK_LOG_SUM: log of the sum of the logits' exponentials
	address scores;  // [threads][scores_size], of attention: 2·NODES for each entry of what a token sees, and 2·C
	int64_t scores_size;
	int64_t threads;
	// The meeting point: tasks are counted through all phases.
	_Atomic int64_t next, limit, done, stop;
} decode_job;

// decode runs a thread's part; thread 0 leads and returns when all is done.
typedef void (*decode_fn)(decode_job *job, int64_t thread);
void decode_portable(decode_job *, int64_t);
#if defined(__x86_64__)
void decode_avx2(decode_job *, int64_t);
void decode_avx512(decode_job *, int64_t);
void decode_avx512_bf16(decode_job *, int64_t); // where half_supported
void decode_amx(decode_job *, int64_t);         // of weights TILED, where amx_supported and half_supported
#elif defined(__aarch64__)
void decode_neon_bf16(decode_job *, int64_t); // where half_supported
#endif

#endif
