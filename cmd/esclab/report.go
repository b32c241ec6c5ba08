package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/human"
)

type reportFlags struct {
	out       string
	set       []string
	noSamples bool
	human     []string
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	c := &cobra.Command{
		Use:   "report EXPERIMENT",
		Short: "Write the report of a finished run: HTML, Markdown, LaTeX, CSV and JSON",
		Long: `Write the report of an experiment that has been run, from its artifacts: a
self-contained HTML file with its figures, Markdown, the tables in LaTeX, Table 3
as CSV, and all data as JSON. Give the same --set flags as the run had.

--human adds what people say (Figure 6): the JSON of esclab human import. It has
to rate replies of this run. --no-samples leaves the sample dialogues out: what
remains quotes nothing of the corpus, nor of what the models wrote.`,
		Example: `  esclab report demo --out r/
  esclab report tiny-esconv --set seeds=1,2,3 --no-samples --out docs/results/tiny-esconv
  esclab human import human/key.json anna.csv ben.csv --json > figure6.json
  esclab report demo --human figure6.json --out r/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.report(c.Context(), args[0], f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.out, "out", "report", "directory to write into")
	flags.StringArrayVar(&f.set, "set", nil, "as for esclab run")
	flags.BoolVar(&f.noSamples, "no-samples", false, "leave the sample dialogues out")
	flags.StringArrayVar(&f.human, "human", nil, "file with the JSON of esclab human import (repeatable)")
	return c
}

func (a *app) report(ctx context.Context, name string, f reportFlags) error {
	var ratings []human.Results
	for _, path := range f.human {
		r, err := readRatings(path)
		if err != nil {
			return err
		}
		ratings = append(ratings, r)
	}
	p, err := a.prepare(ctx, name, f.set)
	if err = errors.Join(err, p.Missing); err != nil {
		return err
	}
	if f.out, err = filepath.Abs(f.out); err != nil { // whatever the servers in this process do to the working directory
		return err
	}
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	last := p.Stages[len(p.Stages)-1]
	if err := se.printResults(ctx, last.Fingerprint, os.Stdout); err != nil {
		return failed(fmt.Errorf("%w: run it first: esclab run %s", err, name))
	}
	if !f.noSamples && len(ratings) == 0 {
		return failed(se.writeReport(ctx, last.Fingerprint, f.out))
	}
	data, err := se.reportData(ctx, last.Fingerprint)
	if err != nil {
		return failed(err)
	}
	if f.noSamples {
		data.WithoutSamples, data.Samples = true, nil
	}
	for i, r := range ratings {
		if err := addRatings(&data, r); err != nil {
			return fmt.Errorf("%s: %w", f.human[i], err)
		}
	}
	files, err := report.Files(data)
	if err != nil {
		return failed(err)
	}
	return failed(writeFiles(files, f.out))
}

// readRatings reads what esclab human import --json printed.
func readRatings(path string) (human.Results, error) {
	var r human.Results
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: not the JSON of esclab human import --json: %w", path, err)
	}
	return r, nil
}

// addRatings puts what people say into a report. At least one of the systems
// has to be the report's, by its artifact.
func addRatings(data *report.Data, r human.Results) error {
	ours := func(s human.System) bool {
		return slices.ContainsFunc(data.Provenance, func(stage report.Stage) bool { return stage.Digest == s.Digest })
	}
	if !ours(r.Systems[0]) && !ours(r.Systems[1]) {
		return fmt.Errorf("it rates replies of %s %s and %s %s, whose artifacts are not this run's: give the run, and the --set flags, that the sheet was exported with",
			r.Systems[0].Run, r.Systems[0].Name, r.Systems[1].Run, r.Systems[1].Name)
	}
	wins := report.Wins{
		People: true, Systems: [2]string{r.Systems[0].Label(r.Systems), r.Systems[1].Label(r.Systems)},
		Samples: r.Samples, Raters: len(r.Raters), Statistic: r.Statistic, Notes: r.Notes,
	}
	for _, q := range r.Questions {
		wins.Questions = append(wins.Questions, report.Win{
			Question: q.Question, Answers: q.Answers, Win: share(q.Win), Tie: share(q.Tie), Loss: share(q.Loss), Agreement: q.Agreement,
		})
	}
	data.Wins = append(data.Wins, wins)
	return nil
}

func share(i *metrics.Interval) *report.Share {
	if i == nil {
		return nil
	}
	return &report.Share{Value: i.Estimate, Low: i.Low, High: i.High}
}

// reportData reads what a run's report shows.
func (se *session) reportData(ctx context.Context, fingerprint string) (report.Data, error) {
	from, err := results.Open(ctx, se.node.Store, fingerprint)
	if err != nil {
		return report.Data{}, err
	}
	raw, err := from.ReadFile(results.FileReport)
	if err != nil {
		return report.Data{}, err
	}
	return report.Read(bytes.NewReader(raw))
}

// printResults shows Table 3 on the terminal.
func (se *session) printResults(ctx context.Context, fingerprint string, out io.Writer) error {
	data, err := se.reportData(ctx, fingerprint)
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	head := table.Row{"system"}
	for _, c := range experiments.Table3() {
		head = append(head, c.Head)
	}
	t.AppendHeader(head)
	for _, row := range data.Systems {
		line := table.Row{row.System()}
		for _, cell := range row.Columns.Cells() {
			line = append(line, cell)
		}
		t.AppendRow(line)
	}
	if data.Run.Judge.Offline {
		t.SetCaption("Flu. to Hel. are the offline judge's (%s): fixed rules, no language model.", data.Run.Judge.Name)
	}
	t.Render()
	return nil
}

// writeReport copies a report's files into a directory.
func (se *session) writeReport(ctx context.Context, fingerprint, dir string) error {
	from, err := results.Open(ctx, se.node.Store, fingerprint)
	if err != nil {
		return err
	}
	var files []report.File
	for name := range from.Files {
		data, err := from.ReadFile(name)
		if err != nil {
			return err
		}
		files = append(files, report.File{Name: filepath.Base(name), Data: data})
	}
	return writeFiles(files, dir)
}

// writeFiles writes a report into a directory.
func writeFiles(files []report.File, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if err := whole.Write(filepath.Join(dir, file.Name), whole.Private, file.Data); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "report written to %s\n", filepath.Join(dir, results.FileReportHTML))
	return nil
}
