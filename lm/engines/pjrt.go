package engines

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variables that finding and loading a PJRT plugin reads.
const (
	EnvPluginPath   = "PJRT_PLUGIN_LIBRARY_PATH" // directories of plugins, as go-xla and PJRT name it
	EnvSitePackages = "ESCLAB_SITE_PACKAGES"     // directories of Python packages, instead of those searched
	EnvXLAFlags     = "XLA_FLAGS"
	EnvCUDAChecks   = "GOPJRT_CUDA_CHECKS"
)

// Plugin is a PJRT plugin on this machine.
type Plugin struct {
	Path string // absolute
	// SitePackages is the directory of the Python packages that it belongs to; "" where it stands alone.
	SitePackages string
}

// FindPlugin looks for the PJRT plugin of a device (cuda, cpu, …): in the directories of PJRT_PLUGIN_LIBRARY_PATH, in
// go-xla's, then, for cuda, among the Python packages of jax. looked are the places, for the one who misses it.
func FindPlugin(device string, env func(string) string) (p Plugin, found bool, looked []string) {
	var dirs []string
	for _, dir := range filepath.SplitList(env(EnvPluginPath)) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	if home := env("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".local/lib/go-xla"), filepath.Join(home, ".local/lib/gomlx/pjrt"))
	}
	dirs = append(dirs, "/usr/local/lib/go-xla", "/usr/local/lib/gomlx/pjrt")
	for _, dir := range dirs {
		looked = append(looked, dir)
		// The names that go-xla knows, plain or with a version, and jax's.
		for _, pattern := range []string{"pjrt_c_api_%s_plugin.so", "pjrt_c_api_%s_v*_plugin.so", "pjrt-plugin-%s.so", "xla_%s_plugin.so"} {
			if path, ok := newest(filepath.Join(dir, fmt.Sprintf(pattern, device))); ok {
				return Plugin{Path: path}, true, looked
			}
		}
	}
	if device != "cuda" {
		return p, false, looked
	}
	for _, site := range sitePackages(env) {
		looked = append(looked, site)
		if path, ok := newest(filepath.Join(site, "jax_plugins/xla_cuda*/xla_cuda_plugin.so")); ok {
			return Plugin{Path: path, SitePackages: site}, true, looked
		}
	}
	return p, false, looked
}

// PluginAt describes a plugin given by its path.
func PluginAt(path string) Plugin {
	p := Plugin{Path: path}
	if packages := filepath.Dir(filepath.Dir(path)); filepath.Base(packages) == "jax_plugins" {
		p.SitePackages = filepath.Dir(packages)
	}
	return p
}

// newest is the last of a pattern's files by name: cuda13 before cuda12.
func newest(pattern string) (string, bool) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return "", false
	}
	path, err := filepath.Abs(slices.Max(found))
	return path, err == nil
}

// sitePackages lists directories of Python packages: what ESCLAB_SITE_PACKAGES names, or those of the environments
// that are active, of the user, and of the Pythons on the PATH and of the system.
func sitePackages(env func(string) string) []string {
	if list := env(EnvSitePackages); list != "" {
		return filepath.SplitList(list)
	}
	roots := []string{env("VIRTUAL_ENV"), env("CONDA_PREFIX")}
	if home := env("HOME"); home != "" {
		roots = append(roots, filepath.Join(home, ".local"))
	}
	for _, dir := range filepath.SplitList(env("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "python3")); err == nil {
			roots = append(roots, filepath.Dir(dir))
		}
	}
	roots = append(roots, "/usr/local", "/usr")
	var dirs []string
	for _, root := range roots {
		if root == "" {
			continue
		}
		for _, pattern := range []string{"lib/python3*/site-packages", "lib/python3*/dist-packages"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern)) // only fails on a bad pattern
			for _, dir := range found {
				dir, err := filepath.EvalSymlinks(dir) // /lib is often /usr/lib
				if err == nil && !slices.Contains(dirs, dir) {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	return dirs
}

// Variable is an environment variable that an engine reads.
type Variable struct {
	Name, Value string
	Set         bool // by us: it was missing
}

// String is NAME=value, and says where the value is ours or missing.
func (v Variable) String() string {
	switch {
	case v.Set:
		return v.Name + "=" + v.Value + " (set by esclab)"
	case v.Value == "":
		return v.Name + " (not set)"
	}
	return v.Name + "=" + v.Value
}

// cudaDirs are where NVIDIA's wheels keep libdevice and ptxas, for a plugin of CUDA 13 and of CUDA 12.
func (p Plugin) cudaDirs() []string {
	if strings.Contains(filepath.Base(filepath.Dir(p.Path)), "cuda12") {
		return []string{"nvidia/cuda_nvcc"}
	}
	return []string{"nvidia/cu13", "nvidia/cuda_nvcc"}
}

// cudaFlags are XLA's flags that a CUDA plugin is started with.
//
// Matrix products go to cuBLAS, by its own choice of algorithm. Left alone, XLA compiles dozens of Triton kernels for
// each shape of product and times them: on an H200 the graphs of a model of 4 million parameters took longer than a
// minute each. And a choice that is timed differs from process to process, so that a training that is resumed would not
// be the one that was stopped, bit by bit.
var cudaFlags = []struct{ name, value string }{
	{"xla_gpu_enable_triton_gemm", "false"},
	{flagAutotuneLevel, "0"},
}

// Environment lists what has to stand in the environment before a CUDA plugin is loaded: flags that make compiling
// quick and repeatable, and, for a plugin of Python packages, where CUDA's own tools are and no check for a layout that
// these packages do not have. With a directory for choices (Choices) kernels are timed and their choice kept there. What is
// there already stays.
func (p Plugin) Environment(env func(string) string, choices string) []Variable {
	flags := Variable{Name: EnvXLAFlags, Value: env(EnvXLAFlags)}
	checks := Variable{Name: EnvCUDAChecks, Value: env(EnvCUDAChecks)}
	add := func(name, value string) {
		if !strings.Contains(flags.Value, "--"+name) {
			flags.Value, flags.Set = strings.TrimSpace(flags.Value+" --"+name+"="+value), true
		}
	}
	if p.SitePackages != "" {
		for _, dir := range p.cudaDirs() {
			dir = filepath.Join(p.SitePackages, filepath.FromSlash(dir))
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				add("xla_gpu_cuda_data_dir", dir)
			}
		}
		if checks.Value == "" {
			checks.Value, checks.Set = "0", true
		}
	}
	if p.cuda() {
		if choices != "" {
			add(flagAutotuneCache, choices)
			add(flagAutotuneLevel, "4")
		}
		for _, f := range cudaFlags {
			if knows(p.Path, f.name) {
				add(f.name, f.value)
			}
		}
	}
	return []Variable{flags, checks}
}

// cuda says whether the plugin is for CUDA, by its name.
func (p Plugin) cuda() bool {
	return strings.Contains(filepath.Base(filepath.Dir(p.Path))+filepath.Base(p.Path), "cuda")
}

// knows says whether a plugin has a flag: its name is in the file. XLA ends the process over one that it does not know,
// and flags come and go with its versions.
func knows(path, flag string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	const block = 1 << 20
	buffer, kept := make([]byte, block+len(flag)), 0
	for {
		n, err := file.Read(buffer[kept : kept+block])
		if bytes.Contains(buffer[:kept+n], []byte(flag)) {
			return true
		}
		if err != nil {
			return false
		}
		// The end goes before the next block: a name may be cut.
		tail := min(len(flag)-1, kept+n)
		copy(buffer, buffer[kept+n-tail:kept+n])
		kept = tail
	}
}
