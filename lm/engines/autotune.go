package engines

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esclab/esclab/internal/whole"
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

// Chosen is what a plugin has chosen, one file for each kernel.
type Chosen struct {
	Place string            `json:"place"` // name of the directory: which plugin and devices
	Files map[string][]byte `json:"files"` // by their paths below it, with slashes
}

// ReadChoices reads the directory of Plugin.Choices. A choice is written into tmp/, or a file whose name begins with a
// dot, before it is there.
func ReadChoices(dir string) (Chosen, error) {
	c := Chosen{Place: filepath.Base(dir), Files: map[string][]byte{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "tmp":
			return fs.SkipDir
		case !d.Type().IsRegular() || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		name, _ := filepath.Rel(dir, path) // path is below dir
		c.Files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("read XLA's choices of kernels: %w", err)
	}
	return c, nil
}

// Digest is the SHA-256 of the choices.
func (c Chosen) Digest() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		fmt.Fprintf(h, "%s %d\n%s", name, len(c.Files[name]), c.Files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Add puts choices made elsewhere into a directory of the same plugin and devices, from where kernels that are compiled
// from now on are taken. What was chosen differently there stays; others counts it. Choices of another plugin or device
// are of no use: all of them are others.
func (c Chosen) Add(dir string) (others int, err error) {
	if c.Place != filepath.Base(dir) {
		return len(c.Files), nil
	}
	for name, data := range c.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if !filepath.IsLocal(filepath.FromSlash(name)) || path == dir {
			return others, fmt.Errorf("XLA's choices of kernels: %q is no file's path below their directory", name)
		}
		there, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			there = data
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = whole.Write(path, 0o600, data)
			}
		}
		if err != nil {
			return others, fmt.Errorf("XLA's choices of kernels: %w", err)
		}
		if !bytes.Equal(there, data) {
			others++
		}
	}
	return others, nil
}
