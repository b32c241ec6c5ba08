package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
)

// mainMetrics are the columns that a comparison shows unless it is asked for
// others: with their intervals, all eleven fill more than a screen.
const mainMetrics = "rouge_l,preference_bias,weighted_f1,macro_f1"

type compareOptions struct {
	sweep         string
	systems       []string
	metrics       []string
	sort          string
	against       string
	md, csv, json bool
}

func (a *app) compareCommand() *cobra.Command {
	var f compareOptions
	c := &cobra.Command{
		Use:   "compare RUN… | --sweep SWEEP",
		Short: "Put runs side by side: what differs, what they score, and how surely",
		Long: `Put runs side by side. The table has only those parameters that differ; what
differs alike in all stages, such as a seed, is listed once. Of each run it shows
the headline system of each paradigm, vanilla beside decoupled (--system takes
others, or all), with the 95 % interval of every number, by bootstrap over
dialogues; the best of a column is marked.

Below stand paired differences on the same test turns: each with its 95 %
interval, by paired bootstrap, and its p-value, by a permutation test over
dialogues that takes the trained models as given, not corrected for their number. One run alone: its decoupled system
against its vanilla one. Several: each system against that of the first run, or
of --against. Of a sweep only with --against.

` + helpRun + `

Where esclab up or an external Temporal serves a web UI, the comparison has a
page there too; esclab ui --compare gives its address.`,
		Example: `  esclab compare demo                              # decoupled beside vanilla, in one run
  esclab compare demo tiny-esconv --metrics all
  esclab compare demo/0da221080876 demo/5c1f0e9a7b31 --md > table.md
  esclab compare --sweep betas --system decoupled/dpo --sort B --csv`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.runCompare(c.Context(), args, f, c.OutOrStdout())
		},
	}
	flags := c.Flags()
	f.selection(flags.StringVar, flags.StringSliceVar)
	flags.StringVar(&f.sort, "sort", "", "sort the rows: run, system, a parameter that differs, or a metric (best first)")
	flags.BoolVar(&f.md, "md", false, "print Markdown")
	flags.BoolVar(&f.csv, "csv", false, "print CSV: all metrics in full, each with its interval")
	flags.BoolVar(&f.json, "json", false, "print JSON: all metrics in full, with the paired differences")
	c.MarkFlagsMutuallyExclusive("md", "csv", "json")
	return c
}

// selection adds the flags that say what is compared.
func (f *compareOptions) selection(one func(*string, string, string, string), many func(*[]string, string, []string, string)) {
	one(&f.sweep, "sweep", "", "compare the cells of this sweep")
	many(&f.systems, "system", nil, "systems to show: decoupled/dpo, vanilla/sft …, or all (default: the headline system of each paradigm)")
	many(&f.metrics, "metrics", strings.Split(mainMetrics, ","), "metrics to show, by name or by Table 3's heads (D-1, B, Qw …), or all")
	one(&f.against, "against", "", "run that the paired differences are against (default: the first)")
}

// columns are those that --metrics names.
func (f compareOptions) columns() ([]experiments.Column, error) {
	if slices.Contains(f.metrics, "all") {
		return experiments.Table3(), nil
	}
	var columns []experiments.Column
	for _, name := range f.metrics {
		c, ok := experiments.FindColumn(name)
		if !ok {
			var names []string
			for _, c := range experiments.Table3() {
				names = append(names, c.Name)
			}
			return nil, fmt.Errorf("--metrics %s: use all or some of %s", name, strings.Join(names, ", "))
		}
		columns = append(columns, c)
	}
	return columns, nil
}

func (f compareOptions) check(args []string) error {
	switch {
	case f.sweep == "" && len(args) == 0:
		return errors.New("name the runs to compare (esclab status lists them), or a sweep with --sweep")
	case f.sweep != "" && len(args) > 0:
		return errors.New("name runs or a sweep, not both")
	}
	_, err := f.columns()
	return err
}

