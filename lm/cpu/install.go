package cpu

import "os"

// EnvKernels is the environment variable that Install reads where its options
// name no kernels: off, portable, avx2, avx512, amx or neon; empty means the best
// that the machine runs.
const EnvKernels = "ESCLAB_CPU_KERNELS"

// Options of Install. The zero value takes the fastest kernels of the machine
// on all of its processors.
type Options struct {
	// Kernels is off, portable, avx2, avx512, amx or neon; empty reads EnvKernels.
	Kernels string
	// Threads bounds the goroutines of one operation; 0 means GOMAXPROCS.
	Threads int
}

// Status tells what Install did.
type Status struct {
	// Kernels is off, portable, avx2, avx512, amx or neon.
	Kernels string
	// Operations are the names of the replaced operations, sorted.
	Operations []string
	// Reason says why not all operations, or none, were replaced.
	Reason string
}

// Active tells whether any operation was replaced.
func (s Status) Active() bool { return len(s.Operations) > 0 }

func (o Options) kernels() string {
	if o.Kernels == "" {
		return os.Getenv(EnvKernels)
	}
	return o.Kernels
}
