//go:build cgo && amd64

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prfchw,prefer-vector-width=512")
#endif

#define NAME "avx512"
#define TABLE kernels_avx512
#define WIDTH 16 // floats in a vector
#define MR 12    // rows of gemm's micro-kernel
#define DM 4    // rows and columns of gemm_dot's block
#define DN 6

#include "vec.inc"
#include "move.inc"
#include "gemm.inc"
#include "pointwise.inc"
#include "fused.inc"
#if defined(__x86_64__)
#include "sample.inc"
#endif
#include "table.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
