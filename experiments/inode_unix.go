//go:build unix

package experiments

import (
	"io/fs"
	"syscall"
)

// inode is a file's number in its file system, 0 where the system tells none.
func inode(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino) //nolint:unconvert // of another type on some systems
	}
	return 0
}
