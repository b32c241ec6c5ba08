//go:build unix

package lm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a file into memory for reading and returns a function that unmaps it: pages are read when they are
// touched, and cost no memory of the process that the system could not take back. The file must not shrink meanwhile;
// programs that replace checkpoints rename new files over old ones.
func mapFile(path string) (data []byte, unmap func(), err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }() // the mapping outlives it
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	size := info.Size()
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	case size == 0: // cannot be mapped
		return nil, func() {}, nil
	case int64(int(size)) != size:
		return nil, nil, fmt.Errorf("%s: %d bytes do not fit this machine's address space", path, size)
	}
	data, err = unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return readFile(path) // file systems without mappings
	}
	_ = unix.Madvise(data, unix.MADV_SEQUENTIAL) // advice
	return data, func() { _ = unix.Munmap(data) }, nil
}
