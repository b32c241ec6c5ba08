package engines

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// wheelOf is a wheel with a plugin, and how it is pinned.
func wheelOf(t *testing.T, library []byte) ([]byte, Wheel) {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range map[string][]byte{"plugin/../../evil.so": []byte("evil"), "plugin/p.so": library} {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), Wheel{Name: "a-plugin", Version: "1.0", File: "a_plugin-1.0-py3-none-linux.whl", SHA256: sum(b.Bytes()), Member: Artifact{"plugin/p.so", sum(library)}}
}

// TestInstallXLACPU takes a plugin out of an index's wheel, and refuses every other one.
func TestInstallXLACPU(t *testing.T) {
	library := sharedLibrary(t, xlaCPUPlace.entry)
	content, wheel := wheelOf(t, library)
	served := content
	page := `<a href="/files/other-1.0.whl">x</a> <a class="y" href="../../files/a%%2Fb/%s#sha256=00">x</a>`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/simple/a-plugin/":
			fmt.Fprintf(w, page, wheel.File)
		case "/files/a%2Fb/" + wheel.File:
			_, _ = w.Write(served)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	install := func(dir string, change func(o *Options)) (Library, error) {
		pinned := wheel
		o := Options{Index: server.URL + "/simple", Wheel: &pinned}
		if change != nil {
			change(&o)
		}
		return InstallXLACPU(t.Context(), dir, o)
	}
	dir := filepath.Join(t.TempDir(), "data")
	l, err := install(dir, nil)
	if err != nil || l.Version != "1.0" || l.SHA256 != sum(library) || l.Source != "PyPI a-plugin 1.0" {
		t.Fatalf("%+v, %v, want the wheel's plugin", l, err)
	}
	path, opened, err := OpenXLACPU(dir)
	if err != nil || opened != l {
		t.Fatalf("opened %+v, %v, want %+v", opened, err, l)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, library) {
		t.Errorf("%s has %d bytes (%v), want the plugin's %d", path, len(data), err, len(library))
	}
	if _, _, err := OpenONNX(dir); err == nil {
		t.Error("ONNX Runtime counts as installed, want the plugin in a place of its own")
	}
	file := filepath.Join(t.TempDir(), "w.whl")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err := install(t.TempDir(), func(o *Options) { o.From = file }); err != nil || l.SHA256 != sum(library) {
		t.Errorf("from a file: %+v, %v, want the plugin", l, err)
	}
	onnx := sharedLibrary(t, onnxPlace.entry)
	for name, c := range map[string]struct {
		change func(o *Options)
		serve  []byte
		says   string
	}{
		"other bytes":    {nil, append(bytes.Clone(content), 'x'), "is pinned: the download is damaged"},
		"not there":      {func(o *Options) { o.Wheel.File = "none.whl" }, content, "it has no none.whl"},
		"no such member": {func(o *Options) { o.Wheel.Member.Path = "none.so" }, content, "no none.so in it"},
		"other member":   {func(o *Options) { o.Wheel.Member.SHA256 = sum(nil) }, content, "was expected"},
		"no index":       {func(o *Options) { o.Index = server.URL + "/none" }, content, "404"},
		"no plugin": {func(o *Options) {
			o.From = filepath.Join(t.TempDir(), "onnx.so")
			if err := os.WriteFile(o.From, onnx, 0o644); err != nil {
				t.Fatal(err)
			}
		}, content, "does not export GetPjrtApi"},
	} {
		t.Run(name, func(t *testing.T) {
			served = c.serve
			if _, err := install(dir, c.change); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
			if _, still, err := OpenXLACPU(dir); err != nil || still != l {
				t.Errorf("installed is %+v (%v), want what was there", still, err)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config", "pip"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".config", "pip", "pip.conf"), []byte("[global]\ntimeout = 3\nindex-url = https://mirror/simple/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": home}, "https://mirror/simple"},
		{map[string]string{"HOME": home, "PIP_INDEX_URL": "https://other/simple"}, "https://other/simple"},
	} {
		if got := Index(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("with %v the index is %s, want %s", c.env, got, c.want)
		}
	}
}
