//go:build cgo && amd64

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define NAME "avx2"
#define TABLE kernels_avx2
#define WIDTH 8 // floats in a vector
#define MR 6    // rows of gemm's micro-kernel
#define DM 3    // rows and columns of gemm_dot's block
#define DN 4

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
