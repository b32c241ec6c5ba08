package engines

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EnvAutotune, set to 1, has XLA choose the kernels of a CUDA device by timing them. A choice differs from process to
// process, and results with it in their last bits, so choices are kept and taken again.
const EnvAutotune = "ESCLAB_XLA_AUTOTUNE"

const (
	flagAutotuneLevel = "xla_gpu_autotune_level"
	flagAutotuneCache = "xla_gpu_per_fusion_autotune_cache_dir"
)

// Choices is the directory below the data directory where a plugin keeps the kernels that it has chosen on this
// machine's devices; it exists. "" where EnvAutotune does not ask for it, or without a data directory. A plugin that could
// not keep its choices is an error.
func (p Plugin) Choices(env func(string) string, dataDir string) (dir string, err error) {
	switch {
	case env(EnvAutotune) != "1" || dataDir == "":
		return "", nil
	case !p.cuda() || !knows(p.Path, flagAutotuneCache):
		return "", fmt.Errorf("$%s is 1, but %s has no --%s to keep its choices by: unset it", EnvAutotune, p.Path, flagAutotuneCache)
	}
	digest, err := Digest(p.Path)
	if err != nil {
		return "", err
	}
	dir, err = filepath.Abs(filepath.Join(dataDir, "xla-autotune", digest[:12]+"-"+fileName(DeviceModels())))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// DeviceModels are the NVIDIA devices of this machine as the driver calls them ("NVIDIA H200"), in the order of their
// names, each once.
func DeviceModels() []string { return deviceModels("/proc/driver/nvidia/gpus") }

func deviceModels(driver string) []string {
	var models []string
	files, _ := filepath.Glob(filepath.Join(driver, "*", "information")) // only fails on a bad pattern
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if model, ok := strings.CutPrefix(line, "Model:"); ok {
				models = append(models, strings.TrimSpace(model))
			}
		}
	}
	slices.Sort(models)
	return slices.Compact(models)
}

// fileName is models in a file's name.
func fileName(models []string) string {
	name := strings.FieldsFunc(strings.ToLower(strings.Join(models, " ")), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if len(name) == 0 {
		return "unknown"
	}
	return strings.Join(name, "-")
}

// ChoicesDigest is the SHA-256 of the choices in a directory.
func ChoicesDigest(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // another worker's temporary file
			return nil
		}
		name, _ := filepath.Rel(dir, path) // both are absolute
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read XLA's choices of kernels: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
