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
	empty, err := ReadChoices(kept)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, kept, "tmp/unfinished")
	touch(t, kept, "device/.tmp_unfinished")
	if err := os.WriteFile(filepath.Join(kept, "choice"), []byte("a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	chosen, err := ReadChoices(kept)
	if err != nil || chosen.Digest() == empty.Digest() || len(chosen.Files) != 1 {
		t.Errorf("of one choice %v are read (%v), want another digest than that of none", chosen.Files, err)
	}

	// Another machine of the same type takes them over, one of another type does not, and what is there stays.
	chosen.Files["device/second"] = []byte("another kernel")
	for _, place := range []string{chosen.Place, "000000000000-nvidia-a100"} {
		other := filepath.Join(t.TempDir(), place)
		if err := os.MkdirAll(other, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(other, "choice"), []byte("its own"), 0o600); err != nil {
			t.Fatal(err)
		}
		others, err := chosen.Add(other)
		got, readErr := ReadChoices(other)
		want, wantOthers := map[string]string{"choice": "its own", "device/second": "another kernel"}, 1
		if place != chosen.Place {
			want, wantOthers = map[string]string{"choice": "its own"}, 2
		}
		if err != nil || readErr != nil || others != wantOthers || len(got.Files) != len(want) {
			t.Errorf("%s: has %v, of which %d are others' (%v, %v), want %v and %d", place, got.Files, others, err, readErr, want, wantOthers)
		}
		for name, kernel := range want {
			if string(got.Files[name]) != kernel {
				t.Errorf("%s: %s is %q, want %q", place, name, got.Files[name], kernel)
			}
		}
	}
	for _, name := range []string{"../outside", "/outside", "a/../../outside", "..", ".", ""} {
		if _, err := (Chosen{chosen.Place, map[string][]byte{name: nil}}).Add(kept); err == nil {
			t.Errorf("a choice named %q is written", name)
		}
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
