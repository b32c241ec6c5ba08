//go:build !cgo

package cpu

import "fmt"

// Install does nothing in a build without cgo.
func Install(o Options) (Status, error) {
	switch o.kernels() {
	case "", "off", "portable", "avx2", "avx512", "amx", "neon":
		return Status{Kernels: "off", Reason: "built without cgo"}, nil
	}
	return Status{Kernels: "off"}, fmt.Errorf("cpu: %s=%q is none of off, portable, avx2, avx512, amx, neon", EnvKernels, o.kernels())
}

// MultipliesHalf is false in a build without cgo.
func MultipliesHalf() bool { return false }
