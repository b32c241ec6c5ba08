//go:build cgo && !linux

package cpu

// onLargePages does nothing: only Linux takes such advice.
func onLargePages([]byte) {}

// largePages returns zeroed memory and what gives it back.
func largePages(size int) (data []byte, release func()) { return make([]byte, size), func() {} }
