package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/human"
	"github.com/esclab/esclab/workflows/lab"
)

func (a *app) humanCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "human",
		Short: "Let people compare two systems: a blinded sheet out, win rates in",
		Long: `The paper's human evaluation (figure 6): export a blinded sheet of samples for
raters, and import the filled sheets for win rates and the raters' agreement.`,
	}
	c.AddCommand(a.humanExportCommand(), a.humanImportCommand())
	return c
}

type humanExportOptions struct {
	set, against       []string
	systems            []string
	other              string
	samples            int
	seed               uint64
	out, separatorName string
}

func (a *app) humanExportCommand() *cobra.Command {
	var f humanExportOptions
	c := &cobra.Command{
		Use:   "export RUN",
		Short: "Write a blinded sheet of two systems' replies for raters",
		Long: `Draw samples of the test split and write, into --out:

  raters/sheet.csv         one row a sample: the conversation so far, reply A and
                           reply B, a column for each question, a comment
  raters/instructions.txt  what raters have to know; give them this directory
  key.json                 which system is A in which row: keep it to yourself

Which samples, their order and which system is A are drawn by --seed; each system
is A in half of the rows. Strategies and everything that names a system are left
out. The questions are the paper's dimensions: fluency, professionalism, empathy,
helpfulness; raters answer A, B or tie. A reply that a spreadsheet would take for
a formula has an apostrophe before it. The file is UTF-8 with a byte-order mark.
If your raters' spreadsheet shows one column, it expects --separator semicolon.

Systems are named as in the report: vanilla/base, vanilla/sft, vanilla/dpo,
vanilla/dpo/nsnr, decoupled/sft, decoupled/dpo and so on. With --other the second
one is of another run on the same test split.

` + helpRun,
		Example: `  esclab human export demo --out human/
  esclab human export demo --systems decoupled/dpo,decoupled/sft --samples 40 --seed 7 --out human/
  esclab human export qwen2.5-7b --other llama3.1-8b --systems decoupled/dpo,decoupled/dpo --out human/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runHumanExport(c.Context(), args[0], f) },
	}
	flags := c.Flags()
	flags.StringSliceVar(&f.systems, "systems", []string{"decoupled/dpo", "vanilla/dpo"}, "the two systems; wins are the first one's")
	flags.StringVar(&f.other, "other", "", "the run of the second system (default: RUN)")
	flags.IntVar(&f.samples, "samples", 20, "rows of the sheet; the paper has 20")
	flags.Uint64Var(&f.seed, "seed", 1, "of the draw")
	flags.StringVar(&f.out, "out", "human", "directory to write into, new or empty")
	flags.StringVar(&f.separatorName, "separator", "comma", "between the cells: comma, semicolon or tab")
	flags.StringArrayVar(&f.set, "set", nil, "as for esclab run, of RUN")
	flags.StringArrayVar(&f.against, "other-set", nil, "as --set, of --other")
	return c
}

func (a *app) runHumanExport(ctx context.Context, run string, f humanExportOptions) error {
	separator, known := map[string]rune{"comma": ',', "semicolon": ';', "tab": '\t'}[f.separatorName]
	switch {
	case !known:
		return fmt.Errorf("--separator %q: use comma, semicolon or tab", f.separatorName)
	case len(f.systems) != 2:
		return fmt.Errorf("--systems names %d systems: name two, with a comma between them", len(f.systems))
	case f.samples < 1:
		return fmt.Errorf("--samples %d: at least one is needed", f.samples)
	case len(f.against) > 0 && f.other == "":
		return errors.New("--other-set goes with --other RUN")
	}
	out, err := filepath.Abs(f.out)
	if err != nil {
		return err
	}
	keyPath := filepath.Join(out, "key.json")
	if _, err := os.Stat(keyPath); err == nil {
		return fmt.Errorf("%s is there already: sheets may be out with raters that it unblinds; choose another --out", keyPath)
	}
	if err := emptyOrNew(f.out); err != nil {
		return err
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	first, err := se.layoutOf(ctx, run, f.set)
	if err != nil {
		return err
	}
	second := first
	if f.other != "" {
		if second, err = se.layoutOf(ctx, f.other, f.against); err != nil {
			return err
		}
	}
	var systems [2]human.System
	var replies [2][]human.Reply
	var gold [2]map[esc.Place]string
	for i, l := range []lab.Layout{first, second} {
		if systems[i], replies[i], gold[i], err = se.replies(ctx, l, f.systems[i]); err != nil {
			return err
		}
	}
	for at, response := range gold[0] {
		if other, there := gold[1][at]; there && other != response {
			return fmt.Errorf("the two runs have different test splits: dialogue %d, turn %d has another gold response", at.Dialogue, at.Turn)
		}
	}
	corpus, ok := first.Stage(string(experiments.KindCorpus))
	if !ok {
		return fmt.Errorf("%s has no corpus stage", first.Name)
	}
	var test []esc.Dialogue
	from, err := results.Open(ctx, se.node.Store, corpus.Fingerprint)
	if err == nil {
		test, err = results.ReadDialogues(from, results.FileTest)
	}
	if err != nil {
		return se.absent(first, corpus.Name, err)
	}
	key, samples, err := human.Draw(systems, replies, esc.AllTurns(test), f.samples, f.seed)
	if err != nil {
		return err
	}
	return failed(writeSheet(out, keyPath, key, samples, separator))
}

// replies reads what a system replied to the test turns, and the gold replies.
func (se *session) replies(ctx context.Context, l lab.Layout, name string) (human.System, []human.Reply, map[esc.Place]string, error) {
	system := human.System{Run: l.Name, Name: name}
	stageName := string(experiments.KindGenerate) + "/" + name
	stage, ok := l.Stage(stageName)
	if !ok {
		var have []string
		for _, s := range l.Of(experiments.KindGenerate) {
			have = append(have, strings.TrimPrefix(s.Name, string(experiments.KindGenerate)+"/"))
		}
		return system, nil, nil, fmt.Errorf("--systems: %s has no system %q; it has %s", l.Name, name, strings.Join(have, ", "))
	}
	from, err := results.Open(ctx, se.node.Store, stage.Fingerprint)
	if err != nil {
		return system, nil, nil, se.absent(l, stageName, err)
	}
	predictions, err := results.ReadRows[results.Prediction](from, results.FilePredictions)
	if err != nil {
		return system, nil, nil, se.absent(l, stageName, err)
	}
	system.Digest = from.Digest
	replies := make([]human.Reply, len(predictions))
	gold := make(map[esc.Place]string, len(predictions))
	for i, p := range predictions {
		replies[i] = human.Reply{Dialogue: p.Dialogue, Turn: p.Turn, Text: p.Response}
		gold[p.Place] = p.GoldResponse
	}
	return system, replies, gold, nil
}

// writeSheet writes the three files.
func writeSheet(dir, keyPath string, key human.Key, samples []human.Sample, separator rune) error {
	raters := filepath.Join(dir, "raters")
	if err := os.MkdirAll(raters, 0o755); err != nil {
		return err
	}
	for _, file := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{keyPath, func(w io.Writer) error { return human.WriteKey(w, key) }},
		{filepath.Join(raters, "instructions.txt"), func(w io.Writer) error { return human.WriteInstructions(w, len(samples), key.Asked) }},
		{filepath.Join(raters, "sheet.csv"), func(w io.Writer) error { return human.WriteSheet(w, samples, key.Asked, separator) }},
	} {
		if err := whole.Create(file.path, whole.Private, file.write); err != nil {
			return err
		}
		fmt.Fprintln(stderr, "written", file.path)
	}
	fmt.Fprintf(stderr, "give raters %s and keep %s; then: esclab human import %s FILLED.csv...\n", raters, keyPath, keyPath)
	return nil
}

func (a *app) humanImportCommand() *cobra.Command {
	var asJSON, asMarkdown bool
	var seed uint64
	c := &cobra.Command{
		Use:   "import KEY SHEET...",
		Short: "Read filled sheets: win rates with intervals, and the raters' agreement",
		Long: `Read the sheets that raters filled, one file each, and unblind them with the key
that esclab human export wrote. For each question, and for all together: the share
of the answers that the first system wins, ties and loses, with 95 % bootstrap
intervals over samples, and the raters' agreement beyond chance: Cohen's kappa of
two raters, Krippendorff's alpha of more.

Sheets may come with commas, semicolons or tabs, in UTF-8 or UTF-16, with rows and
columns in another order. Answers are A, B or tie, in any case; an empty cell is
an answer not given. What cannot be read is told with file, row and column, and
nothing is counted then (exit code 2). Needs no Temporal and no store.`,
		Example: `  esclab human import human/key.json anna.csv ben.csv carl.csv
  esclab human import human/key.json anna.csv ben.csv --json > figure6.json`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			results, err := humanImport(c.Context(), args[0], args[1:], seed)
			if err != nil {
				return err
			}
			return failed(printRatings(c.OutOrStdout(), results, asJSON, asMarkdown))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&asMarkdown, "md", false, "print a Markdown table")
	c.Flags().Uint64Var(&seed, "seed", 1, "of the bootstrap")
	c.MarkFlagsMutuallyExclusive("json", "md")
	return c
}

// humanImport reads the key and the sheets; a rater has the name of the file.
func humanImport(ctx context.Context, keyPath string, paths []string, seed uint64) (human.Results, error) {
	var results human.Results
	f, err := os.Open(keyPath)
	if err != nil {
		return results, err
	}
	defer f.Close()
	key, err := human.ReadKey(keyPath, f)
	if err != nil {
		return results, err
	}
	var sheets []human.Ratings
	var problems []error
	seen := map[string]bool{}
	for _, path := range paths {
		rater := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		if seen[rater] {
			problems = append(problems, fmt.Errorf("%s: there is another sheet of %q: a rater counts once; rename one of the files", path, rater))
			continue
		}
		seen[rater] = true
		ratings, err := readSheetFile(path, rater, key)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		sheets = append(sheets, ratings)
	}
	if err := errors.Join(problems...); err != nil {
		return results, err
	}
	return human.Evaluate(ctx, key, sheets, seed)
}

func readSheetFile(path, rater string, key human.Key) (human.Ratings, error) {
	f, err := os.Open(path)
	if err != nil {
		return human.Ratings{}, err
	}
	defer f.Close()
	return human.ReadSheet(path, rater, f, key)
}

func printRatings(out io.Writer, r human.Results, asJSON, asMarkdown bool) error {
	switch {
	case asJSON:
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case asMarkdown:
		_, err := io.WriteString(out, r.Markdown())
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetTitle("%s against %s: %d samples, %d raters", r.Systems[0].Label(r.Systems), r.Systems[1].Label(r.Systems), r.Samples, len(r.Raters))
	row := func(cells [6]string) table.Row {
		var row table.Row
		for _, c := range cells {
			row = append(row, c)
		}
		return row
	}
	t.AppendHeader(row(r.Head()))
	for _, q := range r.Questions {
		if q.Question == human.All {
			t.AppendSeparator()
		}
		t.AppendRow(row(q.Cells()))
	}
	t.SetCaption("Wins are the first system's; 95 %% bootstrap intervals over samples.")
	t.Render()
	for _, note := range r.Notes {
		fmt.Fprintln(out, note)
	}
	return nil
}
