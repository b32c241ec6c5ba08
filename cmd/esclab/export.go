package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/cmd/internal/revision"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/pairs"
	"github.com/esclab/esclab/workflows/lab"
)

type exportOptions struct {
	out  string
	set  []string
	base string
	sft  bool
}

// Values of --base.
const (
	baseTrained = "trained"
	baseAlways  = "always"
	baseNever   = "never"
)

func (a *app) exportCommand() *cobra.Command {
	var f exportOptions
	c := &cobra.Command{
		Use:   "export RUN --out DIR",
		Short: "Write a run's adapters, predictions, pairs, tables and curves as a folder that others can load",
		Long: `Write what a run has made into a folder:

  adapters/STAGE/      PEFT adapters: PeftModel.from_pretrained(base, "DIR/adapters/dpo-rg")
  base/                the backbone in Hugging Face's layout, where this run has
                       pretrained it, or dequantized it out of a GGUF file
                       (--base always: any other as well)
  predictions/         every system's replies, JSON lines, as esclab score reads them
  pairs/               the preference pairs as TRL's DPOTrainer reads them, JSON lines
  sft/                 what SFT learns from as TRL's SFTTrainer reads it, JSON lines
  llamafactory/        pairs and SFT data as LLaMA-Factory reads them: dataset_dir
  tables/              the report: HTML, Markdown, LaTeX, CSV, JSON
  tensorboard/         the curves of each training: tensorboard --logdir DIR/tensorboard
  inference.py         replies as the systems do, with transformers and peft, and
  prompts.json         what it gives the models
  README.md            a model card, and how to load all this
  manifest.json        every file with its SHA-256, its stage and its artifact

What is not done yet is left out and named. The folder has to be new or empty,
and nothing is written outside of it.

Pairs, SFT data and predictions hold the corpus' dialogues: its licence goes with
them. esclab pairs --export filters pairs.

` + helpRun,
		Example: "  esclab export demo --out demo-export\n  esclab export qwen2.5-7b --out q/ --base never",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.runExport(c.Context(), args[0], f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.out, "out", "", "folder to write into, new or empty (required)")
	flags.StringVar(&f.base, "base", baseTrained, "write the backbone: trained (if it was pretrained or dequantized here), always, never")
	flags.BoolVar(&f.sft, "sft", true, "write what SFT learns from: a line a turn and role with its whole context, much for a large corpus")
	flags.StringArrayVar(&f.set, "set", nil, "as for esclab run")
	return c
}

func (a *app) runExport(ctx context.Context, run string, f exportOptions) error {
	switch {
	case f.out == "":
		return errors.New("--out is missing: name the folder to write into")
	case f.base != baseTrained && f.base != baseAlways && f.base != baseNever:
		return fmt.Errorf("--base %s: use %s, %s or %s", f.base, baseTrained, baseAlways, baseNever)
	}
	// Whatever the servers in this process do to the working directory.
	out, err := filepath.Abs(f.out)
	if err != nil {
		return err
	}
	if err := emptyOrNew(f.out); err != nil {
		return err
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	l, err := se.layoutOf(ctx, run, f.set)
	if err != nil {
		return err
	}
	x := &exporter{se: se, layout: l, base: f.base, sft: f.sft, done: map[string]artifacts.Manifest{}}
	if err := x.find(ctx); err != nil {
		return failed(err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return failed(err)
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return failed(err)
	}
	defer root.Close()
	x.folder.root = root
	if err := x.write(ctx); err != nil {
		return failed(fmt.Errorf("export %s: %w", l.Name, err))
	}
	fmt.Fprintf(stderr, "%d files written to %s\n", len(x.folder.files)+1, out)
	for _, name := range x.missing {
		fmt.Fprintf(stderr, "stage %s is not done: it is left out\n", name)
	}
	return nil
}

// exporter writes one run into a folder.
type exporter struct {
	se      *session
	folder  folder
	layout  lab.Layout
	base    string
	done    map[string]artifacts.Manifest // by stage
	missing []string                      // stages that are not done
	systems []string                      // whose predictions were written
	trained []string                      // stages with an adapter
	bases   []string                      // folders with a backbone
	sft     bool                          // write what SFT learns from
	sets    []pairs.Set                   // in LLaMA-Factory's layout
	recipes []string                      // systems that inference.py replies as
}

// find looks up what is done, so that nothing is written where nothing is.
func (x *exporter) find(ctx context.Context) error {
	for _, s := range x.layout.Stages {
		m, err := x.se.node.Store.Lookup(ctx, s.Fingerprint)
		if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
			x.missing = append(x.missing, s.Name)
			continue
		}
		if err != nil {
			return err
		}
		x.done[s.Name] = m
	}
	if len(x.done) == 0 {
		return fmt.Errorf("nothing of it is in the store: %s", x.se.remedy(x.layout))
	}
	return nil
}

func (x *exporter) write(ctx context.Context) error {
	for _, s := range x.layout.Stages {
		m, ok := x.done[s.Name]
		if !ok {
			continue
		}
		if err := x.stage(ctx, s, m); err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
	}
	if err := x.data(ctx); err != nil {
		return err
	}
	if err := x.recipe(); err != nil {
		return err
	}
	if err := x.card(ctx); err != nil {
		return err
	}
	return x.folder.manifest(x.layout.Name, revision.Of())
}

// stage writes what a stage's artifact has for others.
func (x *exporter) stage(ctx context.Context, s experiments.Stage, m artifacts.Manifest) error {
	from := origin{stage: s.Name, artifact: m.Digest}
	flat := strings.ReplaceAll(s.Name, "/", "-")
	switch s.Kind {
	case experiments.KindBase:
		_, trainedHere := m.Files[results.FileMetrics]
		_, dequantized := m.Files[results.FileQuantization]
		if x.base == baseAlways || x.base == baseTrained && (trainedHere || dequantized) {
			for name, ref := range m.Files {
				if name == results.FileMetrics || name == results.FileSummary {
					continue
				}
				if err := x.copy(ctx, path.Join(flat, name), from, ref); err != nil {
					return err
				}
			}
			x.bases = append(x.bases, flat)
		}
	case experiments.KindSFT, experiments.KindDPO:
		for _, name := range []string{results.FileAdapterConfig, results.FileAdapterWeights} {
			ref, err := m.File(name)
			if err != nil {
				return err
			}
			if err := x.copy(ctx, path.Join("adapters", flat, name), from, ref); err != nil {
				return err
			}
		}
		x.trained = append(x.trained, flat)
	case experiments.KindGenerate:
		ref, err := m.File(results.FilePredictions)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(flat, "generate-")
		x.systems = append(x.systems, name)
		return x.copy(ctx, path.Join("predictions", name+".jsonl"), from, ref)
	case experiments.KindReport:
		for name, ref := range m.Files {
			if err := x.copy(ctx, path.Join("tables", name), from, ref); err != nil {
				return err
			}
		}
		return nil
	}
	if _, trained := m.Files[results.FileMetrics]; trained {
		return x.curves(ctx, s, from)
	}
	return nil
}

func (x *exporter) copy(ctx context.Context, name string, from origin, ref artifacts.Ref) error {
	r, err := x.se.node.Store.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	return x.folder.write(name, from, r)
}
