//go:build cgo

// Package kernels holds the C kernels of lm/cpu: float32 matrix products,
// elementwise operations, reductions and strided copies, compiled once for each
// instruction set and chosen at run time.
package kernels

/*
#cgo CFLAGS: -O3 -Wno-psabi
#cgo LDFLAGS: -lm
#cgo noescape k_gemm
#cgo nocallback k_gemm
#cgo noescape k_gemm_dot
#cgo nocallback k_gemm_dot
#cgo noescape k_binary
#cgo nocallback k_binary
#cgo noescape k_unary
#cgo nocallback k_unary
#cgo noescape k_where
#cgo nocallback k_where
#cgo noescape k_reduce_rows
#cgo nocallback k_reduce_rows
#cgo noescape k_reduce_cols
#cgo nocallback k_reduce_cols
#cgo noescape k_softmax
#cgo nocallback k_softmax
#cgo noescape k_copy
#cgo nocallback k_copy
#cgo noescape k_fused
#cgo nocallback k_fused
#cgo noescape k_sample_weights
#cgo nocallback k_sample_weights
#cgo noescape k_narrow
#cgo nocallback k_narrow
#cgo noescape k_widen
#cgo nocallback k_widen
#cgo noescape k_add_rows
#cgo nocallback k_add_rows
#include "kernels.h"
#include "amx.h"
#include "half.h"

static const kernel_table *active = &kernels_portable;

// supported: 0 portable, 1 avx2, 2 avx512, 3 amx, 4 neon.
static int supported(int level) {
#if defined(__x86_64__)
	__builtin_cpu_init();
	int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	if (level == 1) return avx2;
	int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	if (level == 2) return avx512;
	if (level == 3) return avx512 && amx_supported();
#elif defined(__aarch64__)
	if (level == 4) return half_supported();
#endif
	return level == 0;
}
static void choose_level(int level) {
	active = &kernels_portable;
#if defined(__x86_64__)
	if (level == 1) active = &kernels_avx2;
	if (level == 2 || level == 3) active = &kernels_avx512;
#endif
}
static long k_gemm_work(void) { return active->gemm_work; }
static void k_gemm(const float *a, long am, long ak, const float *b, long bk, long bn,
	float *c, long ldc, long m0, long m1, long n0, long n1, long k, float *work) {
	active->gemm(a, am, ak, b, bk, bn, c, ldc, m0, m1, n0, n1, k, work);
}
static void k_gemm_dot(const float *a, long am, const float *b, long bn, float *c, long ldc, long m, long n0, long n1, long k) {
	active->gemm_dot(a, am, b, bn, c, ldc, m, n0, n1, k);
}
static void k_binary(int op, const float *a, const float *b, void *out, int rank,
	const long *dims, const long *sa, const long *sb, long begin, long end) {
	active->binary(op, a, b, out, rank, dims, sa, sb, begin, end);
}
static void k_unary(int op, const float *a, float *out, long n) { active->unary(op, a, out, n); }
static void k_where(const uint8_t *c, const float *t, long st, const float *f, long sf, float *out, long n) {
	active->where(c, t, st, f, sf, out, n);
}
static void k_reduce_rows(int op, const float *a, float *out, long n, long begin, long end) {
	active->reduce_rows(op, a, out, n, begin, end);
}
static void k_reduce_cols(int op, const float *a, float *out, long rows, long n, long begin, long end) {
	active->reduce_cols(op, a, out, rows, n, begin, end);
}
static void k_softmax(const float *a, float *out, long n, long begin, long end) { active->softmax(a, out, n, begin, end); }
static void k_copy(const void *in, void *out, int size, int rank, const long *dims, const long *s, const long *so, long begin, long end) {
	active->copy(in, out, size, rank, dims, s, so, begin, end);
}
static void k_fused(const instruction *program, int nops, const uintptr_t *in, const int32_t *size, int nin,
	int rank, const long *dims, const long *strides, float *out, long begin, long end) {
	active->fused(program, nops, in, size, nin, rank, dims, strides, out, begin, end);
}
static void k_add_rows(float *dst, const float *src, long n) { active->add_rows(dst, src, n); }
static int k_samples_weights(void) { return active->sample_weights != 0; }
static double k_sample_weights(const float *logits, long n, float highest, float kept, double temperature, double *out) {
	return active->sample_weights(logits, n, highest, kept, temperature, out);
}
static void k_narrow(const float *a, uint16_t *out, long n) { active->narrow(a, out, n); }
static void k_widen(const uint16_t *a, float *out, long n) { active->widen(a, out, n); }
*/
import "C"

