package lm

import "github.com/esclab/esclab/lm/cpu"

// installKernels puts our own kernels under the Go backend's operations, once a process, and names what it chose
// (for example "avx2"); "" means the stock operations. ESCLAB_CPU_KERNELS chooses otherwise.
func installKernels() (string, error) {
	status, err := cpu.Install(cpu.Options{})
	if err != nil || !status.Active() {
		return "", err
	}
	return status.Kernels, nil
}
