// Package memory tells how much memory the process has held, and can still take.
package memory

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// ResetPeak gives free memory back and starts the process's peak anew, where
// the system lets it (Linux); elsewhere peaks are those since the start.
func ResetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // see proc(5); not everywhere
}

// PeakBytes is the process's peak resident memory (VmHWM); 0 where the system
// does not tell.
func PeakBytes() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return kilobytes(string(data), "VmHWM:")
}

// AvailableBytes is the memory that the process can still take without pushing anything out: the system's available
// memory (see proc(5)), or what its control group leaves where that is less; 0 where the system does not tell.
func AvailableBytes() int64 {
	available := int64(0)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		available = kilobytes(string(data), "MemAvailable:")
	}
	if left, ok := groupLeft("/proc/self/cgroup", "/sys/fs/cgroup"); ok && left < available {
		return left
	}
	return available
}

// heapShare of a machine's memory is what the heap may fill before the collector works harder.
const heapShare = 0.75

// LimitHeap has Go's garbage collector hold the process within a share of the machine's memory, or of its control
// group's where that is less: else a heap may grow to twice of what lives in it. GOMEMLIMIT, where it is set, holds.
func LimitHeap() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	total := int64(0)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		total = kilobytes(string(data), "MemTotal:")
	}
	if limit, _, ok := group("/proc/self/cgroup", "/sys/fs/cgroup"); ok && limit < total {
		total = limit
	}
	if total > 0 {
		debug.SetMemoryLimit(int64(heapShare * float64(total)))
	}
}

// groupLeft is what the process's control group leaves of its limit.
func groupLeft(membership, root string) (int64, bool) {
	limit, used, ok := group(membership, root)
	return max(0, limit-used), ok
}

// group gives the limit of the process's control group (version 2), where it has one, and what is used of it.
func group(membership, root string) (limit, used int64, ok bool) {
	data, err := os.ReadFile(membership)
	if err != nil {
		return 0, 0, false
	}
	_, path, ok := strings.Cut(string(data), "0::")
	if !ok {
		return 0, 0, false
	}
	dir := filepath.Join(root, strings.TrimSpace(path))
	limit, limited := number(filepath.Join(dir, "memory.max")) // "max" without one
	used, known := number(filepath.Join(dir, "memory.current"))
	return limit, used, limited && known
}

func number(file string) (int64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// kilobytes is the number behind a name, in bytes; 0 where it is not there.
func kilobytes(status, name string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			kb, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
