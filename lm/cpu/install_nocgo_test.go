//go:build !cgo

package cpu_test

import (
	"testing"

	"github.com/esclab/esclab/lm/cpu"
)

func TestInstallWithoutCgo(t *testing.T) {
	status, err := cpu.Install(cpu.Options{})
	if err != nil || status.Active() || status.Reason == "" {
		t.Errorf("got %+v, %v, want no kernels and the reason", status, err)
	}
	if _, err := cpu.Install(cpu.Options{Kernels: "fast"}); err == nil {
		t.Error("unknown kernels give no error")
	}
}
