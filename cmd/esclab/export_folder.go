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

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/internal/inert"
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
func (x *exporter) curves(ctx context.Context, stage string, from origin, ref artifacts.Ref) error {
	steps, err := x.se.steps(ctx, ref)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	events, err := tfevents.NewWriter(&b, 0)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := events.Scalars(int64(s.Step), 0, tfevents.Of(s)...); err != nil {
			return err
		}
	}
	return x.folder.write(path.Join("tensorboard", stage, tfevents.FileName), from, &b)
}

// steps reads a training's record.
func (se *session) steps(ctx context.Context, ref artifacts.Ref) ([]results.Step, error) {
	r, err := se.node.Store.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	steps, err := results.DecodeRows[results.Step](raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", results.FileMetrics, err)
	}
	return steps, nil
}

// readme says how to load what is in the folder.
func (x *exporter) readme() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nWritten by `esclab export`. `manifest.json` has the SHA-256 of every file, and the\nstage and artifact that it comes from.\n", inert.Markdown(x.layout.Name))
	if len(x.trained) > 0 {
		base := "NAME_OR_PATH_OF_THE_BACKBONE"
		if len(x.bases) > 0 {
			base = x.bases[len(x.bases)-1]
		}
		fmt.Fprintf(&b, "\n## Adapters\n\nLoRA adapters in PEFT's layout: `adapters/%s`.\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\nfrom peft import PeftModel\n\nmodel = AutoModelForCausalLM.from_pretrained(%q)\nmodel = PeftModel.from_pretrained(model, \"adapters/%s\")\n```\n",
			strings.Join(x.trained, "`, `adapters/"), base, x.trained[len(x.trained)-1])
	}
	if len(x.systems) > 0 {
		fmt.Fprintf(&b, "\n## Predictions\n\nOne JSON object a test turn, one file a system. `esclab score predictions/%s.jsonl`\ngives the numbers of the tables.\n", x.systems[len(x.systems)-1])
	}
	has := func(dir string) bool {
		return slices.ContainsFunc(x.folder.files, func(f exported) bool { return strings.HasPrefix(f.Path, dir+"/") })
	}
	if has("pairs") {
		b.WriteString("\n## Pairs\n\nFor TRL's DPOTrainer, one file a role: vm the vanilla model, sp the strategy\nplanner, rg the response generator.\n\n```python\nfrom datasets import load_dataset\n\npairs = load_dataset(\"json\", data_files=\"pairs/sp.jsonl\")\n```\n")
	}
	if has("tables") {
		b.WriteString("\n## Tables\n\n`tables/report.html` is the report; `table3.csv` and `report.json` have its numbers,\n`tables.tex` its tables.\n")
	}
	if has("tensorboard") {
		b.WriteString("\n## Curves\n\n`tensorboard --logdir tensorboard`: loss, learning rate, validation loss and DPO's\nrewards of each training, by step.\n")
	}
	if len(x.missing) > 0 {
		fmt.Fprintf(&b, "\n## Not there\n\nThese stages were not done: `%s`.\n", strings.Join(x.missing, "`, `"))
	}
	b.WriteString("\nPredictions, pairs and the report hold the corpus' dialogues: its licence goes with them.\n")
	return b.String()
}
