//go:build cgo && amd64

#include "decode.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prfchw,prefer-vector-width=512")
#endif

#define DECODE decode_avx512
#define WIDTH 16           // floats in a vector
#define DECODE_ROWS 12     // rows and vectors of a product's tile
#define DECODE_VECTORS 2
#define DECODE_CHAINS 4   // sums a score is added from
#define DECODE_AHEAD 2048 // floats of weights fetched ahead

#include "vec.inc"
#include "decode.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
