//go:build cgo

package kernels

/*
#cgo noescape k_decode
#cgo nocallback k_decode
#include "decode.h"
#include "half.h"

static void k_decode(int level, decode_job *job, int64_t thread) {
#if defined(__x86_64__)
	int64_t half = ((const decode_model *)job->model)->half;
	if (half == TILED) { decode_amx(job, thread); return; }
	if (level == 1) { decode_avx2(job, thread); return; }
	if (level == 2 && half && half_supported()) { decode_avx512_bf16(job, thread); return; }
	if (level >= 2) { decode_avx512(job, thread); return; }
#elif defined(__aarch64__)
	if (level == 4 && ((const decode_model *)job->model)->half) { decode_neon_bf16(job, thread); return; }
#endif
	decode_portable(job, thread);
}
*/
import "C"

import (
	"sync"
	"unsafe"
)

// Sizes of a packed panel of weights and of a block of cache nodes.
const (
	Panel = C.PANEL // columns
	Nodes = C.NODES
)

// What a DecodeJob computes from logits.
const (
	PickNothing = C.PICK_NOTHING
	PickBest    = C.PICK_BEST
	PickLogSum  = C.PICK_LOG_SUM
)

// How Panels are kept in bfloat16.
const (
	Pairs = C.PAIRS
	Tiled = C.TILED
)

// The types of decode.h, where their fields are described. Addresses are of
// heap memory that the caller keeps alive.
type (
	// Panels is a packed weight [N, K].
	Panels struct {
		Data       uintptr
		N, K, Half int64
	}

	// DecodeLayer is a layer's weights.
	DecodeLayer struct {
		QKV, Out, Up, Down                 Panels
		QKVDown, OutDown, UpDown, DownDown Panels
		QKVBias                            uintptr
		Norm1, Norm2                       uintptr
	}

	// DecodeModel is a model's sizes and weights.
	DecodeModel struct {
		Layers, Hidden, Heads, KVHeads, HeadDim, Inner int64
		Eps, Scale                                     float32
		Layer                                          uintptr
		Norm                                           uintptr
		Head                                           Panels
		Cos, Sin                                       uintptr
		Half                                           int64
	}

	// Seen names nodes of a block of the cache: those of the set bits.
	Seen struct {
		Block int32
		Mask  uint32
	}

	// DecodeJob is one forward. It must not be on a stack.
	DecodeJob struct {
		Model                      uintptr
		Tokens                     int64
		Position, Node             uintptr
		Seen, SeenFrom             uintptr
		Outputs                    int64
		Output                     uintptr
		Keys, Values               uintptr
		Blocks                     int64
		X, Y, H, QKV, Inner        uintptr
		Logits                     uintptr
		Pick                       int64
		Best, LogSum               uintptr
		Scores                     uintptr
		ScoresSize                 int64
		Threads                    int64
		next, limit, done, stopped int64
	}
)

// These fail to compile where a type differs in size from its C original.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(DecodeLayer{})-C.sizeof_decode_layer]
	_ = [1]struct{}{}[unsafe.Sizeof(DecodeModel{})-C.sizeof_decode_model]
	_ = [1]struct{}{}[unsafe.Sizeof(DecodeJob{})-C.sizeof_decode_job]
	_ = [1]struct{}{}[unsafe.Sizeof(Seen{})-C.sizeof_seen]
)

// Decode runs a job on its number of threads.
func Decode(job *DecodeJob) {
	job.next, job.limit, job.done, job.stopped = 0, 0, 0, 0
	run := func(thread int64) {
		C.k_decode(C.int(level), (*C.decode_job)(unsafe.Pointer(job)), C.int64_t(thread))
	}
	var helpers sync.WaitGroup
	for thread := int64(1); thread < job.Threads; thread++ {
		helpers.Go(func() { run(thread) })
	}
	run(0)
	helpers.Wait()
}
