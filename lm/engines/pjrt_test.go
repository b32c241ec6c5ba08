package engines

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// touch makes an empty file below dir and returns its path.
func touch(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindPlugin(t *testing.T) {
	venv, home, plugins := t.TempDir(), t.TempDir(), t.TempDir()
	site := filepath.Join(venv, "lib/python3.12/site-packages")
	touch(t, site, "jax_plugins/xla_cuda12/xla_cuda_plugin.so")
	newest := touch(t, site, "jax_plugins/xla_cuda13/xla_cuda_plugin.so")
	named := touch(t, plugins, "pjrt_c_api_cuda_v0.83.1_plugin.so")
	goxla := touch(t, home, ".local/lib/go-xla/pjrt_c_api_cpu_plugin.so")
	for _, c := range []struct {
		device string
		env    map[string]string
		want   string
		site   string
	}{
		{"cuda", map[string]string{"VIRTUAL_ENV": venv}, newest, site},
		{"cuda", map[string]string{"CONDA_PREFIX": venv}, newest, site},
		{"cuda", map[string]string{EnvSitePackages: site}, newest, site},
		{"cuda", map[string]string{"VIRTUAL_ENV": venv, EnvPluginPath: ":" + plugins}, named, ""},
		{"cuda", map[string]string{"VIRTUAL_ENV": venv, EnvSitePackages: plugins}, "", ""},
		{"cpu", map[string]string{"HOME": home}, goxla, ""},
		{"cpu", map[string]string{"VIRTUAL_ENV": venv, "HOME": venv}, "", ""},
	} {
		p, found, looked := FindPlugin(c.device, func(name string) string { return c.env[name] })
		if p.Path != c.want || p.SitePackages != c.site || found != (c.want != "") || len(looked) == 0 {
			t.Errorf("%s with %v: %+v, %v, looked in %v", c.device, c.env, p, found, looked)
		}
	}
	// A Python on the PATH that is no active environment.
	touch(t, venv, "bin/python3")
	if p, _, _ := FindPlugin("cuda", func(name string) string {
		return map[string]string{"PATH": "/nowhere:" + filepath.Join(venv, "bin")}[name]
	}); p.Path != newest {
		t.Errorf("by PATH: %+v", p)
	}
	if p := PluginAt(newest); p.SitePackages != site {
		t.Errorf("by its path: %+v", p)
	}
	if p := PluginAt(named); p.SitePackages != "" {
		t.Errorf("alone: %+v", p)
	}
}

func TestEnvironment(t *testing.T) {
	site := t.TempDir()
	touch(t, site, "nvidia/cu13/x")
	touch(t, site, "nvidia/cuda_nvcc/x")
	environment := func(plugin string, env map[string]string) string {
		p := PluginAt(filepath.Join(site, "jax_plugins", plugin, "xla_cuda_plugin.so"))
		var list []string
		for _, v := range p.Environment(func(name string) string { return env[name] }, "") {
			list = append(list, strings.ReplaceAll(v.String(), site, "SITE"))
		}
		return strings.Join(list, "; ")
	}
	for _, c := range []struct {
		plugin string
		env    map[string]string
		want   string
	}{
		{"xla_cuda13", nil, "XLA_FLAGS=--xla_gpu_cuda_data_dir=SITE/nvidia/cu13 (set by esclab); GOPJRT_CUDA_CHECKS=0 (set by esclab)"},
		{"xla_cuda12", nil, "XLA_FLAGS=--xla_gpu_cuda_data_dir=SITE/nvidia/cuda_nvcc (set by esclab); GOPJRT_CUDA_CHECKS=0 (set by esclab)"},
		{"xla_cuda13", map[string]string{EnvXLAFlags: "--a", EnvCUDAChecks: "1"},
			"XLA_FLAGS=--a --xla_gpu_cuda_data_dir=SITE/nvidia/cu13 (set by esclab); GOPJRT_CUDA_CHECKS=1"},
		{"xla_cuda13", map[string]string{EnvXLAFlags: "--xla_gpu_cuda_data_dir=/cuda"},
			"XLA_FLAGS=--xla_gpu_cuda_data_dir=/cuda; GOPJRT_CUDA_CHECKS=0 (set by esclab)"},
	} {
		if got := environment(c.plugin, c.env); got != c.want {
			t.Errorf("%s with %v:\n%s, want\n%s", c.plugin, c.env, got, c.want)
		}
	}
	// Flags that a plugin knows, wherever they stand in it; none that it does not know.
	for _, at := range []int{0, 1<<20 - 10, 1<<20 - 1, 3 << 20} {
		path := filepath.Join(t.TempDir(), "pjrt_c_api_cuda_plugin.so")
		content := slices.Concat(make([]byte, at), []byte("xla_gpu_enable_triton_gemm\x00xla_gpu_autotune"), make([]byte, 100))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		for given, want := range map[string]string{
			"":                                  "--xla_gpu_enable_triton_gemm=false",
			"--a=b":                             "--a=b --xla_gpu_enable_triton_gemm=false",
			"--xla_gpu_enable_triton_gemm=true": "--xla_gpu_enable_triton_gemm=true",
		} {
			got := PluginAt(path).Environment(func(name string) string { return map[string]string{EnvXLAFlags: given}[name] }, "")[0]
			if got.Value != want || got.Set != (given != want) {
				t.Errorf("flag at %d, XLA_FLAGS=%q: %v, want %q", at, given, got, want)
			}
		}
	}
	for _, v := range (Plugin{Path: "/somewhere/pjrt_c_api_cuda_plugin.so"}).Environment(func(string) string { return "" }, "") {
		if v.Set || !strings.HasSuffix(v.String(), "(not set)") {
			t.Errorf("a plugin that stands alone: %v, want it not set", v)
		}
	}
}
