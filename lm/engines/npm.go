package engines

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Package is a release of an npm package that carries a shared library for each architecture.
type Package struct {
	Name, Version string
	Integrity     string              // of the tarball: "sha512-" and base64, as registries state it
	Members       map[string]Artifact // by GOARCH
}

// Artifact is a file of a package.
type Artifact struct {
	Path   string // in the tarball
	SHA256 string // hexadecimal
}

// onnxRuntimeNode is the pinned release: the one that the golden tests pass with.
var onnxRuntimeNode = Package{
	Name: "onnxruntime-node", Version: "1.30.0",
	Integrity: "sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==",
	Members: map[string]Artifact{
		"amd64": {"package/bin/napi-v6/linux/x64/libonnxruntime.so.1", "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23"},
		"arm64": {"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"},
	},
}

// publicRegistry is npm's own, the default.
const publicRegistry = "https://registry.npmjs.org"

// Registry is the npm registry that the environment and the user's .npmrc name, as npm reads them: npm_config_registry
// in any case, then the userconfig file. Only the registry line is read.
func Registry(env func(string) string) string {
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY"} {
		if r := env(name); r != "" {
			return strings.TrimSuffix(r, "/")
		}
	}
	path := env("NPM_CONFIG_USERCONFIG")
	if path == "" {
		path = filepath.Join(env("HOME"), ".npmrc")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return publicRegistry
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if value = strings.Trim(strings.TrimSpace(value), `"'`); ok && strings.TrimSpace(key) == "registry" && value != "" {
			return strings.TrimSuffix(value, "/")
		}
	}
	return publicRegistry
}

// maxTarball bounds what is downloaded: the pinned tarball has 113 MB.
const maxTarball = 1 << 30

// download fetches the package's tarball from a registry into a file, and compares its SHA-512 with the registry's
// and with the pinned one. No script of the package is run.
func (p Package) download(ctx context.Context, client *http.Client, registry string, to *os.File) error {
	var release struct {
		Dist struct{ Tarball, Integrity string }
	}
	about := registry + "/" + url.PathEscape(p.Name) + "/" + url.PathEscape(p.Version)
	err := get(ctx, client, about, func(body io.Reader) error {
		return json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&release)
	})
	if err != nil {
		return err
	}
	if release.Dist.Integrity != p.Integrity {
		return fmt.Errorf("%s states integrity %q, %q is pinned: not the release that was tested", about, release.Dist.Integrity, p.Integrity)
	}
	tarball := release.Dist.Tarball
	// Mirrors hand the public registry's addresses on; npm too asks the configured one instead.
	if rest, ok := strings.CutPrefix(tarball, publicRegistry+"/"); ok {
		tarball = registry + "/" + rest
	}
	h := sha512.New()
	err = get(ctx, client, tarball, func(body io.Reader) error {
		n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(body, maxTarball))
		if err == nil && n == maxTarball {
			err = fmt.Errorf("more than %d bytes", maxTarball)
		}
		return err
	})
	if err != nil {
		return err
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil)); got != p.Integrity {
		return fmt.Errorf("%s: integrity %q, %q is pinned: the download is damaged or not the release", tarball, got, p.Integrity)
	}
	return nil
}

// get reads the answer of a GET request.
func get(ctx context.Context, client *http.Client, address string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, response.Status)
	}
	if err := read(response.Body); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// member is the package's library for this machine.
func (p Package) member() (Artifact, error) {
	m, ok := p.Members[runtime.GOARCH]
	if runtime.GOOS != "linux" || !ok {
		return m, fmt.Errorf("%s %s has no library for %s/%s", p.Name, p.Version, runtime.GOOS, runtime.GOARCH)
	}
	return m, nil
}
