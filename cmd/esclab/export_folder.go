package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/tfevents"
)

// folder is what an export writes into. It goes through os.Root: no name and
// no symbolic link leads out of it.
type folder struct {
	root  *os.Root
	files []exported
}

// origin says where a file comes from; empty for those of the export itself.
type origin struct{ stage, artifact string }

// exported is one file of the manifest.
type exported struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// Stage and Artifact (the digest of its manifest in the store) made it.
	Stage    string `json:"stage,omitempty"`
	Artifact string `json:"artifact,omitempty"`
}

// write creates a file; one that is there already is an error.
func (d *folder) write(name string, from origin, r io.Reader) error {
	if dir := path.Dir(name); dir != "." {
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// It has another name until it is whole. Dialogues are in most of the files.
	part := name + ".part"
	f, err := d.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, whole.Private)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err = errors.Join(err, f.Close()); err == nil {
		// Unlike a rename, a link does not replace what is there.
		err = d.root.Link(part, name)
	}
	if err = errors.Join(err, d.root.Remove(part)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	d.files = append(d.files, exported{Path: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil)), Stage: from.stage, Artifact: from.artifact})
	return nil
}

// manifest writes manifest.json, the last file.
func (d *folder) manifest(experiment, revision string) error {
	files := slices.SortedFunc(slices.Values(d.files), func(a, b exported) int { return strings.Compare(a.Path, b.Path) })
	raw, err := json.MarshalIndent(struct {
		Experiment string     `json:"experiment"`
		Revision   string     `json:"revision"` // of the program that exported; empty: not known
		Files      []exported `json:"files"`
	}{experiment, revision, files}, "", "  ")
	if err != nil {
		return err
	}
	return d.write("manifest.json", origin{}, bytes.NewReader(append(raw, '\n')))
}

// curves writes a training's record as an event file of TensorBoard. A record
// holds no times, so the events have none.
func (x *exporter) curves(ctx context.Context, s experiments.Stage, from origin) error {
	trained, err := results.Open(ctx, x.se.node.Store, s.Fingerprint)
	if err != nil {
		return err
	}
	steps, err := results.ReadRows[results.Step](trained, results.FileMetrics)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	events, err := tfevents.NewWriter(&b, 0)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if err := events.Scalars(int64(step.Step), 0, tfevents.Of(step)...); err != nil {
			return err
		}
	}
	return x.folder.write(path.Join("tensorboard", s.Name, tfevents.FileName), from, &b)
}
