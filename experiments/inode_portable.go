//go:build !unix

package experiments

import "io/fs"

// inode is 0: this system has no inodes.
func inode(fs.FileInfo) uint64 { return 0 }
