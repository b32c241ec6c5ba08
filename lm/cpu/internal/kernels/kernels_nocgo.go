//go:build !cgo

// Package kernels is empty in a build without cgo: lm/cpu then installs nothing.
package kernels
