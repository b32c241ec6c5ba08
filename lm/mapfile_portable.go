//go:build !unix

package lm

// mapFile reads a file where files cannot be mapped.
func mapFile(path string) (data []byte, unmap func(), err error) { return readFile(path) }
