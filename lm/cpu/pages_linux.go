//go:build cgo

package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePage is the size of large pages on most machines; elsewhere the advice is worth less.
const largePage = 2 << 20

// onLargePages asks that what has no memory yet of large ones gets large pages. Operations stream their buffers: small
// pages were measured to cost a quarter of the speed or more, and faults for each of them.
func onLargePages(memory []byte) {
	if len(memory) < 2*largePage {
		return
	}
	from := -uintptr(unsafe.Pointer(unsafe.SliceData(memory))) & (largePage - 1)
	_ = unix.Madvise(memory[from:], unix.MADV_HUGEPAGE) // advice
}

// largePages returns zeroed memory, on large pages where the system has some, and what gives it back.
func largePages(size int) (data []byte, release func()) {
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, size), func() {}
	}
	onLargePages(data)
	return data, func() { _ = unix.Munmap(data) }
}
