package engines

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChoices: kernels are chosen by timing only where that is asked for and the plugin keeps what it chooses.
func TestChoices(t *testing.T) {
	dir := t.TempDir()
	plugin := func(name, content string) Plugin {
		touch(t, dir, name)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return PluginAt(path)
	}
	able := plugin("able/pjrt_c_api_cuda_plugin.so", "xla_gpu_autotune_level xla_gpu_per_fusion_autotune_cache_dir")
	old := plugin("old/pjrt_c_api_cuda_plugin.so", "xla_gpu_autotune_level")
	cpu := plugin("pjrt_c_api_cpu_plugin.so", "xla_gpu_per_fusion_autotune_cache_dir")
	asked := func(name string) string { return map[string]string{EnvAutotune: "1"}[name] }
	never := func(string) string { return "" }

	if got, err := able.Choices(never, dir); got != "" || err != nil {
		t.Errorf("not asked for: %q, %v; want nothing", got, err)
	}
	for _, p := range []Plugin{old, cpu} {
		if _, err := p.Choices(asked, dir); err == nil || !strings.Contains(err.Error(), flagAutotuneCache) {
			t.Errorf("%s: error %v, want one that names the flag that it lacks", p.Path, err)
		}
	}
	kept, err := able.Choices(asked, dir)
	if err != nil || !strings.HasPrefix(kept, filepath.Join(dir, "xla-autotune")+string(filepath.Separator)) {
		t.Fatalf("choices are kept in %q, %v; want a directory below the data directory", kept, err)
	}
	flags := able.Environment(never, kept)[0].Value
	if want := "--xla_gpu_per_fusion_autotune_cache_dir=" + kept + " --xla_gpu_autotune_level=4"; flags != want {
		t.Errorf("flags %q, want %q", flags, want)
	}
	if got := able.Environment(never, "")[0].Value; got != "--xla_gpu_autotune_level=0" {
		t.Errorf("flags %q where nothing is timed, want level 0", got)
	}
	empty, err := ChoicesDigest(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kept, "choice"), []byte("a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ChoicesDigest(kept); err != nil || got == empty {
		t.Errorf("a choice more leaves the digest at %s, %v", got, err)
	}
}

func TestDeviceModels(t *testing.T) {
	dir := t.TempDir()
	if got := fileName(deviceModels(dir)); got != "unknown" {
		t.Errorf("without a driver: %q, want unknown", got)
	}
	for name, model := range map[string]string{"0": "NVIDIA H200", "1": "NVIDIA H200", "2": "NVIDIA A100-SXM4-80GB"} {
		touch(t, dir, name+"/information")
		if err := os.WriteFile(filepath.Join(dir, name, "information"), []byte("Model: \t\t "+model+"\nIRQ: 5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fileName(deviceModels(dir)), "nvidia-a100-sxm4-80gb-nvidia-h200"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
