// Package memory tells how much memory the process has held.
package memory

import (
	"os"
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
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
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
