package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
)

// runsDiff is what esclab diff says of two runs.
type runsDiff struct {
	A          string              `json:"a"`
	B          string              `json:"b"`
	Parameters []compare.Parameter `json:"parameters"`
	DAG        compare.DAGs        `json:"dag"`
	Artifacts  []artifactDiff      `json:"artifacts"` // of stages that are in both and not shared
	Metrics    []metricDiff        `json:"metrics"`   // of the same stages
	Systems    compare.Table       `json:"systems"`
}

// artifactDiff is a stage's artifact in two runs; "" where it is not there.
type artifactDiff struct {
	Stage string `json:"stage"`
	A     string `json:"a"`
	B     string `json:"b"`
	// Same says that the files are the same, byte by byte, although the stages
	// are not.
	Same bool `json:"same_files"`
	// Files are the names of those that differ.
	Files []string `json:"files"`
}

type metricDiff struct {
	Stage  string  `json:"stage"`
	Metric string  `json:"metric"`
	A      float64 `json:"a"`
	B      float64 `json:"b"`
}

type diffOptions struct {
	compareOptions
	json bool
}

func (a *app) diffCommand() *cobra.Command {
	o := diffOptions{compareOptions: compareOptions{metrics: strings.Split(mainMetrics, ",")}}
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Say where two runs part: parameters, stages, artifacts, metrics",
		Long: `Say where two runs part.

  parameters  those that differ
  DAG         the stages at which the two DAGs part, and why: a parameter, the
              code's version, a source file, another input. Stages that differ
              only because an earlier one does are counted
  artifacts   of the stages that differ: which files do, and which are the same
              bytes all the same
  metrics     of the same stages; and of the systems, with paired differences
              on the same test turns, as in esclab compare

` + helpRun,
		Example: "  esclab diff demo tiny-esconv\n  esclab diff demo/0da221080876 demo/5c1f0e9a7b31 --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runDiff(c.Context(), args[0], args[1], o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.Flags().StringSliceVar(&o.systems, "system", nil, "systems whose metrics are shown (default: the headline system of each paradigm)")
	c.Flags().StringSliceVar(&o.metrics, "metrics", o.metrics, "metrics of the systems to show, or all")
	return c
}

func (a *app) runDiff(ctx context.Context, left, right string, o diffOptions, out io.Writer) error {
	columns, err := o.columns()
	if err != nil {
		return err
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	runs, t, err := se.compared(ctx, []string{left, right}, o.compareOptions)
	if err != nil {
		return err
	}
	d := runsDiff{A: runs[0].Name, B: runs[1].Name, Parameters: t.Parameters, DAG: compare.Differ(runs[0].Stages, runs[1].Stages), Systems: t}
	if err := se.artifactDiffs(ctx, runs[0].Stages, runs[1].Stages, &d); err != nil {
		return failed(err)
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(d)
	}
	d.print(out, columns)
	return nil
}

// artifactDiffs compares the artifacts of the stages that both runs have.
func (se *session) artifactDiffs(ctx context.Context, a, b []experiments.Stage, d *runsDiff) error {
	fingerprints := map[string]string{}
	for _, s := range b {
		fingerprints[s.Name] = s.Fingerprint
	}
	d.Artifacts, d.Metrics = []artifactDiff{}, []metricDiff{}
	for _, s := range a {
		other, ok := fingerprints[s.Name]
		if !ok || other == s.Fingerprint {
			continue
		}
		x, err := se.manifest(ctx, s.Fingerprint)
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		y, err := se.manifest(ctx, other)
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		one := artifactDiff{Stage: s.Name, A: x.Digest, B: y.Digest, Files: []string{}}
		if x.Digest != "" && y.Digest != "" {
			names := maps.Clone(x.Files)
			maps.Copy(names, y.Files)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				if x.Files[name].SHA256 != y.Files[name].SHA256 {
					one.Files = append(one.Files, name)
				}
			}
			one.Same = len(one.Files) == 0
		}
		d.Artifacts = append(d.Artifacts, one)
		for _, name := range slices.Sorted(maps.Keys(x.Metrics)) {
			if v, ok := y.Metrics[name]; ok && v != x.Metrics[name] {
				d.Metrics = append(d.Metrics, metricDiff{s.Name, name, x.Metrics[name], v})
			}
		}
	}
	return nil
}

