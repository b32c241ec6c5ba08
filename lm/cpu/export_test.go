//go:build cgo

package cpu

import (
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of this thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Profile wraps every executor with a clock of the
// calling thread's processor time, until the returned function is
// called; that one gives the time by operation and shapes, longest first.
func Profile() (stop func(top int) string) {
	var mu sync.Mutex
	type entry struct {
		n int
		t time.Duration
	}
	times := map[string]*entry{}
	ops := map[string]*entry{}
	saved := nodeExecutors
	add := func(m map[string]*entry, k string, d time.Duration) {
		if m[k] == nil {
			m[k] = &entry{}
		}
		m[k].n++
		m[k].t += d
	}
	for op, fn := range nodeExecutors {
		if fn == nil {
			continue
		}
		_ = op
		nodeExecutors[op] = func(b *backend, n *node, in []*buffer, owned []bool) (*buffer, error) {
			key := n.OpType.String()
			for _, i := range in {
				key += fmt.Sprint(i.RawShape.Dimensions)
			}
			key += "->" + fmt.Sprint(n.Shape.Dimensions)
			if axes, ok := n.Data.([]int); ok {
				key += fmt.Sprint(axes)
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			start := threadTime()
			out, err := fn(b, n, in, owned)
			d := threadTime() - start
			mu.Lock()
			add(times, key, d)
			add(ops, n.OpType.String(), d)
			mu.Unlock()
			return out, err
		}
	}
	return func(top int) string {
		nodeExecutors = saved
		var sb strings.Builder
		for _, m := range []map[string]*entry{ops, times} {
			var keys []string
			var total time.Duration
			for k := range m {
				keys = append(keys, k)
				total += m[k].t
			}
			sort.Slice(keys, func(i, j int) bool { return m[keys[i]].t > m[keys[j]].t })
			fmt.Fprintf(&sb, "total %v\n", total)
			for i, k := range keys {
				if i < top {
					fmt.Fprintf(&sb, "%9.2fms %5d %s\n", m[k].t.Seconds()*1e3, m[k].n, k)
				}
			}
		}
		return sb.String()
	}
}

// Count counts the executed nodes by operation, until the returned function is
// called.
func Count() (stop func() map[string]int) {
	var mu sync.Mutex
	counts := map[string]int{}
	saved := nodeExecutors
	for op, fn := range nodeExecutors {
		if fn == nil {
			continue
		}
		nodeExecutors[op] = func(b *backend, n *node, in []*buffer, owned []bool) (*buffer, error) {
			mu.Lock()
			counts[n.OpType.String()]++
			mu.Unlock()
			return fn(b, n, in, owned)
		}
	}
	return func() map[string]int {
		nodeExecutors = saved
		return counts
	}
}

// SameLayout exposes sameLayout.
var SameLayout = sameLayout
