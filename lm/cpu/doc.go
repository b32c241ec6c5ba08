// Package cpu makes GoMLX's Go backend fast on ordinary processors: kernels of
// our own under the backend's operations, and a pass that rewrites compiled
// graphs for them.
//
//	status, err := cpu.Install(cpu.Options{})
//
// before graphs are compiled is all that a program does; it then uses the Go
// backend as before, best with the configuration
// "ops_sequential,creation_order": the kernels divide each operation among the
// processors themselves.
//
// # What is replaced
//
// On float32 (other types, dynamic shapes and unusual arguments stay with the
// backend's own executors):
//
//   - DotGeneral: packed panels and register-blocked micro-kernels (12x32 on
//     AVX-512, 6x16 on AVX2), reading operands of any strides; products of few
//     rows, as in decoding, run along the contracted axis without packing. With
//     AMX, large products run on its tiles: every float32 is split exactly into
//     three bfloat16, and the six products of parts that matter are added in
//     float32, so that the result is as close to the exact one as float32's.
//     Products of bfloat16 with results in float32, and conversions between the
//     two, where the processor has dot products of bfloat16 (AVX512-BF16, AMX, arm64's bf16).
//     In a graph that takes matrices of bfloat16 the tiles round the operands of
//     other products to it, too: one product for six.
//   - Add, Sub, Mul, Div, Max, Min and the comparisons (int32 too), with
//     broadcasting; Neg, Abs, Exp, Log, Logistic, Tanh, Sqrt, Rsqrt; Where;
//     ConvertDType from masks and tokens; FusedSoftmax.
//   - ReduceSum, ReduceMax and ReduceMin over any axes.
//   - Transpose, BroadcastInDim, Slice, Concatenate, Pad (of any type of 1, 4 or
//     8 bytes), and Gather and ScatterSum of whole rows.
//
// The pass, run when a graph is compiled, lets matrix products read through
// transposes and reshapes, computes chains of elementwise operations block by
// block without writing what only they need, and drops operations that move
// nothing or that compute a softmax a second time.
//
// Exp, Log, Logistic and Tanh are within a few units in the last place; the
// other elementwise operations are exact.
//
// # The decoder
//
// Decoder is a whole Llama or Qwen2 forward over a key-value cache as one call,
// for generation and scoring, where a graph's operations are too small: a
// decoding step of 16 tokens is a millisecond. Weights are packed once and
// streamed once a forward; attention reads the nodes that a token sees and no
// others; threads meet at a counter instead of in the scheduler, and one that
// comes late only finds less to do. Its matrices are float32 or bfloat16, and
// low-rank adapters may stay beside them. With AMX matrices of bfloat16 are tiles:
// 16 rows take the time of one, that of reading the weights.
//
// # Determinism
//
// Which kernel runs, how a sum is split and in what order its parts are added
// depend on shapes and on the instruction set alone. Results are the same bits
// run after run, for any number of threads. The decoder's depend on a token and
// what it attends to alone, not on shapes. Another instruction set rounds
// otherwise: Status.Kernels belongs into whatever identifies a result.
//
// # Switching off
//
// Options.Kernels, or the environment variable ESCLAB_CPU_KERNELS where it is
// empty, is off, portable (no instructions beyond the architecture's baseline),
// avx2, avx512, amx (avx512 with products on AMX's tiles, which Linux must
// grant), or neon (portable on arm64, with its products of bfloat16). A build without cgo installs nothing.
//
// # How it hooks in
//
// The backend dispatches through a table of executors that its internal package
// exports with priorities for user overrides, but which no other module can
// import. This package links to that table by name (go:linkname) and mirrors
// the few types that executors receive. Before it installs anything it compares
// every mirrored struct, field by field, and the signatures of the methods that
// it calls with the real ones by reflection, and the module's version where the
// program knows it. Then it runs every operation and compares the result with
// the stock executor's. What does not match stays stock, and Status says why.
//
// The kernels are C, compiled once for each instruction set from the same
// source with vector extensions (package internal/kernels), and chosen at run
// time.
//
// All of this is meant to be offered to github.com/gomlx/compute: there it
// needs neither links nor mirrors, only the executors and the pass.
package cpu
