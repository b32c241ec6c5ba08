package artifacts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Manifest is the artifact of a stage: what was made, from what and how. It
// holds nothing that differs between two executions of the same stage (no
// times, hosts or attempts; those are provenance), so equal work gives equal
// bytes.
type Manifest struct {
	Version     int    `json:"version"`     // set by Commit
	Fingerprint string `json:"fingerprint"` // of the stage, lower-case hexadecimal SHA-256; set by Commit
	Kind        string `json:"kind"`        // kind of stage, such as "sft"
	Stage       string `json:"stage"`       // name in the DAG, such as "sft/vm"
	// Engine and its version; results are bit-identical within one engine on
	// one machine type.
	Engine string `json:"engine,omitempty"`
	// Params are the typed parameters of the stage. Commit sorts their keys.
	Params json.RawMessage `json:"params,omitempty"`
	// Inputs maps the name of each input to the digest of its artifact.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Files maps the name of each file of the artifact to its blob. A name is
	// a clean relative path, such as "model.safetensors".
	Files map[string]Ref `json:"files"`
	// Metrics are numbers worth comparing without opening the files.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Digest is the digest of the artifact: the SHA-256 of this manifest's
	// encoding with an empty digest. Set by Commit. It is the last field.
	Digest string `json:"digest"`
}

func (m *Manifest) digest() *string { return &m.Digest }

// ArtifactRef names an artifact. It is what stages pass to each other.
type ArtifactRef struct {
	Fingerprint string `json:"fingerprint"` // of the stage that made it
	Digest      string `json:"digest"`      // Manifest.Digest
	Bytes       int64  `json:"bytes"`       // of all its files
}

// Ref names the artifact of a manifest that Commit or Lookup returned.
func (m *Manifest) Ref() ArtifactRef {
	ref := ArtifactRef{Fingerprint: m.Fingerprint, Digest: m.Digest}
	for _, f := range m.Files {
		ref.Bytes += f.Bytes
	}
	return ref
}

// File returns the blob of a file of the artifact.
func (m *Manifest) File(name string) (Ref, error) {
	ref, ok := m.Files[name]
	if !ok {
		return Ref{}, fmt.Errorf("artifact of stage %s %.12s has no file %s, only %q", m.Stage, m.Fingerprint, name, m.names())
	}
	return ref, nil
}

// names returns the names of the files in order.
func (m *Manifest) names() []string { return slices.Sorted(maps.Keys(m.Files)) }

// validate reports what keeps m from being committed.
func (m *Manifest) validate() error {
	if m.Kind == "" || m.Stage == "" {
		return fmt.Errorf("no kind or no stage name")
	}
	for _, name := range m.names() {
		if _, err := escapePath(name); err != nil {
			return err
		}
		ref := m.Files[name]
		if err := ref.validate(); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
		if ref.Key != blobKey(ref.SHA256) {
			return fmt.Errorf("file %s: %s is no blob; store it with PutFunc or PutFile", name, ref.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Inputs)) {
		if err := validDigest("input "+name, m.Inputs[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
		if v := m.Metrics[name]; math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("metric %s is %v", name, v)
		}
	}
	return nil
}

// sameOrigin says whether two manifests are of the same work. Their parameters
// have to be in canonical form.
func (m *Manifest) sameOrigin(o Manifest) bool {
	return m.Kind == o.Kind && bytes.Equal(m.Params, o.Params) && maps.Equal(m.Inputs, o.Inputs)
}

// encode completes m and returns its canonical bytes.
func (m *Manifest) encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	var err error
	if m.Params, err = canonicalJSON(m.Params); err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	if m.Files == nil {
		m.Files = map[string]Ref{} // {} rather than null, as when it was empty
	}
	if len(m.Inputs) == 0 {
		m.Inputs = nil
	}
	if len(m.Metrics) == 0 {
		m.Metrics = nil
	}
	m.Version = documentVersion
	return seal(m)
}

// DamagedError reports a manifest that is there but not whole. The stage has to
// be run again; PutFunc and Commit then replace what is damaged. It wraps
// ErrDamaged (and not ErrNotFound: the stage did run once).
type DamagedError struct {
	Fingerprint string
	File        string // name in the manifest; empty if the manifest itself is damaged
	Key         string // of the object that is missing or corrupt
	Reason      string
}

func (e *DamagedError) Error() string {
	what := "manifest"
	if e.File != "" {
		what = "file " + e.File
	}
	return fmt.Sprintf("artifact of stage %.12s is damaged: %s (%s): %s; run the stage again", e.Fingerprint, what, e.Key, e.Reason)
}

func (e *DamagedError) Unwrap() error { return ErrDamaged }
