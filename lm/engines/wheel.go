package engines

import (
	"archive/zip"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// Wheel is a release of a Python package that carries a shared library.
type Wheel struct {
	Name, Version string
	File          string   // the wheel's name, for linux/amd64
	SHA256        string   // of the wheel
	Member        Artifact // the library in it
}

// pjrtCPU is the pinned plugin: the one that the golden tests pass with.
var pjrtCPU = Wheel{
	Name: "lammps-jax-pjrt-cpu", Version: "0.11.2", File: "lammps_jax_pjrt_cpu-0.11.2-py3-none-manylinux_2_27_x86_64.whl",
	SHA256: "1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1",
	Member: Artifact{"lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so", "ad1309ac822b1b24d51b7f9947c7c9fa9ef5d67f390584cbc3d1fa2428fed9c2"},
}

// publicIndex is PyPI's own, the default.
const publicIndex = "https://pypi.org/simple"

// Index is the index of Python packages that the environment and pip's configuration name: PIP_INDEX_URL, then the line
// index-url of the user's or the system's pip.conf.
func Index(env func(string) string) string {
	if index := env("PIP_INDEX_URL"); index != "" {
		return strings.TrimSuffix(index, "/")
	}
	config := cmp.Or(env("XDG_CONFIG_HOME"), filepath.Join(env("HOME"), ".config"))
	for _, path := range []string{env("PIP_CONFIG_FILE"), filepath.Join(config, "pip", "pip.conf"), filepath.Join(env("HOME"), ".pip", "pip.conf"), "/etc/pip.conf"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(strings.NewReader(string(data))); lines.Scan(); {
			key, value, ok := strings.Cut(lines.Text(), "=")
			if value = strings.TrimSpace(value); ok && strings.TrimSpace(key) == "index-url" && value != "" {
				return strings.TrimSuffix(value, "/")
			}
		}
	}
	return publicIndex
}

// InstallXLACPU installs the PJRT plugin of engine xla:cpu below dataDir, in place of one that is there: out of the
// pinned wheel, or from a file. Nothing of it changes where it fails.
func InstallXLACPU(ctx context.Context, dataDir string, o Options) (Library, error) {
	o.Index = cmp.Or(o.Index, publicIndex)
	if o.Wheel == nil {
		o.Wheel = &pjrtCPU
	}
	return o.into(xlaCPUPlace, dataDir, func(dir string) (Library, error) {
		if o.From != "" {
			return o.fromWheelFile(dir)
		}
		return o.fromIndex(ctx, dir)
	})
}

// fromIndex takes the plugin out of the wheel that the index has.
func (o *Options) fromIndex(ctx context.Context, dir string) (Library, error) {
	w := o.Wheel
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Library{}, fmt.Errorf("%s %s has no library for %s/%s", w.Name, w.Version, runtime.GOOS, runtime.GOARCH)
	}
	file, err := os.CreateTemp(dir, ".download-*")
	if err != nil {
		return Library{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	o.Log(fmt.Sprintf("downloading %s from %s", w.File, o.Index))
	address, err := o.wheelAddress(ctx)
	if err != nil {
		return Library{}, err
	}
	h := sha256.New()
	err = get(ctx, o.Client, address, func(body io.Reader) error {
		n, err := io.Copy(io.MultiWriter(file, h), io.LimitReader(body, maxTarball))
		if err == nil && n == maxTarball {
			err = fmt.Errorf("more than %d bytes", maxTarball)
		}
		return err
	})
	if err != nil {
		return Library{}, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != w.SHA256 {
		return Library{}, fmt.Errorf("%s: SHA-256 %s, %s is pinned: the download is damaged or not the release", address, got, w.SHA256)
	}
	return w.take(dir, file, Library{Version: w.Version, Source: "PyPI " + w.Name + " " + w.Version, SHA256: w.Member.SHA256})
}

// maxIndex bounds a project's page in an index.
const maxIndex = 16 << 20

// wheelAddress finds the wheel on its project's page (PEP 503).
func (o *Options) wheelAddress(ctx context.Context) (string, error) {
	page := o.Index + "/" + o.Wheel.Name + "/"
	var found string
	err := get(ctx, o.Client, page, func(body io.Reader) error {
		text, err := io.ReadAll(io.LimitReader(body, maxIndex))
		if err != nil {
			return err
		}
		link := regexp.MustCompile(`href\s*=\s*["']([^"'#]*/)?` + regexp.QuoteMeta(o.Wheel.File) + `[#"']`).FindSubmatch(text)
		if link == nil {
			return fmt.Errorf("it has no %s", o.Wheel.File)
		}
		found = html.UnescapeString(string(link[1])) + o.Wheel.File
		return nil
	})
	if err != nil {
		return "", err
	}
	base, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	address, err := base.Parse(found)
	if err != nil {
		return "", fmt.Errorf("%s: %w", page, err)
	}
	return address.String(), nil
}

// fromWheelFile takes a plugin, or the one in a wheel.
func (o *Options) fromWheelFile(dir string) (Library, error) {
	file, err := os.Open(o.From)
	if err != nil {
		return Library{}, err
	}
	defer file.Close()
	l := Library{Source: "file " + filepath.Base(o.From)}
	head := make([]byte, 2)
	if _, err := file.ReadAt(head, 0); err != nil {
		return l, fmt.Errorf("%s: %w", o.From, err)
	}
	if string(head) != "PK" { // no zip: the library itself
		return xlaCPUPlace.take(dir, file, l)
	}
	return o.Wheel.take(dir, file, l)
}

// take adopts the plugin in a wheel. Names in the archive are compared and never become paths.
func (w *Wheel) take(dir string, file *os.File, l Library) (Library, error) {
	info, err := file.Stat()
	if err != nil {
		return l, err
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil {
		return l, fmt.Errorf("%s: %w", l.Source, err)
	}
	for _, member := range archive.File {
		if member.Name != w.Member.Path {
			continue
		}
		content, err := member.Open()
		if err != nil {
			return l, fmt.Errorf("%s: %w", l.Source, err)
		}
		l, err = xlaCPUPlace.take(dir, content, l)
		return l, errors.Join(err, content.Close())
	}
	return l, fmt.Errorf("%s: no %s in it", l.Source, w.Member.Path)
}
