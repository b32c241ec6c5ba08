package memory

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// TestLimitHeap: the heap is limited where the system tells its memory, unless GOMEMLIMIT says how.
func TestLimitHeap(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "1GiB")
	LimitHeap()
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("beside GOMEMLIMIT the limit is %d, want it untouched", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	LimitHeap()
	available := AvailableBytes()
	if available == 0 {
		t.Skip("needs Linux's /proc")
	}
	if got := debug.SetMemoryLimit(-1); got == math.MaxInt64 || float64(got) < heapShare*float64(available) {
		t.Errorf("the limit is %d, want a share of the memory, of which %d are available", got, available)
	}
}

// TestGroupLeft: a control group's limit counts, where it has one.
func TestGroupLeft(t *testing.T) {
	for _, test := range []struct {
		max, current string
		left         int64
		ok           bool
	}{{"1000", "400", 600, true}, {"1000", "1400", 0, true}, {"max", "400", 0, false}, {"", "400", 0, false}} {
		root := t.TempDir()
		dir := filepath.Join(root, "user", "job")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"memory.max": test.max, "memory.current": test.current} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		membership := filepath.Join(root, "cgroup")
		if err := os.WriteFile(membership, []byte("0::/user/job\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		left, ok := groupLeft(membership, root)
		if ok != test.ok || ok && left != test.left {
			t.Errorf("limit %q, used %q: %d left, known %v; want %d, %v", test.max, test.current, left, ok, test.left, test.ok)
		}
	}
}
