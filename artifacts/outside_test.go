package artifacts

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// A manifest that somebody with access to the bucket has written himself, with
// a right digest, cannot lead a reader out of its directory: it is damaged.
func TestManifestsCannotNameOutside(t *testing.T) {
	backend, err := OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store, err := New(backend, Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := store.PutBytes(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := ref
	elsewhere.Key = "stages/other"
	fingerprint := strings.Repeat("ab", 32)
	for name, files := range map[string]map[string]Ref{
		"../out": {"../out": ref}, "/etc/passwd": {"/etc/passwd": ref}, "a/../../b": {"a/../../b": ref}, "..": {"..": ref}, "": {"": ref},
		"a blob elsewhere": {"a": elsewhere},
	} {
		m := Manifest{Version: documentVersion, Fingerprint: fingerprint, Kind: "sft", Stage: "sft/vm", Files: files}
		data, err := seal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if err := backend.Put(t.Context(), stageKey(fingerprint, "manifest.json"), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Lookup(t.Context(), fingerprint); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
