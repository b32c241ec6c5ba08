package lm

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
)

// Engine runs graphs: one opened GoMLX backend. Safe for concurrent use; close it when done.
type Engine struct {
	Name    string          // go, onnx, xla:cuda or xla:cpu
	Version string          // of the engine's modules and library: results are bit-identical only within one
	Backend compute.Backend // what graphs are compiled for

	shapes atomic.Int64 // graphs compiled so far
}

// Engines lists what OpenEngine takes, but for auto.
var engineNames = []string{"go", "onnx", "xla:cuda", "xla:cpu"}

// EngineNames lists the engines by name, the one that always works first.
func EngineNames() []string { return append([]string(nil), engineNames...) }

// ErrEngineMissing says that an engine's library is not on this machine.
var ErrEngineMissing = errors.New("engine is not available")

// OpenEngine opens an engine by name: go (always there), onnx, xla:cuda, xla:cpu, xla:/path/to/plugin.so, or auto,
// which takes xla:cuda where a plugin is installed and go elsewhere. Nothing is ever downloaded: a missing
// library is ErrEngineMissing with the variable to set.
func OpenEngine(spec string) (*Engine, error) {
	switch {
	case spec == "" || spec == "auto":
		if engine, err := openXLA("cuda"); err == nil {
			return engine, nil
		}
		return openGo()
	case spec == "go":
		return openGo()
	case spec == "onnx":
		return openONNX()
	case strings.HasPrefix(spec, "xla:"):
		return openXLA(strings.TrimPrefix(spec, "xla:"))
	}
	return nil, fmt.Errorf("unknown engine %q: use auto, %s", spec, strings.Join(engineNames, ", "))
}

// Close releases the backend.
func (e *Engine) Close() { e.Backend.Finalize() }

// CompiledShapes is the number of graphs this engine has compiled.
func (e *Engine) CompiledShapes() int { return int(e.shapes.Load()) }

// openGo opens GoMLX's Go backend with our kernels under its operations, where they can be installed.
func openGo() (*Engine, error) {
	kernels, err := installKernels()
	if err != nil {
		return nil, fmt.Errorf("engine go: %w", err)
	}
	// One operation at a time: our kernels spread each over the cores themselves, decoding takes half the processor
	// time, and the backend's worker pool, which deadlocks on LoRA graphs (ready nodes fill it, then each waits for a
	// slot for its own matrix product), is never full. creation_order keeps peak memory low.
	backend, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		return nil, fmt.Errorf("engine go: %w", err)
	}
	version := "compute " + moduleVersion("github.com/gomlx/compute") + " " + runtime.GOARCH
	if kernels != "" {
		version += " " + kernels
	}
	return &Engine{Name: "go", Version: version, Backend: backend}, nil
}

// moduleVersion is the version of a module in this binary, or "unknown".
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return m.Replace.Version
			}
			return m.Version
		}
	}
	return "unknown"
}
