// Kernels of one instruction set: the same C code is compiled once for each
// (kernels_portable.c, kernels_avx2.c, kernels_avx512.c) and reached through
// this table. All arrays are float32 unless said; strides are in elements.
#ifndef ESCLAB_KERNELS_H
#define ESCLAB_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// instruction of a fused program: dst = op(a, b, c). An operand i >= 0 is input
// i, and -1-i register i; dst is a register, or -1 for the output. op is a
// BIN_ constant, OP_UNARY + a UN_ constant, or OP_WHERE.
typedef struct {
	int32_t op, dst, a, b, c;
} instruction;

enum { OP_UNARY = 100, OP_WHERE = 200, FUSED_INPUTS = 16, FUSED_REGISTERS = 8 };

typedef struct {
	const char *name;

	// gemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n],
	// C row-major with row stride ldc. work holds gemm_work floats.
	void (*gemm)(const float *a, long am, long ak, const float *b, long bk, long bn,
		float *c, long ldc, long m0, long m1, long n0, long n1, long k, float *work);
	// gemm_dot is gemm for few rows, with A's and B's contracted axis contiguous.
	void (*gemm_dot)(const float *a, long am, const float *b, long bn,
		float *c, long ldc, long m, long n0, long n1, long k);
	long gemm_work;

	// binary computes out = op(a, b) over the collapsed dimensions dims[rank],
	// with element strides sa and sb (0 broadcasts), rows [begin,end) of the
	// product of all dimensions but the last; with rank 1 these are elements.
	void (*binary)(int op, const float *a, const float *b, void *out, int rank,
		const long *dims, const long *sa, const long *sb, long begin, long end);
	void (*unary)(int op, const float *a, float *out, long n);
	// where selects onTrue or onFalse; strides 0 (scalar) or 1.
	void (*where)(const uint8_t *cond, const float *t, long st, const float *f, long sf, float *out, long n);

	// reduce_rows reduces the last axis: out[i] = reduce(a[i*n : i*n+n]), i in [begin,end).
	void (*reduce_rows)(int op, const float *a, float *out, long n, long begin, long end);
	// reduce_cols reduces the first axis of a[rows, n]: out[j] for j in [begin,end).
	void (*reduce_cols)(int op, const float *a, float *out, long rows, long n, long begin, long end);

	// softmax over rows of n, rows [begin,end).
	void (*softmax)(const float *a, float *out, long n, long begin, long end);

	// copy writes out with element strides so, whose last is 1, from in with
	// element strides s, over dims[rank], rank >= 2: planes [begin,end) of the
	// product of all dimensions but the last two. size is 1, 4 or 8 bytes.
	void (*copy)(const void *in, void *out, int size, int rank, const long *dims, const long *s, const long *so, long begin, long end);

	// fused runs nops instructions over the collapsed dimensions dims[rank], rows
	// [begin,end) as in binary. in holds the addresses of the nin inputs, size
	// their bytes an element (4 or 1), strides[nin][rank] their element strides.
	void (*fused)(const instruction *program, int nops, const uintptr_t *in, const int32_t *size, int nin,
		int rank, const long *dims, const long *strides, float *out, long begin, long end);

	// add_rows adds n floats of src to dst.
	void (*add_rows)(float *dst, const float *src, long n);

	// sample_weights writes what each of n logits weighs: 1 where it is at least
	// highest, e^((logit-highest)/temperature) where it is at least kept, else 0;
	// it returns their sum, in order. Null but on amd64: elsewhere Go's compiler
	// makes one operation of a product and a sum, so that bits would differ.
	double (*sample_weights)(const float *logits, long n, float highest, float kept, double temperature, double *out);

	// narrow rounds to bfloat16, widen converts from it.
	void (*narrow)(const float *a, uint16_t *out, long n);
	void (*widen)(const uint16_t *a, float *out, long n);
} kernel_table;

enum { BIN_ADD, BIN_SUB, BIN_MUL, BIN_DIV, BIN_MAX, BIN_MIN, BIN_EQ, BIN_NE, BIN_GE, BIN_GT, BIN_LE, BIN_LT,
	BIN_EQ_INT, BIN_NE_INT, BIN_GE_INT, BIN_GT_INT, BIN_LE_INT, BIN_LT_INT, BIN_COUNT };
enum { UN_NEG, UN_EXP, UN_SQRT, UN_RSQRT, UN_LOGISTIC, UN_ABS, UN_LOG, UN_TANH, UN_COUNT };
enum { RED_SUM, RED_MAX, RED_MIN, RED_COUNT };

extern const kernel_table kernels_portable;
#if defined(__x86_64__)
extern const kernel_table kernels_avx2;
extern const kernel_table kernels_avx512;
#endif

#endif
