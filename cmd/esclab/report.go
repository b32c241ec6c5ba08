package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/human"
)

type reportOptions struct {
	out       string
	set       []string
	noSamples bool
	paper     bool
	follow    bool
	human     []string
}

func (a *app) reportCommand() *cobra.Command {
	var o reportOptions
	c := &cobra.Command{
		Use:   "report RUN",
		Short: "Write the report of a finished run: HTML, Markdown, LaTeX, CSV and JSON",
		Long: `Write the report of a run from its artifacts: a self-contained HTML file with its
figures, Markdown, the tables in LaTeX, Table 3 as CSV, and all data as JSON. It is
written where the run's data are, below reports/ of the data directory, or into
--out.

` + helpRun + `

--human adds what people say (Figure 6): the JSON of esclab human import. It has
to rate replies of this run. --no-samples leaves the sample dialogues out: what
remains quotes nothing of the corpus, nor of what the models wrote. --paper
puts the paper's figures beside this run's in the LaTeX tables as well. All three
make another report than the run's own and need --out.

--follow writes the page of a run that goes on whenever stages have ended, with the
systems whose numbers are there, until the run is done: open it in a browser, where it
loads itself anew.`,
		Example: `  esclab report demo
  esclab report demo --out r/
  esclab report tiny-esconv --set seeds=1,2,3 --no-samples --out docs/results/tiny-esconv
  esclab report demo --follow
  esclab human import human/key.json anna.csv ben.csv --json > figure6.json
  esclab report demo --human figure6.json --out r/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runReport(c.Context(), args[0], o, c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.out, "out", "", "directory to write into (default: that of the run's own report)")
	flags.StringArrayVar(&o.set, "set", nil, "as for esclab run")
	flags.BoolVar(&o.noSamples, "no-samples", false, "leave the sample dialogues out")
	flags.BoolVar(&o.paper, "paper", false, "put the paper's figures into the LaTeX tables")
	flags.BoolVar(&o.follow, "follow", false, "write the page of a run that goes on whenever stages end, until it is done")
	flags.StringArrayVar(&o.human, "human", nil, "file with the JSON of esclab human import (repeatable)")
	return c
}

func (a *app) runReport(ctx context.Context, run string, o reportOptions, out io.Writer) error {
	if o.follow && (o.noSamples || len(o.human) > 0) {
		return errors.New("--follow shows the run's own report: leave --no-samples and --human to the finished one")
	}
	another := o.noSamples || o.paper || len(o.human) > 0
	if another && o.out == "" {
		return errors.New("--out is missing: with --no-samples, --paper or --human it is another report than the run's own")
	}
	var ratings []human.Results
	for _, path := range o.human {
		r, err := readRatings(path)
		if err != nil {
			return err
		}
		ratings = append(ratings, r)
	}
	if o.out != "" { // whatever the servers in this process do to the working directory
		var err error
		if o.out, err = filepath.Abs(o.out); err != nil {
			return err
		}
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	l, err := se.layoutOf(ctx, run, o.set)
	if err != nil {
		return err
	}
	last := l.Result()
	dir := se.reportDir(l.Name, last.Fingerprint)
	// A stack of this command's own has no worker: the run does not go on.
	if o.follow && l.Run.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && se.stack == nil {
		if err := se.followReport(ctx, l, cmp.Or(o.out, dir)); err != nil {
			return err
		}
	}
	data, err := se.reportData(ctx, last.Fingerprint)
	if err != nil {
		return se.absent(l, last.Name, err)
	}
	if data.About, data.Run.Revision, err = se.about(ctx, l.Stages, dir); err != nil {
		return failed(err)
	}
	printResults(data, out)
	if !another {
		path, err := writeReport(data, dir, o.out)
		if err != nil {
			return failed(err)
		}
		printAnswer(data, path, a.commandLine("esclab compare", cmp.Or(runName(l.Run.ID), run), nil), out)
		return nil
	}
	data.WithPaper = o.paper
	if o.noSamples {
		data.WithoutSamples, data.Samples = true, nil
	}
	for i, r := range ratings {
		if err := addRatings(&data, r); err != nil {
			return fmt.Errorf("%s: %w", o.human[i], err)
		}
	}
	files, err := report.Files(data)
	if err != nil {
		return failed(err)
	}
	if err := writeFiles(files, o.out); err != nil {
		return failed(err)
	}
	fmt.Fprintf(stderr, "report written to %s\n", filepath.Join(o.out, results.FileReportHTML))
	return nil
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

// printResults shows Table 3: with rules where there is room, else with a space
// between the columns.
func printResults(data report.Data, out io.Writer) {
	head := table.Row{"system"}
	for _, c := range experiments.Table3() {
		head = append(head, c.Head)
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(head)
	align := []table.ColumnConfig{}
	for i := range experiments.Table3() {
		align = append(align, table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(align)
	for _, row := range data.Systems {
		line := table.Row{row.System()}
		for _, cell := range row.Columns.Cells() {
			line = append(line, cell)
		}
		t.AppendRow(line)
	}
	drawn, width := t.Render(), newScreen(out).width
	if first, _, _ := strings.Cut(drawn, "\n"); text.StringWidth(first) > width {
		t.Style().Options = table.OptionsNoBordersAndSeparators
		t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", " "
		drawn = t.Render()
	}
	fmt.Fprintln(out, trimmed(drawn))
	if data.Run.Judge.Offline {
		note := fmt.Sprintf("Flu. to Hel. are the offline judge's (%s): fixed rules, no language model.", data.Run.Judge.Name)
		fmt.Fprintln(out, trimmed(text.WrapSoft(note, width)))
	}
}

// trimmed drops the spaces at the ends of lines, which tables fill up with.
func trimmed(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// printAnswer says what a run has found about the paper's claim, where its report
// is and which command shows more.
func printAnswer(data report.Data, path, more string, out io.Writer) {
	s := newScreen(out)
	if effects := data.Headline; len(effects) > 0 {
		fmt.Fprintf(out, "\n%s against %s, %d test turns of %d dialogues:\n", effects[0].System, effects[0].Against, effects[0].Turns, effects[0].Dialogues)
		t := table.NewWriter()
		t.SetStyle(table.StyleLight)
		t.Style().Options = table.OptionsNoBordersAndSeparators
		right := table.ColumnConfig{Align: text.AlignRight}
		right.Number = 2
		t.SetColumnConfigs([]table.ColumnConfig{right})
		for _, e := range effects {
			difference, interval, finding := e.InWords()
			t.AppendRow(table.Row{e.Measure.Short(), difference, interval, finding})
		}
		fmt.Fprintf(out, "%s\n95 %% intervals; a difference is shown where it also passes a test (p < 0.05).\n", trimmed(t.Render()))
	}
	fmt.Fprintf(out, "\nreport  %s\nmore    %s\n", s.file(path), more)
}

// about says how a run went: what its stages' provenance and the experiment beside
// the run's report tell, and of which revisions the programs were that computed them.
func (se *session) about(ctx context.Context, stages []experiments.Stage, dir string) (*report.About, string, error) {
	var a report.About
	var revisions []string
	for _, s := range stages {
		raw, err := se.node.Store.Provenance(ctx, s.Fingerprint)
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("stage %s: %w", s.Name, err)
		}
		var made struct {
			Finished time.Time `json:"finished"`
			Seconds  float64   `json:"seconds"`
			Hardware string    `json:"hardware"`
			Revision string    `json:"revision"`
		}
		if json.Unmarshal(raw, &made) != nil {
			continue // another version's
		}
		a.Seconds += made.Seconds
		if made.Finished.After(a.Finished) {
			a.Finished = made.Finished
		}
		if made.Hardware != "" && !slices.Contains(a.Hardware, made.Hardware) {
			a.Hardware = append(a.Hardware, made.Hardware)
		}
		if made.Revision != "" && !slices.Contains(revisions, made.Revision) {
			revisions = append(revisions, made.Revision)
		}
	}
	yaml, err := os.ReadFile(filepath.Join(dir, experimentFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	a.YAML = string(yaml)
	return &a, strings.Join(revisions, ", "), nil
}

// experimentFile stands beside a report: the experiment with every field.
const experimentFile = "experiment.yaml"

// writeReport writes a run's report where its data are, dir, and into the
// directory copyTo where one is named. It gives the path of the HTML.
func writeReport(data report.Data, dir, copyTo string) (string, error) {
	files, err := report.Files(data)
	if err != nil {
		return "", err
	}
	if data.About != nil && data.About.YAML != "" {
		files = append(files, report.File{Name: experimentFile, Data: []byte(data.About.YAML)})
	}
	err = writeFiles(files, dir)
	if err == nil && copyTo != "" {
		dir = copyTo
		err = writeFiles(files, dir)
	}
	return filepath.Join(dir, results.FileReportHTML), err
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
	return nil
}
