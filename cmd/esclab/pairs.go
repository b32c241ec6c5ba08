package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/pairs"
	"github.com/esclab/esclab/workflows/lab"
)

type pairsOptions struct {
	set                            []string
	roles, errors, strategies      []string
	dialogues                      []int
	selection                      string
	limit, context                 int
	json, stats                    bool
	export, format                 string
	limitSet, formatSet, exportSet bool
}

func (a *app) pairsCommand() *cobra.Command {
	var f pairsOptions
	c := &cobra.Command{
		Use:   "pairs RUN",
		Short: "Browse, count and export the preference pairs that a run has mined",
		Long: `Show the preference pairs that Inferential Preference Mining made of a run's
errors (section 4.1): for each pair the end of its context, the chosen side (the
gold answer), the rejected side (what the SFT model said), the errors that the
judge found and its reason in one line.

  sp  the planner's pairs: two strategies, for a strategy mismatch
  rg  the generator's: two responses under the gold strategy, for lack of
      empathy, an early emotion shift or a template response
  vm  the vanilla model's: strategy and response together. --selection takes
      psnr (gold strategy, faulty response), nspr (another strategy, response
      without an error) or nsnr (both), as in Table 5

Filters narrow what is shown, counted and exported; a flag given twice, or with
commas, takes either.

--stats prints the figures of the paper's Table 1: the corpus's, and pairs by
role and error. --export DIR writes JSON lines, a file a role:

  trl           TRL's DPOTrainer, conversational: load_dataset("json",
                data_files="DIR/demo_sp.jsonl")
  llamafactory  LLaMA-Factory, sharegpt with ranking, and its dataset_info.json:
                dataset_dir: DIR, dataset: demo_sp

There the context is whole, with the run's system prompt; each side is the whole
message of the assistant. A pair's errors, reason and place stand in columns that
both trainers ignore.

` + helpRun,
		Example: `  esclab pairs demo --role rg --error lack_of_empathy
  esclab pairs demo --role vm --selection nspr --strategy Question --limit 3
  esclab pairs demo --stats
  esclab pairs demo --export pairs/ --format llamafactory`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.limitSet, f.formatSet, f.exportSet = c.Flags().Changed("limit"), c.Flags().Changed("format"), c.Flags().Changed("export")
			return a.runPairs(c.Context(), args[0], f, c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&f.roles, "role", nil, "pairs of these roles: vm, sp, rg (default: all)")
	flags.StringSliceVar(&f.errors, "error", nil, "pairs with any of these errors: strategy_mismatch, lack_of_empathy, early_emotion_shift, template_response")
	flags.StringSliceVar(&f.strategies, "strategy", nil, "pairs with any of these strategies on either side, by ESConv's name or the paper's abbreviation (Qu, RP, RF, Sd, AR, PS, In, Ot)")
	flags.IntSliceVar(&f.dialogues, "dialogue", nil, "pairs of these dialogues of the train split, counted from 0")
	flags.StringVar(&f.selection, "selection", "all", "of the vanilla model's pairs: all, psnr, nspr, nsnr")
	flags.IntVar(&f.limit, "limit", 10, "show or export at most so many pairs; 0: all, which is --export's default")
	flags.IntVar(&f.context, "context", 4, "messages of the context shown before the pair, the newest; 0: all")
	flags.BoolVar(&f.json, "json", false, "print JSON: with --stats one object, else one line a pair")
	flags.BoolVar(&f.stats, "stats", false, "print Table 1's statistics instead of pairs")
	flags.StringVar(&f.export, "export", "", "write the pairs into this directory")
	flags.StringVar(&f.format, "format", string(pairs.TRL), "with --export: trl or llamafactory")
	flags.StringArrayVar(&f.set, "set", nil, "as for esclab run")
	return c
}

// filter makes the filter of the flags.
func (f pairsOptions) filter() (pairs.Filter, error) {
	filter := pairs.Filter{Dialogues: f.dialogues}
	for _, name := range f.roles {
		role, err := esc.ParseRole(strings.ToLower(name))
		if err != nil {
			return filter, fmt.Errorf("--role: %w", err)
		}
		filter.Roles = append(filter.Roles, role)
	}
	for _, name := range f.errors {
		var e esc.PsyError
		if err := e.UnmarshalText([]byte(strings.ToLower(name))); err != nil {
			return filter, fmt.Errorf("--error: %w", err)
		}
		if esc.Route(e) == esc.Nowhere {
			return filter, fmt.Errorf("--error %s: it is counted and makes no pair; --stats has the counts", e)
		}
		filter.Errors = append(filter.Errors, e)
	}
	for _, name := range f.strategies {
		s, err := esc.TypedStrategy(name)
		if err != nil {
			return filter, fmt.Errorf("--strategy: %w", err)
		}
		filter.Strategies = append(filter.Strategies, s)
	}
	if f.selection == "" || f.selection == string(esc.PairsAll) {
		return filter, nil
	}
	for _, kind := range esc.Kinds() {
		if f.selection == string(kind) {
			filter.Kinds = []esc.Kind{kind}
		}
	}
	if filter.Kinds == nil {
		return filter, fmt.Errorf("--selection %s: use all, psnr, nspr or nsnr", f.selection)
	}
	if len(filter.Roles) == 0 { // the others' pairs have no kind
		filter.Roles = []esc.Role{esc.VM}
	}
	for _, role := range filter.Roles {
		if role != esc.VM {
			return filter, fmt.Errorf("--selection %s is of the vanilla model's pairs: leave out --role %s", f.selection, role)
		}
	}
	return filter, nil
}

// check refuses flags that do not go together.
func (f pairsOptions) check() error {
	switch {
	case f.limit < 0 || f.context < 0:
		return errors.New("--limit and --context must not be negative; 0 means all")
	case f.exportSet && f.export == "":
		return errors.New("--export names no directory")
	case f.exportSet && (f.json || f.stats):
		return errors.New("--export writes files; leave out --json and --stats")
	case f.formatSet && !f.exportSet:
		return errors.New("--format goes with --export DIR")
	case f.stats && f.limitSet:
		return errors.New("--stats counts all pairs that the filters take; leave out --limit")
	}
	return nil
}

func (a *app) runPairs(ctx context.Context, run string, f pairsOptions, out io.Writer) error {
	filter, err := f.filter()
	if err = errors.Join(err, f.check()); err != nil {
		return err
	}
	format, err := pairs.ParseFormat(f.format)
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	if f.export != "" { // whatever the servers in this process do to the working directory
		if f.export, err = filepath.Abs(f.export); err != nil {
			return err
		}
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
	found, err := se.readMined(ctx, l, filter.Roles)
	if err != nil {
		return err
	}
	switch {
	case f.stats:
		return printPairStats(out, l.Name, found, filter, f.json)
	case f.exportSet:
		return exportPairs(l.Name, found, filter, f, format)
	}
	kept, total := pairs.Select(found.pairs, filter, f.limit)
	if f.json {
		return pairsJSON(out, kept, f.context)
	}
	return printPairs(out, kept, total, f.context)
}

// minedRun is what a run's mine stages left.
type minedRun struct {
	pairs   []pairs.Pair
	mined   map[esc.Role]results.Mined
	train   []esc.Dialogue
	prompts esc.Prompts
}

// readMined reads the pairs of the roles, of all where none is named. Roles
// whose mining is not done are an error where they are named, else left out.
func (se *session) readMined(ctx context.Context, l lab.Layout, roles []esc.Role) (minedRun, error) {
	found := minedRun{mined: map[esc.Role]results.Mined{}}
	named := len(roles) > 0
	if !named {
		roles = esc.Roles()
	}
	corpus, ok := l.Stage(string(experiments.KindCorpus))
	if !ok {
		return found, fmt.Errorf("%s has no corpus stage", l.Name)
	}
	from, err := results.Open(ctx, se.node.Store, corpus.Fingerprint)
	if err == nil {
		found.train, err = results.ReadDialogues(from, results.FileTrain)
	}
	if err != nil {
		return found, se.absent(l, corpus.Name, err)
	}
	for _, role := range roles {
		name := string(experiments.KindMine) + "/" + string(role)
		stage, ok := l.Stage(name)
		if !ok {
			if named {
				return found, fmt.Errorf("%s does not mine pairs for %s: its paradigms or methods need none", l.Name, role)
			}
			continue
		}
		from, err := results.Open(ctx, se.node.Store, stage.Fingerprint)
		if !named && errors.Is(err, artifacts.ErrNotFound) {
			fmt.Fprintf(stderr, "stage %s is not done yet: its pairs are left out\n", name)
			continue
		}
		if err != nil {
			return found, se.absent(l, name, err)
		}
		mined, summary, err := results.ReadMined(from)
		if err != nil {
			return found, se.absent(l, name, err)
		}
		joined, err := pairs.Join(mined, found.train)
		if err != nil {
			return found, failed(err)
		}
		params, err := experiments.ParamsOf[experiments.MineParams](stage)
		if err != nil {
			return found, failed(err)
		}
		if found.prompts, err = params.RolePrompts(); err != nil {
			return found, failed(err)
		}
		found.pairs = append(found.pairs, joined...)
		found.mined[role] = summary
	}
	if len(found.mined) == 0 {
		return found, failed(fmt.Errorf("%s has mined no pairs: its methods need dpo, and its mine stages have to be done: %s", l.Name, se.remedy(l)))
	}
	return found, nil
}

// exportPairs writes the pairs and says what it wrote.
func exportPairs(name string, found minedRun, filter pairs.Filter, f pairsOptions, format pairs.Format) error {
	limit := 0
	if f.limitSet {
		limit = f.limit
	}
	kept, _ := pairs.Select(found.pairs, filter, limit)
	if len(kept) == 0 {
		return failed(errors.New("no pair passes the filters: nothing was written"))
	}
	if len(filter.Kinds) > 0 {
		name += "_" + string(filter.Kinds[0])
	}
	files, err := pairs.Export(f.export, name, format, found.prompts, kept)
	for _, file := range files {
		fmt.Fprintln(stderr, "written", filepath.Join(f.export, file))
	}
	return failed(err)
}

// pairsJSON writes the pairs as they lie in the store, with their context.
func pairsJSON(out io.Writer, kept []pairs.Pair, context int) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, p := range kept {
		if err := e.Encode(struct {
			esc.Pair
			Context []esc.Message `json:"context"`
		}{p.Pair, tail(p.Context, context)}); err != nil {
			return failed(err)
		}
	}
	return nil
}

// tail keeps the last n messages; 0 keeps all.
func tail(messages []esc.Message, n int) []esc.Message {
	if n <= 0 || n >= len(messages) {
		return messages
	}
	return messages[len(messages)-n:]
}
