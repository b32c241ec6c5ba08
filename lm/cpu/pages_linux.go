//go:build cgo

package cpu

import "golang.org/x/sys/unix"

// largePages returns zeroed memory, on large pages where the system has some, and what gives it back.
func largePages(size int) (data []byte, release func()) {
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, size), func() {}
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // advice
	return data, func() { _ = unix.Munmap(data) }
}