func (a *app) runCompare(ctx context.Context, args []string, f compareOptions, out io.Writer) error {
	if err := f.check(args); err != nil {
		return err
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	runs, t, err := se.compared(ctx, args, f)
	if err != nil {
		return err
	}
	columns, err := f.columns()
	if err != nil {
		return err
	}
	switch {
	case f.json:
		err = t.JSON(out)
	case f.csv:
		err = t.CSV(out)
	case f.md:
		err = t.Markdown(out, columns)
	default:
		printComparison(out, t, columns)
	}
	if err != nil {
		return failed(fmt.Errorf("write the comparison: %w", err))
	}
	if url, err := se.showComparison(ctx, f, runs, t, columns); err != nil {
		a.log.Warn().Err(err).Msg("the comparison has no page in the web UI")
	} else if url != "" {
		fmt.Fprintf(stderr, "web UI %s\n", url)
	}
	return nil
}

// compared reads what is to be compared and lays it side by side.
func (se *session) compared(ctx context.Context, args []string, f compareOptions) ([]*comparedRun, compare.Table, error) {
	runs, err := se.selected(ctx, args, f)
	if err != nil {
		return nil, compare.Table{}, err
	}
	shown := make([]compare.Run, len(runs))
	turns := f.sweep == "" || f.against != ""
	reading, gctx := errgroup.WithContext(ctx)
	reading.SetLimit(8)
	for _, r := range runs {
		reading.Go(func() error {
			if err := se.evaluate(gctx, r, f.systems, turns); err != nil {
				return fmt.Errorf("run %s: %w", r.Name, err)
			}
			return nil
		})
	}
	if err := reading.Wait(); err != nil {
		return nil, compare.Table{}, failed(err)
	}
	for i, r := range runs {
		shown[i] = r.Run
	}
	if len(f.systems) > 0 && !slices.ContainsFunc(shown, func(r compare.Run) bool { return len(r.Systems) > 0 }) {
		return nil, compare.Table{}, fmt.Errorf("--system %s: no run has it; esclab compare --system all shows those that there are", strings.Join(f.systems, ","))
	}
	t := compare.New(shown)
	if t.Paired, t.Notes, err = se.paired(ctx, runs, f); err != nil {
		return nil, t, failed(err)
	}
	return runs, t, t.Sort(f.sort)
}

// printComparison writes tables for a terminal.
func printComparison(out io.Writer, t compare.Table, columns []experiments.Column) {
	s := newScreen(out)
	best := func(cell string) string { return s.paint(text.Colors{text.Bold}, cell) + "*" }
	for _, g := range t.Grids(compare.Format{Columns: columns, Best: best, Text: oneLine}) {
		printGrid(out, g)
	}
	fmt.Fprintln(out, "* best of its column, or a difference with p < 0.05 and 0 outside its interval; in brackets 95 % intervals")
	for _, n := range t.Notes {
		fmt.Fprintln(out, oneLine(n))
	}
}

func printGrid(out io.Writer, g compare.Grid) {
	w := table.NewWriter()
	w.SetOutputMirror(out)
	w.SetStyle(table.StyleLight)
	w.SetTitle(g.Title)
	head := table.Row{}
	var align []table.ColumnConfig
	for i, h := range g.Heads {
		head = append(head, h)
		if g.Numeric[i] {
			align = append(align, table.ColumnConfig{Number: i + 1, Align: text.AlignRight})
		}
	}
	w.SetColumnConfigs(align)
	w.Style().Format.Header = text.FormatDefault
	w.AppendHeader(head)
	for _, line := range g.Rows {
		row := table.Row{}
		for _, cell := range line {
			row = append(row, cell)
		}
		w.AppendRow(row)
	}
	w.Render()
}

// oneLine is text that is printable and has one line.
func oneLine(s string) string { return strings.ReplaceAll(esc.Printable(s), "\n", " ") }
