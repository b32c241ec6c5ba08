//go:build cgo && linux && (amd64 || arm64)

package lm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	onnxbackend "github.com/gomlx/compute-onnx"
	"github.com/gomlx/compute-onnx/support/onnxruntime"
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"

	"github.com/esclab/esclab/lm/engines"
)

// envONNX names ONNX Runtime's library before any other.
const envONNX = "ONNXRUNTIME_SHARED_LIBRARY_PATH"

// openONNX opens ONNX Runtime on the CPU: the library that ONNXRUNTIME_SHARED_LIBRARY_PATH names, the one installed
// below dataDir, or the one in GoMLX's install directory. A process loads one library: the first that was opened.
func openONNX(dataDir string) (*Engine, error) {
	variables := []engines.Variable{{Name: envONNX, Value: os.Getenv(envONNX)}}
	missing := func(cause error) error {
		return &EngineError{Engine: "onnx", Cause: cause, Variables: variables,
			Remedy: `run "esclab engine install onnx", or set ` + envONNX + " to libonnxruntime.so"}
	}
	path, err := findONNX(dataDir)
	if err != nil {
		return nil, missing(err)
	}
	digest, err := engines.Digest(path)
	if err != nil {
		return nil, missing(err)
	}
	onnxbackend.EnableAutoInstall(false)
	backend, err := onnxbackend.New("cpu," + path)
	if err != nil {
		return nil, missing(err)
	}
	version := "compute-onnx " + moduleVersion("github.com/gomlx/compute-onnx")
	if b, ok := backend.(interface{ Version() string }); ok {
		version += " onnxruntime " + b.Version()
	}
	// Builds of one version differ: the bytes say which it was.
	e := &Engine{Name: "onnx", Version: version + " sha256:" + digest[:12], Library: path, Backend: backend, Variables: variables,
		builder: onnxGraphs{backend}}
	if err := e.tryGraph(); err != nil {
		e.Close()
		return nil, missing(err)
	}
	return e, nil
}

// findONNX finds ONNX Runtime's library.
func findONNX(dataDir string) (string, error) {
	if path := os.Getenv(envONNX); path != "" {
		return filepath.Abs(path)
	}
	path, _, err := engines.OpenONNX(dataDir)
	if !errors.Is(err, engines.ErrNotInstalled) {
		return path, err
	}
	dir, err := onnxruntime.GetInstallPath()
	if err != nil {
		return "", errors.New("no library of ONNX Runtime is installed")
	}
	path = filepath.Join(dir, "libonnxruntime.so")
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("no library of ONNX Runtime is installed")
	}
	return path, nil
}

