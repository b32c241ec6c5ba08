package artifacts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func (w *world) manifest(t *testing.T, weights string) artifacts.Manifest {
	t.Helper()
	return artifacts.Manifest{
		Kind: "sft", Stage: "sft/vm", Engine: "go",
		Params:  json.RawMessage(`{ "steps": 3, "lr": 1e-4, "name": "<a & b>" }`),
		Inputs:  map[string]string{"corpus": fingerprint("corpus"), "base": fingerprint("base")},
		Files:   map[string]artifacts.Ref{"model.safetensors": w.blob(t, weights), "log/loss.json": w.blob(t, "[3, 2, 1]")},
		Metrics: map[string]float64{"loss": 1.25, "accuracy": 0.5},
	}
}

func (w *world) commit(t *testing.T, m artifacts.Manifest) artifacts.ArtifactRef {
	t.Helper()
	l := w.acquire(t, artifacts.Claim{Steal: true})
	ref, err := l.Commit(t.Context(), m, map[string]string{"host": "a"})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func manifestKey() string { return "stages/" + fingerprint("stage") + "/manifest.json" }

func TestCommitLookup(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx, fp := t.Context(), fingerprint("stage")
		_, err := w.Lookup(ctx, fp)
		wantErr(t, err, artifacts.ErrNotFound)

		m := w.manifest(t, "weights")
		ref := w.commit(t, m)
		if ref.Fingerprint != fp || len(ref.Digest) != 64 || ref.Bytes != 7+9 {
			t.Errorf("reference %+v", ref)
		}
		got, err := w.Lookup(ctx, fp)
		if err != nil {
			t.Fatal(err)
		}
		if got.Ref() != ref {
			t.Errorf("looked up %+v, committed %+v", got.Ref(), ref)
		}
		if err := w.Verify(ctx, got); err != nil {
			t.Error(err)
		}
		if file, err := got.File("model.safetensors"); err != nil || file != m.Files["model.safetensors"] {
			t.Errorf("file %+v, %v", file, err)
		}
		if _, err := got.File("none"); err == nil || !strings.Contains(err.Error(), "log/loss.json") {
			t.Errorf("no file: %v", err)
		}
		m.Version, m.Fingerprint, m.Digest = 1, fp, ref.Digest
		m.Params = json.RawMessage(`{"lr":1e-4,"name":"<a & b>","steps":3}`)
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("manifest (-committed +looked up):\n%s", diff)
		}
		note, err := w.Provenance(ctx, fp)
		if err != nil || !strings.Contains(string(note), `"host": "a"`) {
			t.Errorf("provenance %q, %v", note, err)
		}
		// Again, as after a lost answer: the same artifact.
		if again := w.commit(t, w.manifest(t, "weights")); again != ref {
			t.Errorf("%+v, then %+v", ref, again)
		}
		if stages, err := w.ListStages(ctx); err != nil || len(stages) != 1 || stages[0] != fp {
			t.Errorf("stages %q, %v", stages, err)
		}
	})
}

// TestManifestBytes: the same work by another host at another time gives the
// same bytes.
func TestManifestBytes(t *testing.T) {
	var stored [][]byte
	for _, params := range []string{`{"steps":3,"lr":1e-4,"name":"<a & b>"}`, "{\"name\": \"<a & b>\",\n\"lr\": 1e-4, \"steps\": 3}"} {
		w := newWorld(t, openDirectory(t))
		m := w.manifest(t, "weights")
		m.Params = json.RawMessage(params)
		l := w.acquire(t, artifacts.Claim{Owner: params})
		if _, err := l.Commit(t.Context(), m, map[string]string{"host": params}); err != nil {
			t.Fatal(err)
		}
		stored = append(stored, storetest.Read(t, w.Backend, manifestKey()))
	}
	if !bytes.Equal(stored[0], stored[1]) {
		t.Errorf("manifests differ:\n%s\n%s", stored[0], stored[1])
	}
}

