package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// mostFaults bounds what check lists of one kind.
const mostFaults = 20

type checkOptions struct{ set []string }

func (a *app) checkCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check EXPERIMENT",
		Short: "Say before a night what a run would stumble over: corpus, lengths, prompts, template, time",
		Long: `Check what an experiment rests on and compute nothing: the experiment itself, every
irregularity of its corpus at once, how often each strategy occurs, how many tokens
a turn has in each role's prompt and how many turns are longer than
limits.max_tokens, and one prompt of each role as the model gets it, with the part
that the loss is on between » and «. The tokenizer and its chat template are checked
against the model's configuration. At the end, what is still to be computed, stage by
stage, with the time and the memory that stages like these took, or that known models'
rates let expect.

The tokenizer is the backbone's; that of a tiny model is made by the base stage, and
lengths are known once that is in the store. Exit code 1 if something would fail.`,
		Example: `  esclab check demo
  esclab check my.yaml --set corpus.source=path/to/dialogues.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runCheck(c.Context(), args[0], o, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&o.set, "set", nil, "as for esclab run")
	return c
}

func (a *app) runCheck(ctx context.Context, name string, o checkOptions, out io.Writer) error {
	p, err := a.prepare(ctx, name, o.set)
	if err != nil {
		return err
	}
	se, err := a.openToRead(ctx)
	if errors.Is(err, errNoRuns) {
		se, err = &session{app: a}, nil
	}
	if err != nil {
		return err
	}
	defer se.close()
	k := &checker{out: out}
	if err := k.all(ctx, se, p); err != nil {
		return err
	}
	if p.Missing == nil {
		planned, err := se.planned(ctx, p)
		if err != nil {
			return err
		}
		if err := se.printEstimate(ctx, planned, out, true); err != nil {
			return err
		}
		if err := sayForecast(planned, &p.Experiment, k.survey, k.shape, "", true, out); err != nil {
			return err
		}
	}
	if k.first == nil {
		fmt.Fprintln(out, "nothing is wrong")
	}
	return k.verdict()
}

// checker tells faults and counts them. What it finds in the sources stays with it.
type checker struct {
	out    io.Writer
	first  error
	faults int
	survey esc.Survey        // of the corpus' files
	shape  experiments.Shape // of an imported backbone
}

// verdict is what check and a plan end with where there are faults.
func (k *checker) verdict() error {
	if k.first == nil {
		return nil
	}
	return failed(fmt.Errorf("%d fault%s: the run would fail, or be of no use", k.faults, strings.Repeat("s", min(k.faults-1, 1))))
}

// all checks an experiment.
func (k *checker) all(ctx context.Context, se *session, p experiments.Prepared) error {
	if several, joined := p.Missing.(interface{ Unwrap() []error }); joined { // a fault for each source
		for _, err := range several.Unwrap() {
			k.fault(err)
		}
	} else {
		k.fault(p.Missing)
	}
	corpus := k.corpus(p.Stages[0])
	if p.Missing == nil {
		shape, err := surveyBackbone(p.Stages, k.out)
		k.shape = shape
		k.fault(err)
	}
	dir, err := os.MkdirTemp("", "esclab-check-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	switch tok, err := se.tokenizer(ctx, p.Stages, dir); {
	case err != nil:
		k.fault(err)
	case tok == nil:
		fmt.Fprintln(k.out, "lengths: not known yet: the base stage makes the tokenizer")
	default:
		k.prompts(p.Stages, corpus, tok)
	}
	return nil
}

func (k *checker) fault(err error) {
	if err != nil {
		if k.faults++; k.faults == 1 {
			k.first = err
		}
		fmt.Fprintf(k.out, "fault: %v\n", err)
	}
}

// corpus tells what is in the part of the corpus that is used; it is nil where it cannot be.
func (k *checker) corpus(stage experiments.Stage) []esc.Dialogue {
	params, err := experiments.ParamsOf[experiments.CorpusParams](stage)
	if err != nil || stage.Source == "" {
		k.fault(err)
		return nil
	}
	var corpus esc.Corpus
	if stage.Source == experiments.SourceDemo {
		all, err := esc.ReadDialogues("demo", strings.NewReader(string(democorpus.JSON())), esc.DefaultLimits())
		if err == nil {
			corpus, err = esc.Split(all, params.SplitSeed)
		}
		if err != nil {
			k.fault(err)
			return nil
		}
	} else {
		reading, err := params.Reading()
		if err != nil {
			k.fault(fmt.Errorf("corpus.strategies: %w", err))
			return nil
		}
		survey, surveyed := surveyCorpus(stage, k.out)
		k.survey = survey
		for _, f := range params.Files {
			path := stage.Source
			if params.Layout == experiments.LayoutSplit {
				path = filepath.Join(stage.Source, filepath.Base(f.Name))
			}
			faults, more, err := esc.Faults(path, reading, mostFaults)
			k.fault(err)
			for _, f := range faults {
				k.fault(f)
			}
			if k.faults += more; more > 0 {
				fmt.Fprintf(k.out, "fault: and %d more in %s\n", more, path)
			}
		}
		if k.faults == 0 {
			k.fault(surveyed)
		}
		if k.faults > 0 {
			return nil
		}
		corpus, err = esc.ReadCorpus(esc.Source{Path: stage.Source, SplitIndex: stage.SplitIndexSource, Seed: params.SplitSeed, Reading: reading})
		if err != nil {
			k.fault(err)
			return nil
		}
	}
	corpus = corpus.First(params.MaxDialogues)
	all := slices.Concat(corpus.Train, corpus.Valid, corpus.Test)
	s := esc.ComputeStatistics(all)
	fmt.Fprintf(k.out, "corpus: %d dialogues, %d turns of the supporter; strategies:", len(all), len(esc.AllTurns(all)))
	for i, st := range esc.Strategies() {
		fmt.Fprintf(k.out, "%s %s %d", strings.Repeat(",", min(i, 1)), st, s.Strategies[st])
	}
	fmt.Fprintln(k.out)
	return all
}

// prompts tells, of each role that is trained, how long the turns are and what the
// model gets.
func (k *checker) prompts(stages []experiments.Stage, corpus []esc.Dialogue, tok *tokens.Tokenizer) {
	said := map[esc.Role]bool{}
	for _, s := range stages {
		if s.Kind != experiments.KindSFT {
			continue
		}
		params, err := experiments.ParamsOf[experiments.SFTParams](s)
		if err != nil || said[params.Role] {
			k.fault(err)
			continue
		}
		said[params.Role] = true
		limit := params.MaxTokens
		params.MaxTokens = 1 << 30 // all of a turn is counted
		encoder, err := (&models.Backbone{Params: params.ModelParams, Tok: tok}).Encoder(params.Role)
		if err != nil {
			k.fault(err)
			return
		}
		var lengths []int
		var sample *lm.Sequence
		for _, turn := range esc.AllTurns(corpus) {
			sequences, _, err := encoder.Answers(turn, esc.Answer(params.Role, turn.Strategy, turn.Response))
			if err != nil {
				k.fault(fmt.Errorf("%s: %w", s.Name, err))
				return
			}
			lengths = append(lengths, len(sequences[0].Tokens))
			if sample == nil && len(turn.Context) > 2 {
				sample = &sequences[0]
			}
		}
		if len(lengths) == 0 {
			continue
		}
		slices.Sort(lengths)
		over := 0
		for _, n := range lengths {
			if n > limit {
				over++
			}
		}
		fmt.Fprintf(k.out, "%s: tokens of a turn: median %d, longest %d; %d of %d are longer than limits.max_tokens = %d", params.Role, lengths[len(lengths)/2], lengths[len(lengths)-1], over, len(lengths), limit)
		if over > 0 {
			fmt.Fprintf(k.out, " (limits.longer: %s)", params.Longer)
		}
		fmt.Fprintln(k.out)
		if over > 0 && params.Longer == experiments.LongerFail {
			k.fault(fmt.Errorf("%s: %d turns are longer than limits.max_tokens: raise it, or set limits.longer to trim or skip", s.Name, over))
		}
		if sample != nil {
			text := tok.Decode(sample.Tokens[:sample.LossFrom]) + "»" + tok.Decode(sample.Tokens[sample.LossFrom:]) + "«"
			for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
				fmt.Fprintf(k.out, "  | %s\n", esc.Printable(line))
			}
		}
	}
}

// tokenizerFiles are those of a checkpoint that a tokenizer reads.
var tokenizerFiles = []string{"config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"}

// tokenizer is that of the backbone, checked against its configuration: from its
// directory or GGUF file, or from the base stage's artifact. It is nil where none is there.
func (se *session) tokenizer(ctx context.Context, stages []experiments.Stage, dir string) (*tokens.Tokenizer, error) {
	i := slices.IndexFunc(stages, func(s experiments.Stage) bool { return s.Kind == experiments.KindBase })
	if i < 0 {
		return nil, nil
	}
	base := stages[i]
	info, err := os.Stat(base.Source)
	switch {
	case err == nil && info.IsDir():
		return loadTokenizer(base.Source)
	case err == nil && experiments.GGUF(base.Source):
		file, err := lm.OpenGGUF(base.Source)
		if err == nil {
			err = file.WriteTokenizer(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("backbone: %w", err)
		}
		return checkTokenizer(dir, file.Config)
	case se.node == nil || base.Fingerprint == "":
		return nil, nil
	}
	_, err = results.Checkout(ctx, se.node.Store, base.Fingerprint, dir, tokenizerFiles...)
	if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return loadTokenizer(dir)
}

// loadTokenizer reads a checkpoint's tokenizer and checks it against config.json.
func loadTokenizer(dir string) (*tokens.Tokenizer, error) {
	config, err := lm.ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("backbone: %w", err)
	}
	return checkTokenizer(dir, config)
}

func checkTokenizer(dir string, config lm.Config) (*tokens.Tokenizer, error) {
	tok, err := tokens.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("backbone: %w", err)
	}
	if err := tok.Check(config.VocabSize, config.EOSTokenIDs); err != nil {
		return nil, fmt.Errorf("backbone: %w", err)
	}
	return tok, nil
}
