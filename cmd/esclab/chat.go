package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/esclab/esclab/esc/chat"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows/lab"
)

type chatOptions struct {
	set            []string
	system, engine string
	temperature    float64
	temperatureSet bool
	maxNewTokens   int
	seed           uint64
}

func (a *app) chatCommand() *cobra.Command {
	var f chatOptions
	c := &cobra.Command{
		Use:   "chat RUN",
		Short: "Talk with a run's model: see its plan, force a strategy",
		Long: `Hold a conversation with one of a run's systems: you are the seeker, the model
the supporter. Before each reply stands what the planner thinks of the eight
strategies; the likeliest is taken, unless you force another. The reply appears
as it is written.

` + chat.Note + `

--system names a system as the report does: decoupled/dpo (a planner, then a
generator), vanilla/sft (one model for both), decoupled/base and so on. Without
it, the most trained one whose stages are done, decoupled before vanilla. Replies
are drawn as the run draws them; --temperature 0 takes the likeliest token.

Commands: /strategy NAME, /regenerate, /undo, /save FILE, /help, /quit. What is
piped in is answered line by line.

` + helpRun,
		Example: `  esclab chat demo
  esclab chat demo --system vanilla/sft --seed 7
  printf 'I lost my job.\n/strategy RF\n/regenerate\n' | esclab chat demo`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.temperatureSet = c.Flags().Changed("temperature")
			return a.runChat(c.Context(), args[0], f, c.InOrStdin(), c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.system, "system", "", "which system of the run (default: the most trained one)")
	flags.StringVar(&f.engine, "engine", "", "engine that computes: auto, go, onnx, xla:cuda, xla:cpu (default: the run's)")
	flags.Float64Var(&f.temperature, "temperature", 0, "of the replies; 0: the likeliest token (default: the run's)")
	flags.IntVar(&f.maxNewTokens, "max-new-tokens", 0, "longest reply (default: the run's generation.max_new_tokens)")
	flags.Uint64Var(&f.seed, "seed", 1, "of the replies")
	flags.StringArrayVar(&f.set, "set", nil, "as for esclab run")
	return c
}

func (a *app) runChat(ctx context.Context, run string, f chatOptions, in io.Reader, out io.Writer) error {
	switch {
	case f.temperature < 0:
		return fmt.Errorf("--temperature %v: it must not be negative", f.temperature)
	case f.maxNewTokens < 0:
		return fmt.Errorf("--max-new-tokens %d: it must not be negative", f.maxNewTokens)
	}
	speaker, about, err := a.loadSpeaker(ctx, run, f)
	if err != nil {
		return err
	}
	defer speaker.Close()
	s := chat.Session{
		Conversation: chat.New(speaker), In: in, Out: out, About: about, Deterministic: speaker.Greedy,
	}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		s.Prompt = "you> "
	}
	err = s.Run(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(out)
		return ctx.Err()
	}
	return failed(err)
}

// loadSpeaker loads a system; the store is let go of before anybody talks.
func (a *app) loadSpeaker(ctx context.Context, run string, f chatOptions) (*models.Speaker, string, error) {
	se, err := a.openToRead(ctx)
	if err != nil {
		return nil, "", err
	}
	defer se.close()
	l, err := se.layoutOf(ctx, run, f.set)
	if err != nil {
		return nil, "", err
	}
	stage, err := se.systemOf(ctx, l, f.system)
	if err != nil {
		return nil, "", err
	}
	o := models.SpeakerOptions{Engine: experiments.Engine(f.engine), MaxNewTokens: f.maxNewTokens, Seed: f.seed}
	if f.temperatureSet {
		o.Temperature = &f.temperature
	}
	speaker, err := models.NewSpeaker(ctx, se.node.Store, stage, l.Inputs(stage), o)
	if err != nil {
		return nil, "", se.absent(l, stage.Name, err)
	}
	return speaker, fmt.Sprintf("%s, %s, on %s", l.Name, systemName(stage), speaker.Engine), nil
}

// systemName is a generate stage's system, as the report names it.
func systemName(s experiments.Stage) string {
	return strings.TrimPrefix(s.Name, string(experiments.KindGenerate)+"/")
}

// systemOf finds a system by its name; without one, the most trained one whose
// models are in the store: the last of the decoupled ones, else of the others.
func (se *session) systemOf(ctx context.Context, l lab.Layout, name string) (experiments.Stage, error) {
	// Not those that cannot be talked with: given the gold strategy, or in steps.
	stages := slices.DeleteFunc(l.Of(experiments.KindGenerate), func(s experiments.Stage) bool {
		params, err := experiments.ParamsOf[experiments.GenerateParams](s)
		return err == nil && !models.Talks(params)
	})
	var names []string
	for _, s := range stages {
		if names = append(names, systemName(s)); systemName(s) == name {
			return s, nil
		}
	}
	if name != "" {
		// Of several seeds the first one's, unless it is named.
		for _, s := range stages {
			if experiments.WithoutSeed(systemName(s)) == name {
				return s, nil
			}
		}
		return experiments.Stage{}, fmt.Errorf("--system: %s has no system %q to talk with; it has %s", l.Name, name, strings.Join(names, ", "))
	}
	// The plan has vanilla before decoupled and base before sft before dpo.
	slices.Reverse(stages)
	for _, s := range stages {
		done := true
		for _, fingerprint := range l.Inputs(s) {
			if _, err := se.node.Store.Lookup(ctx, fingerprint); err != nil {
				done = false
			}
		}
		if done {
			return s, nil
		}
	}
	return experiments.Stage{}, failed(fmt.Errorf("no system of %s is in the store yet: %s", l.Name, se.remedy(l)))
}
