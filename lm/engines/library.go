package engines

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Library is an installed shared library, as its manifest describes it.
type Library struct {
	Version string `json:"version"` // of the release it is from; "" where only the file is known
	Source  string `json:"source"`  // where it came from, for people
	File    string `json:"file"`    // name in the manifest's directory
	SHA256  string `json:"sha256"`  // of the file, hexadecimal
}

// ErrNotInstalled says that a data directory has no such library.
var ErrNotInstalled = errors.New("not installed")

const manifestName = "manifest.json"

// place is where a kind of library is installed, and what is known of its files.
type place struct {
	title string // for people
	dir   string // below a data directory
	stem  string // of its file's name
	entry string // a function that every such library exports
}

var (
	onnxPlace   = place{"ONNX Runtime", "engines/onnx", "libonnxruntime", "OrtGetApiBase"}
	xlaCPUPlace = place{"a PJRT plugin", "engines/xla-cpu", "pjrt_c_api_cpu_plugin", "GetPjrtApi"}
)

// OpenONNX returns the path of the ONNX Runtime library installed below dataDir, after comparing its SHA-256 with the
// manifest's. ErrNotInstalled where there is none, also for an empty dataDir.
func OpenONNX(dataDir string) (string, Library, error) { return onnxPlace.open(dataDir) }

// OpenXLACPU is OpenONNX for the PJRT plugin of engine xla:cpu.
func OpenXLACPU(dataDir string) (string, Library, error) { return xlaCPUPlace.open(dataDir) }

func (k place) open(dataDir string) (string, Library, error) {
	if dataDir == "" {
		return "", Library{}, ErrNotInstalled
	}
	dir := k.in(dataDir)
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", Library{}, ErrNotInstalled
	}
	var l Library
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err == nil && (l.File == "" || l.File != filepath.Base(l.File)) {
		err = fmt.Errorf("it names no file: %q", l.File)
	}
	if err != nil {
		return "", Library{}, fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), err)
	}
	path := filepath.Join(dir, l.File)
	digest, err := Digest(path)
	if err != nil {
		return "", l, err
	}
	if digest != l.SHA256 {
		return "", l, fmt.Errorf("%s is damaged: its SHA-256 is %s, %s was installed", path, digest, l.SHA256)
	}
	return path, l, nil
}

// Digest is the SHA-256 of a file, hexadecimal.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// in is the place's directory below a data directory.
func (k place) in(dataDir string) string { return filepath.Join(dataDir, filepath.FromSlash(k.dir)) }

// adopt moves a library that was written to path, in the directory of installed ones, to its place, and names it in
// the manifest; what was installed before is removed. Until the manifest is renamed, the old one stands.
func (k place) adopt(path string, l Library) (Library, error) {
	dir := filepath.Dir(path)
	digest, err := Digest(path)
	if err != nil {
		return l, err
	}
	if l.SHA256 != "" && l.SHA256 != digest {
		return l, fmt.Errorf("%s: SHA-256 %s, %s was expected", l.Source, digest, l.SHA256)
	}
	if err := k.check(path); err != nil {
		return l, fmt.Errorf("%s: %w", l.Source, err)
	}
	l.SHA256 = digest
	l.File = k.stem + "-" + digest[:16] + ".so" // never the name of another one's bytes
	if err := errors.Join(os.Chmod(path, 0o755), os.Rename(path, filepath.Join(dir, l.File))); err != nil {
		return l, err
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return l, err
	}
	manifest, err := os.CreateTemp(dir, ".manifest-*")
	if err != nil {
		return l, err
	}
	defer os.Remove(manifest.Name()) // gone after the rename
	_, err = manifest.Write(append(data, '\n'))
	if err := errors.Join(err, manifest.Sync(), manifest.Chmod(0o644), manifest.Close()); err != nil {
		return l, fmt.Errorf("write %s: %w", manifest.Name(), err)
	}
	if err := os.Rename(manifest.Name(), filepath.Join(dir, manifestName)); err != nil {
		return l, err
	}
	old, err := filepath.Glob(filepath.Join(dir, k.stem+"-*.so"))
	if err != nil {
		return l, err
	}
	for _, path := range old {
		if filepath.Base(path) != l.File {
			_ = os.Remove(path) // only takes room
		}
	}
	return l, nil
}

// check makes sure that a file is a shared library of this machine's architecture with the kind's entry point.
func (k place) check(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("not a shared library: %w", err)
	}
	defer f.Close()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	if f.Type != elf.ET_DYN || f.Machine != machine {
		return fmt.Errorf("not a shared library for %s: %v, %v", runtime.GOARCH, f.Type, f.Machine)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read its symbols: %w", err)
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == k.entry && s.Section != elf.SHN_UNDEF }) {
		return fmt.Errorf("not %s: it does not export %s", k.title, k.entry)
	}
	return nil
}