// openXLA opens a PJRT plugin by name (cuda, cpu) or absolute path; the one for cpu that is installed below dataDir,
// unless PJRT_PLUGIN_LIBRARY_PATH is set; see engines.FindPlugin for where names are
// looked for. float32 products stay float32 (no TF32).
func openXLA(plugin, dataDir string) (*Engine, error) {
	name := "xla:" + plugin
	variables := []engines.Variable{{Name: engines.EnvPluginPath, Value: os.Getenv(engines.EnvPluginPath)}}
	if plugin == "cuda" {
		variables = append(variables, engines.Variable{Name: engines.EnvSitePackages, Value: os.Getenv(engines.EnvSitePackages)})
	}
	missing := func(cause error) error {
		return &EngineError{Engine: name, Cause: cause, Variables: variables, Remedy: xlaRemedy(plugin)}
	}
	found := engines.Plugin{Path: plugin}
	var installed string
	if plugin == "cpu" && os.Getenv(engines.EnvPluginPath) == "" {
		path, _, err := engines.OpenXLACPU(dataDir)
		if err != nil && !errors.Is(err, engines.ErrNotInstalled) {
			return nil, missing(err)
		}
		installed = path
	}
	if installed != "" {
		found.Path = installed
	} else if filepath.IsAbs(plugin) {
		if _, err := os.Stat(plugin); err != nil {
			return nil, missing(err)
		}
		found = engines.PluginAt(plugin)
	} else {
		var ok bool
		var looked []string
		if found, ok, looked = engines.FindPlugin(plugin, os.Getenv); !ok {
			return nil, missing(fmt.Errorf("no PJRT plugin in %s", strings.Join(looked, ", ")))
		}
		if plugin == "cuda" && !hasGPU() {
			return nil, missing(fmt.Errorf("there is %s, but no NVIDIA device (/dev/nvidia*)", found.Path))
		}
	}
	// The plugin's libraries read the environment; there is no other way to tell them.
	choices, err := found.Choices(os.Getenv, dataDir)
	if err != nil {
		return nil, missing(err)
	}
	environment := found.Environment(os.Getenv, choices)
	variables = append(variables, environment...)
	for _, v := range environment {
		if v.Set {
			if err := os.Setenv(v.Name, v.Value); err != nil {
				return nil, missing(err)
			}
		}
	}
	e, err := startXLA(found.Path)
	if err != nil {
		return nil, missing(fmt.Errorf("%s: %w", found.Path, err))
	}
	e.Name, e.Variables = name, variables
	if choices != "" {
		chosen, err := engines.ReadChoices(choices)
		if err != nil {
			e.Close()
			return nil, missing(err)
		}
		e.Version += " autotune " + chosen.Digest()[:12]
		e.ChoicesDir = choices
	}
	return e, nil
}

// deviceMemory is the share of a CUDA device's memory that its one process may take; XLA's own default is 0.75.
const deviceMemory = 0.92

// xlaGraphs counts the changes of what graphs for XLA compute, in bits: 3, since products with matrices of a base in
// bfloat16 that read the same input are one, with the adapter's added before the result is rounded.
const xlaGraphs = 3

// startXLA loads a plugin and tries it.
func startXLA(path string) (e *Engine, err error) {
	defer recovered("start", &err)
	xla.EnableAutoInstall(false)
	options := ",tf32=false"
	if pjrt.IsCUDAName(path) {
		options += fmt.Sprintf(",memory_fraction=%v", deviceMemory)
	}
	backend, err := xla.New(path + options)
	if err != nil {
		return nil, err
	}
	loaded, err := pjrt.GetPlugin(path) // the one that New loaded
	if err != nil {
		backend.Finalize()
		return nil, err
	}
	major, minor := loaded.Version()
	version := fmt.Sprintf("go-xla %s PJRT %d.%d graphs %d", moduleVersion("github.com/gomlx/go-xla"), major, minor, xlaGraphs)
	if v, ok := loaded.Attributes()["xla_version"]; ok {
		version += fmt.Sprintf(" xla %v", v)
	}
	if b, ok := backend.(*xla.Backend); ok {
		version += " " + b.DeviceDescription(0) // bits depend on the card
	}
	e = &Engine{Version: version, Library: path, Backend: backend}
	if err := e.tryGraph(); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// xlaRemedy says how to get a plugin.
func xlaRemedy(plugin string) string {
	switch plugin {
	case "cuda":
		return fmt.Sprintf(`on a GPU host, pip install "jax[cuda13]" and name its site-packages in %s, or a plugin's directory in %s`,
			engines.EnvSitePackages, engines.EnvPluginPath)
	case "cpu":
		return fmt.Sprintf("esclab engine install xla:cpu, or put a pjrt_c_api_cpu_plugin.so into a directory that %s names", engines.EnvPluginPath)
	}
	return fmt.Sprintf("name a PJRT plugin by its absolute path, xla:/path/to/plugin.so, or its directory in %s", engines.EnvPluginPath)
}

// hasGPU says whether an NVIDIA device is there: loading a CUDA plugin without one only prints complaints.
func hasGPU() bool {
	for _, pattern := range []string{"/dev/nvidia[0-9]*", "/dev/dxg"} { // the latter below Windows
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