import "unsafe"

// Level is an instruction set.
type Level int

// The levels, from the one that every machine has to the fastest.
const (
	Portable Level = iota
	AVX2
	AVX512
	AMX  // AVX512, and large matrix products on tiles
	NEON // Portable, which is NEON on arm64, and its dot products of bfloat16
)

func (l Level) String() string { return [...]string{"portable", "avx2", "avx512", "amx", "neon"}[l] }

// Supported tells whether this machine runs the level.
func Supported(l Level) bool { return C.supported(C.int(l)) != 0 }

// Use chooses the level of all later calls; it must be supported, and no kernel
// may be running.
func Use(l Level) {
	C.choose_level(C.int(l))
	level = l
}

var level Level // that Use chose

// Tiles tells whether products may use TilePack and TileGemm.
func Tiles() bool { return level == AMX }

// Binary operations; those from Eq on give bytes 0 and 1, those IntCompare
// further on take int32 operands.
const (
	Add = C.BIN_ADD
	Sub = C.BIN_SUB
	Mul = C.BIN_MUL
	Div = C.BIN_DIV
	Max = C.BIN_MAX
	Min = C.BIN_MIN
	Eq  = C.BIN_EQ
	Ne  = C.BIN_NE
	Ge  = C.BIN_GE
	Gt  = C.BIN_GT
	Le  = C.BIN_LE
	Lt  = C.BIN_LT

	IntCompare = C.BIN_EQ_INT - C.BIN_EQ
)

// Unary operations.
const (
	Neg      = C.UN_NEG
	Exp      = C.UN_EXP
	Sqrt     = C.UN_SQRT
	Rsqrt    = C.UN_RSQRT
	Logistic = C.UN_LOGISTIC
	Abs      = C.UN_ABS
	Log      = C.UN_LOG
	Tanh     = C.UN_TANH
)

// Reductions.
const (
	Sum       = C.RED_SUM
	ReduceMax = C.RED_MAX
	ReduceMin = C.RED_MIN
)

func f32(p *float32) *C.float { return (*C.float)(unsafe.Pointer(p)) }
func longs(p []int) *C.long   { return (*C.long)(unsafe.Pointer(unsafe.SliceData(p))) }

// Matrix is a strided operand: element (i, j) is at i*Row + j*Col.
type Matrix struct {
	Data     *float32
	Row, Col int
}

// GemmWork returns the number of float32 that Gemm needs as work space.
func GemmWork() int { return int(C.k_gemm_work()) }

// Gemm computes rows [m0,m1) and columns [n0,n1) of C[m,n] = A[m,k] B[k,n]; C
// is row-major with row stride ldc.
func Gemm(a, b Matrix, c *float32, ldc, m0, m1, n0, n1, k int, work *float32) {
	C.k_gemm(f32(a.Data), C.long(a.Row), C.long(a.Col), f32(b.Data), C.long(b.Row), C.long(b.Col),
		f32(c), C.long(ldc), C.long(m0), C.long(m1), C.long(n0), C.long(n1), C.long(k), f32(work))
}

// GemmDot computes columns [n0,n1) of C[m,n] = A[m,k] B[k,n] for few rows m,
// with A.Col and B.Row 1.
func GemmDot(a, b Matrix, c *float32, ldc, m, n0, n1, k int) {
	C.k_gemm_dot(f32(a.Data), C.long(a.Row), f32(b.Data), C.long(b.Col),
		f32(c), C.long(ldc), C.long(m), C.long(n0), C.long(n1), C.long(k))
}

// Binary computes rows [begin,end) of out = op(a, b) over dims, with element
// strides sa and sb, whose last are 0 or 1. A row is one run along the last
// dimension; with a single dimension rows are elements. out is float32 or byte.
func Binary(op int, a, b *float32, out unsafe.Pointer, dims, sa, sb []int, begin, end int) {
	C.k_binary(C.int(op), f32(a), f32(b), out, C.int(len(dims)), longs(dims), longs(sa), longs(sb), C.long(begin), C.long(end))
}

