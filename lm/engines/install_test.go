package engines

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// sharedLibrary compiles a small shared library that exports a function.
func sharedLibrary(t *testing.T, function string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, library := filepath.Join(dir, "x.c"), filepath.Join(dir, "x.so")
	if err := os.WriteFile(source, []byte("int "+function+"(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Skipf("no C compiler to make a library with: %v: %s", err, out)
	}
	data, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// entry is a file of a tarball.
type entry struct {
	name string
	data []byte
	link string
}

func tarball(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func integrity(data []byte) string {
	sum := sha512.Sum512(data)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// registry is an npm registry over HTTP with one release, whose tarball it names at the public registry, as mirrors do.
type registry struct {
	*httptest.Server
	pkg       Package
	tarball   []byte
	integrity string
	requests  []string
}

const memberPath = "package/bin/linux/libonnxruntime.so.1"

// newRegistry serves a package with the library and things that must not be written anywhere.
func newRegistry(t *testing.T, library []byte) *registry {
	t.Helper()
	r := &registry{tarball: tarball(t,
		entry{name: "package/package.json", data: []byte(`{"scripts":{"postinstall":"touch ran"}}`)},
		entry{name: "../../escaped", data: []byte("x")},
		entry{name: memberPath, link: "/etc/passwd"}, // not a regular file: not the library
		entry{name: memberPath, data: library},
	)}
	r.integrity = integrity(r.tarball)
	r.pkg = Package{Name: "onnx-made-up", Version: "1.2.3", Integrity: r.integrity,
		Members: map[string]Artifact{runtime.GOARCH: {memberPath, fmt.Sprintf("%x", sha256.Sum256(library))}}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests = append(r.requests, req.URL.Path)
		switch req.URL.Path {
		case "/npm/onnx-made-up/1.2.3":
			_ = json.NewEncoder(w).Encode(map[string]any{"name": "onnx-made-up", "version": "1.2.3", "dist": map[string]string{
				"integrity": r.integrity, "tarball": publicRegistry + "/onnx-made-up/-/onnx-made-up-1.2.3.tgz"}})
		case "/npm/onnx-made-up/-/onnx-made-up-1.2.3.tgz":
			_, _ = w.Write(r.tarball)
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *registry) install(ctx context.Context, dir string) (Library, error) {
	return InstallONNX(ctx, dir, Options{Source: SourceNPM, Registry: r.URL + "/npm", Package: &r.pkg})
}

// files lists everything below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestInstallNPM(t *testing.T) {
	library := sharedLibrary(t, onnxPlace.entry)
	r := newRegistry(t, library)
	dir := filepath.Join(t.TempDir(), "data")
	if _, _, err := OpenONNX(dir); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("an empty directory: error %v, want ErrNotInstalled", err)
	}
	installed, err := r.install(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a new data directory has mode %v (%v)", info.Mode(), err)
	}
	path, opened, err := OpenONNX(dir)
	if err != nil {
		t.Fatal(err)
	}
	if opened != installed || opened.Version != "1.2.3" || !strings.Contains(opened.Source, "onnx-made-up") {
		t.Errorf("installed %+v, opened %+v", installed, opened)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, library) {
		t.Errorf("the library has other bytes (%v)", err)
	}
	if got := files(t, dir); len(got) != 2 {
		t.Errorf("more was written than the library and its manifest: %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
		t.Error("a path of the archive became a file")
	}
	if len(r.requests) != 2 {
		t.Errorf("requests %v", r.requests)
	}

	// Another library takes its place; what fails leaves it alone.
	other := newRegistry(t, append(library, 0))
	if _, err := other.install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	again, now, err := OpenONNX(dir)
	if err != nil || again == path || len(files(t, dir)) != 2 {
		t.Errorf("after another installation: %s (%v), files %v", again, err, files(t, dir))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.install(cancelled, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v, want context.Canceled", err)
	}
	if _, still, err := OpenONNX(dir); err != nil || still != now {
		t.Errorf("after a failure: %+v (%v)", still, err)
	}

	// Damage is found when it is opened.
	if err := os.WriteFile(again, library, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenONNX(dir); err == nil || errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: error %v, want one that says so", err)
	}
}

func TestInstallNPMRefuses(t *testing.T) {
	library := sharedLibrary(t, onnxPlace.entry)
	for want, change := range map[string]func(r *registry){
		"is pinned: not the release":  func(r *registry) { r.integrity = integrity([]byte("other")) },
		"is pinned: the download":     func(r *registry) { r.tarball = append(r.tarball, 0) },
		"404":                         func(r *registry) { r.pkg.Version = "9.9.9" },
		"no library for":              func(r *registry) { r.pkg.Members = nil },
		"no ONNX Runtime library":     func(r *registry) { r.pkg.Members[runtime.GOARCH] = Artifact{Path: "package/elsewhere"} },
		"was expected":                func(r *registry) { r.pkg.Members[runtime.GOARCH] = Artifact{memberPath, strings.Repeat("0", 64)} },
		"it does not export":          func(r *registry) { r.replace(t, sharedLibrary(t, "something_else")) },
		"not a shared library":        func(r *registry) { r.replace(t, []byte("text")) },
		"gzip: invalid":               func(r *registry) { r.serve([]byte("not a tarball")) },
		"onnx-made-up 1.2.3: unexpec": func(r *registry) { r.serve(r.tarball[:len(r.tarball)/2]) },
	} {
		r := newRegistry(t, library)
		change(r)
		dir := t.TempDir()
		if _, err := r.install(t.Context(), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("%s: left behind: %v", want, got)
		}
	}
}

// serve makes the registry's tarball another one, pinned and stated rightly.
func (r *registry) serve(tarball []byte) {
	r.tarball = tarball
	r.integrity = integrity(tarball)
	r.pkg.Integrity = r.integrity
}

// replace puts another library into the tarball.
func (r *registry) replace(t *testing.T, library []byte) {
	r.serve(tarball(t, entry{name: memberPath, data: library}))
	r.pkg.Members[runtime.GOARCH] = Artifact{Path: memberPath}
}

func TestInstallFrom(t *testing.T) {
	library := sharedLibrary(t, onnxPlace.entry)
	from := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(from, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	member, err := onnxRuntimeNode.member()
	if err != nil {
		t.Skip(err)
	}
	for _, path := range []string{
		write("libonnxruntime.so", library),
		write("release.tgz", tarball(t, entry{name: "onnxruntime-linux-1.2.3/lib/libonnxruntime.so", link: "libonnxruntime.so.1"},
			entry{name: "onnxruntime-linux-1.2.3/lib/libonnxruntime_providers_shared.so", data: []byte("x")},
			entry{name: "onnxruntime-linux-1.2.3/lib/libonnxruntime.so.1", data: library})),
		write("npm.tgz", tarball(t, entry{name: member.Path, data: library})),
	} {
		dir := t.TempDir()
		l, err := InstallONNX(t.Context(), dir, Options{From: path})
		if err != nil {
			t.Error(err)
			continue
		}
		if _, opened, err := OpenONNX(dir); err != nil || opened != l || l.SHA256 != fmt.Sprintf("%x", sha256.Sum256(library)) {
			t.Errorf("%s: installed %+v, opened %+v (%v)", path, l, opened, err)
		}
	}
	for want, path := range map[string]string{
		"not a shared library": write("text", []byte("some text")),
		"no ONNX Runtime":      write("empty.tgz", tarball(t)),
		"no such file":         filepath.Join(from, "absent"),
	} {
		if _, err := InstallONNX(t.Context(), t.TempDir(), Options{From: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := InstallONNX(t.Context(), t.TempDir(), Options{Source: "elsewhere"}); err == nil || !strings.Contains(err.Error(), "npm") {
		t.Errorf("an unknown source: error %v, want one that names npm", err)
	}
}

// TestManifest refuses a manifest that names a file elsewhere.
func TestManifest(t *testing.T) {
	dir := t.TempDir()
	at := onnxPlace.in(dir)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, manifest := range []string{`{"file":"../../x"}`, `{}`, `{`} {
		if err := os.WriteFile(filepath.Join(at, manifestName), []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenONNX(dir); err == nil || errors.Is(err, ErrNotInstalled) {
			t.Errorf("%s: error %v, want one other than ErrNotInstalled", manifest, err)
		}
	}
}

func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	rc := filepath.Join(dir, ".npmrc")
	if err := os.WriteFile(rc, []byte("# comment\n//host.example/:_authToken=secret\nregistry = \"https://npm.example/path/\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, env := range map[string]map[string]string{
		publicRegistry:              {"HOME": t.TempDir()},
		"https://npm.example/path":  {"HOME": dir},
		"https://set.example":       {"HOME": dir, "NPM_CONFIG_REGISTRY": "https://set.example/"},
		"https://lower.example/npm": {"HOME": dir, "npm_config_registry": "https://lower.example/npm"},
	} {
		if got := Registry(func(name string) string { return env[name] }); got != want {
			t.Errorf("registry %s, want %s", got, want)
		}
	}
	if got := Registry(func(name string) string { return map[string]string{"NPM_CONFIG_USERCONFIG": rc}[name] }); got != "https://npm.example/path" {
		t.Errorf("userconfig: %s", got)
	}
}