// manifest is zero where the artifact is not there.
func (se *session) manifest(ctx context.Context, fingerprint string) (artifacts.Manifest, error) {
	if fingerprint == "" {
		return artifacts.Manifest{}, nil
	}
	m, err := se.node.Store.Lookup(ctx, fingerprint)
	if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
		return artifacts.Manifest{}, nil
	}
	return m, err
}

func (d runsDiff) print(out io.Writer, columns []experiments.Column) {
	if len(d.DAG.Parts)+len(d.DAG.Follows)+len(d.DAG.OnlyA)+len(d.DAG.OnlyB) == 0 {
		fmt.Fprintf(out, "%s and %s have the same %d stages: they compute the same\n", oneLine(d.A), oneLine(d.B), len(d.DAG.Shared))
		return
	}
	if len(d.Parameters) > 0 {
		g := compare.Grid{Title: "Parameters", Heads: []string{"parameter", oneLine(d.A), oneLine(d.B)}, Numeric: make([]bool, 3)}
		for _, p := range d.Parameters {
			g.Rows = append(g.Rows, []string{oneLine(p.Name), oneLine(p.Values[0]), oneLine(p.Values[1])})
		}
		printGrid(out, g)
	}
	g := compare.Grid{Title: "Where the DAGs part", Heads: []string{"stage", "why"}, Numeric: make([]bool, 2)}
	for _, p := range d.DAG.Parts {
		g.Rows = append(g.Rows, []string{p.Stage, oneLine(strings.Join(p.Reasons, "; "))})
	}
	for _, name := range d.DAG.OnlyA {
		g.Rows = append(g.Rows, []string{name, oneLine(d.A) + " alone"})
	}
	for _, name := range d.DAG.OnlyB {
		g.Rows = append(g.Rows, []string{name, oneLine(d.B) + " alone"})
	}
	printGrid(out, g)
	fmt.Fprintf(out, "%d stages are shared, %d differ only because an earlier one does\n", len(d.DAG.Shared), len(d.DAG.Follows))

	g = compare.Grid{Title: "Artifacts", Heads: []string{"stage", oneLine(d.A), oneLine(d.B), "files"}, Numeric: make([]bool, 4)}
	for _, one := range d.Artifacts {
		files := strings.Join(one.Files, ", ")
		if one.Same {
			files = "the same bytes"
		}
		g.Rows = append(g.Rows, []string{one.Stage, fmt.Sprintf("%.12s", cmp.Or(one.A, "–")), fmt.Sprintf("%.12s", cmp.Or(one.B, "–")), oneLine(files)})
	}
	if len(g.Rows) > 0 {
		printGrid(out, g)
	}
	g = compare.Grid{Title: "Metrics of the stages", Heads: []string{"stage", "metric", oneLine(d.A), oneLine(d.B)}, Numeric: []bool{false, false, true, true}}
	for _, m := range d.Metrics {
		kind, _, _ := strings.Cut(m.Stage, "/")
		switch experiments.Kind(kind) {
		case experiments.KindScore, experiments.KindJudge, experiments.KindBias:
			continue // they stand below
		}
		g.Rows = append(g.Rows, []string{m.Stage, m.Metric, strconv.FormatFloat(m.A, 'g', 6, 64), strconv.FormatFloat(m.B, 'g', 6, 64)})
	}
	if len(g.Rows) > 0 {
		printGrid(out, g)
	}
	systems := d.Systems
	systems.Parameters = nil // they stand above
	printComparison(out, systems, columns)
}