func TestCommitRefuses(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	l := w.acquire(t, artifacts.Claim{})
	missing := w.blob(t, "missing")
	w.delete(t, missing.Key)
	short := w.blob(t, "short")
	short.Bytes++
	for name, change := range map[string]func(*artifacts.Manifest){
		"missing blob":   func(m *artifacts.Manifest) { m.Files["x"] = missing },
		"wrong size":     func(m *artifacts.Manifest) { m.Files["x"] = short },
		"no blob":        func(m *artifacts.Manifest) { r := short; r.Key = "runs/a/b"; m.Files["x"] = r },
		"traversal":      func(m *artifacts.Manifest) { m.Files["../x"] = w.blob(t, "x") },
		"absolute":       func(m *artifacts.Manifest) { m.Files["/x"] = w.blob(t, "x") },
		"NaN":            func(m *artifacts.Manifest) { m.Metrics["loss"] = math.NaN() },
		"bad input":      func(m *artifacts.Manifest) { m.Inputs["corpus"] = "latest" },
		"bad parameters": func(m *artifacts.Manifest) { m.Params = json.RawMessage(`{`) },
		"no kind":        func(m *artifacts.Manifest) { m.Kind = "" },
		"other stage":    func(m *artifacts.Manifest) { m.Fingerprint = fingerprint("other") },
	} {
		m := w.manifest(t, "weights")
		change(&m)
		if _, err := l.Commit(t.Context(), m, nil); err == nil {
			t.Errorf("%s was committed", name)
		}
	}
	_, err := w.Lookup(t.Context(), fingerprint("stage"))
	wantErr(t, err, artifacts.ErrNotFound)
	for _, fp := range []string{"", "x", "../../x", strings.Repeat("A", 64)} {
		_, err := w.Lookup(t.Context(), fp)
		wantErr(t, err, artifacts.ErrInvalidKey)
		_, err = w.Acquire(t.Context(), fp, artifacts.Claim{Owner: "o"})
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
}

// TestEveryFlippedBit flips one bit of each byte of a manifest in turn.
func TestEveryFlippedBit(t *testing.T) {
	d := openDirectory(t)
	w := newWorld(t, d)
	w.commit(t, w.manifest(t, "weights"))
	path := filepath.Join(d.Location(), filepath.FromSlash(manifestKey()))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, at int) {
		_, err := w.Lookup(t.Context(), fingerprint("stage"))
		var damaged *artifacts.DamagedError
		if !errors.As(err, &damaged) || damaged.File != "" || errors.Is(err, artifacts.ErrNotFound) {
			t.Errorf("%s at byte %d: %v", what, at, err)
		}
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		write(bad)
		check("flipped bit", i)
		write(data[:i])
		check("truncated", i)
	}
	write(append(bytes.Clone(data), '\n'))
	check("appended", len(data))
	write(data)
	if _, err := w.Lookup(t.Context(), fingerprint("stage")); err != nil {
		t.Errorf("undamaged: %v", err)
	}
}

// TestDamageAndRepair: a hit whose data are gone or wrong is told from a miss
// and from a hit, and running the stage again repairs it.
func TestDamageAndRepair(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx, fp := t.Context(), fingerprint("stage")
		ref := w.commit(t, w.manifest(t, "weights"))
		blob := w.blob(t, "weights")
		for _, c := range []struct {
			name   string
			damage func()
			file   string
			deep   bool // only Verify sees it
		}{
			{"blob missing", func() { w.delete(t, blob.Key) }, "model.safetensors", false},
			{"blob truncated", func() { storetest.Write(t, w.Backend, blob.Key, []byte("weight")) }, "model.safetensors", false},
			{"blob flipped", func() { w.flip(t, blob.Key, 3) }, "model.safetensors", true},
			{"manifest flipped", func() { w.flip(t, manifestKey(), 100) }, "", false},
			{"manifest empty", func() { storetest.Write(t, w.Backend, manifestKey(), nil) }, "", false},
		} {
			c.damage()
			m, err := w.Lookup(ctx, fp)
			if c.deep {
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				err = w.Verify(ctx, m)
			}
			var damaged *artifacts.DamagedError
			if !errors.As(err, &damaged) || damaged.File != c.file || damaged.Reason == "" || damaged.Key == "" {
				t.Errorf("%s: %v", c.name, err)
			}
			wantErr(t, err, artifacts.ErrDamaged)
			if errors.Is(err, artifacts.ErrNotFound) {
				t.Errorf("%s looks like a stage that never ran", c.name)
			}
			if again := w.commit(t, w.manifest(t, "weights")); again != ref {
				t.Errorf("%s: repaired to %+v, want %+v", c.name, again, ref)
			}
			if m, err = w.Lookup(ctx, fp); err == nil {
				err = w.Verify(ctx, m)
			}
			if err != nil {
				t.Errorf("%s: after the repair: %v", c.name, err)
			}
		}
	})
}

// TestFirstArtifactStays: a whole artifact is never replaced, a damaged one is,
// even where the new one differs (another machine type).
func TestFirstArtifactStays(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	first := w.commit(t, w.manifest(t, "weights"))
	if got := w.commit(t, w.manifest(t, "other")); got != first {
		t.Errorf("%+v replaced %+v", got, first)
	}
	w.flip(t, w.blob(t, "weights").Key, 0)
	second := w.commit(t, w.manifest(t, "other"))
	if second.Digest == first.Digest {
		t.Error("a corrupt artifact was kept")
	}
	m, err := w.Lookup(t.Context(), fingerprint("stage"))
	if err != nil || m.Ref() != second {
		t.Errorf("looked up %+v, %v", m.Ref(), err)
	}
}

// TestLaterFormat: a store written by a later release is neither damaged nor
// empty, or it would be overwritten.
func TestLaterFormat(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	w.commit(t, w.manifest(t, "weights"))
	data := storetest.Read(t, w.Backend, manifestKey())
	storetest.Write(t, w.Backend, manifestKey(), reseal(strings.Replace(string(data), `"version": 1`, `"version": 2`, 1)))
	_, err := w.Lookup(t.Context(), fingerprint("stage"))
	if err == nil || errors.Is(err, artifacts.ErrDamaged) || errors.Is(err, artifacts.ErrNotFound) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("error %v", err)
	}
}
