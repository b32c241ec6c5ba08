package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

type statusOptions struct {
	once, json bool
	sort       string
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Show how all runs stand, or follow one: its stages with step, loss, tokens/s and ETA",
		Long: `Without RUN, show all runs: how far each is, the parameters in which the runs of
an experiment differ, and what their headline system scores: preference bias B,
weighted and macro F1 of the strategies, ROUGE-L.

With RUN, follow it until it ends: progress bars and the curve of the loss on a
terminal, plain lines elsewhere. Ctrl-C stops the following, not the run. Of a run
that has ended, or that nobody works on, print which of its stages are done.

RUN is what esclab status lists (demo/0da221080876), the name of an experiment, or
how either begins: the newest run that it fits.`,
		Example: "  esclab status\n  esclab status --sort B\n  esclab status demo",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runStatus(c.Context(), strings.Join(args, ""), o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.once, "once", false, "print the state of RUN and return")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON and return")
	c.Flags().StringVar(&o.sort, "sort", "", "without RUN: a column of Table 3, the best first (default: the newest first)")
	return c
}

// runStatus prints how all runs stand, or follows the newest run of a name.
func (a *app) runStatus(ctx context.Context, name string, o statusOptions, out io.Writer) error {
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	if name == "" {
		return se.runLeaderboard(ctx, o, out)
	}
	run, err := se.lab.FindRun(ctx, name, false)
	if err != nil {
		return err
	}
	// A stack of this command's own has no worker that could answer or go on.
	live := run.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && !run.Kept && se.stack == nil
	if live && !o.once && !o.json {
		l, err := se.layoutOf(ctx, run.ID, nil)
		if err != nil {
			return err
		}
		se.lookAfter(ctx, se.app.commandLine("esclab up", "", nil))
		_, err = se.follow(ctx, run, l.Stages, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed(err)
	}
	var v lab.RunView
	var ending error
	if live {
		v, err = se.lab.ViewRun(ctx, run.ID)
	} else if v, ending = se.lab.StoredRun(ctx, run); v.Stages == nil {
		err = ending
	}
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	for _, s := range v.Stages {
		if s.Status != workflows.StageDone && s.Status != workflows.StageReused {
			continue
		}
		if steps, err := se.steps(ctx, s); err != nil {
			return failed(fmt.Errorf("stage %s: %w", s.Name, err))
		} else if n := len(steps); n > 0 {
			v.Running[s.Name] = workflows.Progress{Loss: steps[n-1].Loss, Sparkline: results.Sparkline(steps)}
		}
	}
	newLines(out).update(v)
	switch {
	case ending != nil && run.Status == enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
		fmt.Fprintf(out, "run %s: %v\n", runName(run.ID), ending)
	case ending != nil:
		fmt.Fprintf(out, "run %s failed: %v\n", runName(run.ID), ending)
	case live:
	case run.Kept && run.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		fmt.Fprintf(out, "run %s was under way when Temporal lost it: the esclab run that started it continues it\n", runName(run.ID))
	case run.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		fmt.Fprintf(out, "run %s is unfinished, and nobody works on it: the esclab run that started it continues it, or esclab up\n", runName(run.ID))
	default:
		fmt.Fprintf(out, "run %s is done\n", runName(run.ID))
	}
	return nil
}

// steps are those of a finished training; nil of another stage, and where they are not
// in the store.
func (se *session) steps(ctx context.Context, s workflows.StageState) ([]results.Step, error) {
	switch s.Kind {
	case experiments.KindBase, experiments.KindSFT, experiments.KindDPO:
	default:
		return nil, nil
	}
	from, err := results.Open(ctx, se.node.Store, s.Fingerprint)
	if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, trained := from.Files[results.FileMetrics]; !trained { // an imported base was not
		return nil, nil
	}
	return results.ReadRows[results.Step](from, results.FileMetrics)
}
