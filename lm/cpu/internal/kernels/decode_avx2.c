//go:build cgo && amd64

#include "decode.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define DECODE decode_avx2
#define WIDTH 8           // floats in a vector
#define DECODE_ROWS 6     // rows and vectors of a product's tile
#define DECODE_VECTORS 2
#define DECODE_CHAINS 2   // sums a score is added from
#define DECODE_AHEAD 2048 // floats of weights fetched ahead

#include "vec.inc"
#include "decode.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
