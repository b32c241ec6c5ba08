//go:build cgo && linux && (amd64 || arm64)

package lm

import (
	"fmt"
	"os"
	"path/filepath"

	onnxbackend "github.com/gomlx/compute-onnx"
	"github.com/gomlx/go-xla/compute/xla"
)

// openONNX opens ONNX Runtime on the CPU from ONNXRUNTIME_SHARED_LIBRARY_PATH or GoMLX's install directory.
func openONNX() (*Engine, error) {
	onnxbackend.EnableAutoInstall(false)
	backend, err := onnxbackend.New("cpu")
	if err != nil {
		return nil, fmt.Errorf("engine onnx: %w: set ONNXRUNTIME_SHARED_LIBRARY_PATH to libonnxruntime.so: %v", ErrEngineMissing, err)
	}
	version := "compute-onnx " + moduleVersion("github.com/gomlx/compute-onnx")
	if b, ok := backend.(interface{ Version() string }); ok {
		version += " onnxruntime " + b.Version()
	}
	return &Engine{Name: "onnx", Version: version, Backend: backend}, nil
}

// openXLA opens a PJRT plugin by name (cuda, cpu) or absolute path. By name, PJRT_PLUGIN_LIBRARY_PATH and the
// usual library directories are searched. float32 products stay float32 (no TF32).
func openXLA(plugin string) (*Engine, error) {
	name := "xla:" + plugin
	if filepath.IsAbs(plugin) {
		if _, err := os.Stat(plugin); err != nil {
			return nil, fmt.Errorf("engine %s: %w: %v", name, ErrEngineMissing, err)
		}
	}
	backend, err := xla.New(plugin + ",tf32=false")
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w: install a PJRT plugin and set PJRT_PLUGIN_LIBRARY_PATH to its directory, or name its path (xla:/path/to/plugin.so): %v",
			name, ErrEngineMissing, err)
	}
	version := "go-xla " + moduleVersion("github.com/gomlx/go-xla") + " " + backend.Description()
	return &Engine{Name: name, Version: version, Backend: backend}, nil
}
