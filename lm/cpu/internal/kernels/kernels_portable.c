//go:build cgo

#include "kernels.h"

#define NAME "portable"
#define TABLE kernels_portable
#define WIDTH 4 // floats in a vector
#define MR 6    // rows of gemm's micro-kernel
#define DM 3    // rows and columns of gemm_dot's block
#define DN 2

#include "vec.inc"
#include "move.inc"
#include "gemm.inc"
#include "pointwise.inc"
#include "fused.inc"
#if defined(__x86_64__)
#include "sample.inc"
#endif
#include "table.inc"
