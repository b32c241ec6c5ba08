//go:build cgo

package cpu

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// parallel runs the tasks 0..n-1 on up to threads goroutines, of which the
// caller is one. Tasks write apart from each other, and what a task computes
// does not depend on who runs it: the outcome is the same for any threads.
func (s *state) parallel(n int, task func(i int)) {
	workers := min(s.threads, n)
	if workers <= 1 {
		for i := range n {
			task(i)
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			task(i)
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// ranges splits n items of the given cost each (about one per element touched)
// into ranges and runs them in parallel.
func (s *state) ranges(n, cost int, task func(begin, end int)) {
	const grain = 1 << 15
	if n <= 0 {
		return
	}
	tasks := 1
	if s.threads > 1 {
		tasks = min(n, 4*s.threads, n*cost/grain)
	}
	if tasks <= 1 {
		task(0, n)
		return
	}
	s.parallel(tasks, func(i int) { task(i*n/tasks, (i+1)*n/tasks) })
}

// scratch holds byte buffers by size, which is a power of two: kernels of other
// instruction sets need others.
var scratch sync.Map // int -> *sync.Pool of *[]byte

// withScratch calls fn with size bytes of memory, aligned to 64.
func withScratch(size int, fn func(memory unsafe.Pointer)) {
	bucket := 1 << bits.Len(uint(size+63))
	pool, ok := scratch.Load(bucket)
	if !ok {
		pool, _ = scratch.LoadOrStore(bucket, &sync.Pool{New: func() any {
			b := make([]byte, bucket)
			onLargePages(b)
			return &b
		}})
	}
	b := pool.(*sync.Pool).Get().(*[]byte)
	begin := unsafe.Pointer(unsafe.SliceData(*b))
	fn(unsafe.Add(begin, -uintptr(begin)%64))
	pool.(*sync.Pool).Put(b)
}

// withWorkspace calls fn with the packing buffer of the matrix product.
func withWorkspace(fn func(work *float32)) {
	withScratch(4*kernels.GemmWork(), func(memory unsafe.Pointer) { fn((*float32)(memory)) })
}