// Unary computes out = op(a) for n elements; out may be a.
func Unary(op int, a, out *float32, n int) { C.k_unary(C.int(op), f32(a), f32(out), C.long(n)) }

// Where selects t or f for n elements; strides are 1, or 0 for a scalar.
func Where(cond *bool, t *float32, st int, f *float32, sf int, out *float32, n int) {
	C.k_where((*C.uint8_t)(unsafe.Pointer(cond)), f32(t), C.long(st), f32(f), C.long(sf), f32(out), C.long(n))
}

// ReduceRows reduces each of the rows [begin,end) of a[., n] to out.
func ReduceRows(op int, a, out *float32, n, begin, end int) {
	C.k_reduce_rows(C.int(op), f32(a), f32(out), C.long(n), C.long(begin), C.long(end))
}

// ReduceCols reduces the columns [begin,end) of a[rows, n] to out.
func ReduceCols(op int, a, out *float32, rows, n, begin, end int) {
	C.k_reduce_cols(C.int(op), f32(a), f32(out), C.long(rows), C.long(n), C.long(begin), C.long(end))
}

// Softmax computes the softmax of each of the rows [begin,end) of a[., n].
func Softmax(a, out *float32, n, begin, end int) {
	C.k_softmax(f32(a), f32(out), C.long(n), C.long(begin), C.long(end))
}

// Copy writes out, with strides so whose last is 1, from in with strides si,
// over two or more dims; size is 1, 4 or 8 bytes. It does planes [begin,end) of
// the product of all dimensions but the last two.
func Copy(in, out unsafe.Pointer, size int, dims, si, so []int, begin, end int) {
	C.k_copy(in, out, C.int(size), C.int(len(dims)), longs(dims), longs(si), longs(so), C.long(begin), C.long(end))
}

// Instruction of a fused program: Dst = Op(A, B, C). An operand i >= 0 is input
// i, and -1-i register i; Dst is a register, or -1 for the output. Op is a
// binary operation, OpUnary plus a unary one, or OpWhere.
type Instruction struct{ Op, Dst, A, B, C int32 }

// Bounds and operations of fused programs.
const (
	OpUnary        = C.OP_UNARY
	OpWhere        = C.OP_WHERE
	FusedInputs    = C.FUSED_INPUTS
	FusedRegisters = C.FUSED_REGISTERS
)

// Fused runs the program for rows [begin,end) of dims, as Binary does. inputs
// are the addresses of the inputs, which the caller keeps alive, sizes their
// bytes an element (4, or 1 for the condition of OpWhere), and strides their
// element strides, input after input.
func Fused(program []Instruction, inputs []uintptr, sizes []int32, dims, strides []int, out *float32, begin, end int) {
	C.k_fused((*C.instruction)(unsafe.Pointer(unsafe.SliceData(program))), C.int(len(program)),
		(*C.uintptr_t)(unsafe.Pointer(unsafe.SliceData(inputs))), (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(sizes))), C.int(len(inputs)),
		C.int(len(dims)), longs(dims), longs(strides), f32(out), C.long(begin), C.long(end))
}

// AddRows adds n elements of src to dst.
func AddRows(dst, src *float32, n int) { C.k_add_rows(f32(dst), f32(src), C.long(n)) }

// SamplesWeights tells whether there is SampleWeights.
func SamplesWeights() bool { return C.k_samples_weights() != 0 }

// SampleWeights writes what each of the logits weighs when a token is drawn: 1
// where it is at least highest, e^((logit-highest)/temperature) where it is at
// least kept, else 0; and returns their sum, in order.
func SampleWeights(logits []float32, highest, kept float32, temperature float64, weights []float64) float64 {
	return float64(C.k_sample_weights(f32(unsafe.SliceData(logits)), C.long(len(logits)), C.float(highest), C.float(kept),
		C.double(temperature), (*C.double)(unsafe.SliceData(weights))))
}

// Narrow rounds n elements to bfloat16, halves to even.
func Narrow(a *float32, out *uint16, n int) { C.k_narrow(f32(a), u16(out), C.long(n)) }

// Widen converts n elements from bfloat16.
func Widen(a *uint16, out *float32, n int) { C.k_widen(u16(a), f32(out), C.long(n)) }
