package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

type runOptions struct {
	set    []string
	plan   bool
	json   bool
	card   string
	detach bool
	out    string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run EXPERIMENT",
		Short: "Run an experiment: a preset or a YAML file",
		Long: `Run an experiment to its report. EXPERIMENT is the name of a preset (esclab
presets lists them) or a YAML file.

A stack that is up is used (esclab up, or the services that temporal.yaml
names); otherwise Temporal, its web UI and the store are started for this run.
Where no worker polls the queues, this process is one too. Stages whose artifact
is in the store are reused. Ctrl-C stops after saving a checkpoint; the same
command continues there, also after a kill or a power failure.`,
		Example: `  esclab run demo
  esclab run demo --plan
  esclab run tiny-esconv --set corpus.source=path/to/ESConv.json --set seed=2
  esclab run my.yaml --report my-report/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runExperiment(c.Context(), args[0], o, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&o.set, "set", nil, "set a field: --set dpo.roles.sp.beta=0.3 (repeatable)")
	c.Flags().BoolVar(&o.plan, "plan", false, "print every stage and whether it would be reused or run, and why, with the verdict of esclab check; run nothing")
	c.Flags().BoolVar(&o.json, "json", false, "with --plan: print JSON")
	c.Flags().StringVar(&o.card, "card", "", "with --plan: estimate time and memory for this card (h100, h200, a100-80, 4090; default: the one that is here)")
	c.Flags().BoolVar(&o.detach, "detach", false, "start the run and return; a worker has to be up")
	c.Flags().StringVar(&o.out, "report", "", "copy the report into this directory when the run is done")
	return c
}

func (a *app) runExperiment(ctx context.Context, name string, o runOptions, out io.Writer) error {
	p, err := a.prepare(ctx, name, o.set)
	if err != nil {
		return err
	}
	if o.out != "" { // whatever the servers in this process do to the working directory
		if o.out, err = filepath.Abs(o.out); err != nil {
			return err
		}
	}
	if o.json && !o.plan {
		return errors.New("--json goes with --plan; a finished run's numbers are in the report's report.json")
	}
	if o.card != "" && !o.plan {
		return errors.New("--card goes with --plan: a run takes the card that is there")
	}
	if p.Missing != nil && !o.plan {
		if p, err = a.offerModel(ctx, p, name, o.set); err != nil {
			return err
		}
	}
	sayWarnings(p.Warnings)
	if o.plan {
		se, err := a.openToRead(ctx)
		if errors.Is(err, errNoRuns) {
			se, err = &session{app: a}, nil // all of it is to be run
		}
		if err != nil {
			return err
		}
		defer se.close()
		if err := se.printPlan(ctx, p, o, out); err != nil {
			return err
		}
		k := &checker{out: io.Discard}
		if err := k.all(ctx, se, p); err != nil {
			return err
		}
		if k.first == nil {
			fmt.Fprintln(stderr, "check: nothing is wrong")
			return nil
		}
		fmt.Fprintf(stderr, "check: %v\n", k.first)
		return fmt.Errorf("%w; more by: %s", k.verdict(), a.commandLine("esclab check", name, o.set))
	}
	if err := a.allowJudges(p.Experiment); err != nil {
		return err
	}
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	se.lookAfter(ctx, a.commandLine("esclab run", name, o.set))
	return se.runPrepared(ctx, p, o, out)
}

func (se *session) runPrepared(ctx context.Context, p experiments.Prepared, o runOptions, out io.Writer) error {
	if err := se.findWorker(ctx, o.detach, 1); err != nil {
		return err
	}
	run, err := se.lab.StartRun(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "run %s%s\n", runName(run.ID), se.joined(ctx, run))
	se.sayLink(run)
	if o.detach {
		fmt.Fprintf(stderr, "follow it with: %s\n", se.app.commandLine("esclab status", runName(run.ID), nil))
		return nil
	}

	began := time.Now()
	result, err := se.follow(ctx, run, p.Stages, stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "\nstopping; the same command continues at the last checkpoint")
		return ctx.Err()
	}
	if err != nil {
		return failed(fmt.Errorf("run %s: %w", run.ID, err))
	}
	reused := 0
	for _, s := range result.Stages {
		if s.Reused {
			reused++
		}
	}
	fmt.Fprintf(stderr, "done in %s: %d stages, %d of them reused\n", roughly(time.Since(began).Seconds()), len(result.Stages), reused)
	last := result.Stages[len(result.Stages)-1]
	data, err := se.reportData(ctx, last.Fingerprint)
	if err != nil {
		return failed(err)
	}
	printResults(data, out)
	dir := se.reportDir(p.Experiment.Name, last.Fingerprint)
	if data.About, data.Run.Revision, err = se.about(ctx, p.Stages, dir); err != nil {
		return failed(err)
	}
	yaml, err := experiments.Marshal(p.Experiment)
	if err != nil {
		return failed(err)
	}
	data.About.YAML = string(yaml)
	path, err := writeReport(data, dir, o.out)
	if err != nil {
		return failed(err)
	}
	printAnswer(data, path, se.app.commandLine("esclab compare", runName(run.ID), nil), out)
	return se.stayForOthers(ctx)
}

// stayForOthers keeps a stack that this command started for itself up while
// other commands' runs use it.
func (se *session) stayForOthers(ctx context.Context) error {
	if se.stack == nil {
		return nil
	}
	said := false
	for {
		other, err := se.lab.FindRun(ctx, "", true)
		if err != nil {
			return nil // nobody to stay for, or nobody who could tell
		}
		if !said {
			fmt.Fprintf(stderr, "staying up for %s, which uses this process's stack; Ctrl-C stops it at a checkpoint\n", other.ID)
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// joined says of what was to be started, and was under way already, who has started
// it; "" where it was not.
func (se *session) joined(ctx context.Context, e lab.Execution) string {
	if !e.Joined {
		return ""
	}
	by := ""
	if o, err := se.lab.OriginOf(ctx, e); err == nil && o.By() != "" { // else nobody knows
		by = ", started by " + o.By()
	}
	return " is under way already" + by
}

// sayLink names the page in the web UI that tells the story of what was started, where
// there is one, and what lets a browser in.
func (se *session) sayLink(e lab.Execution) {
	if se.target.UI == "" {
		return
	}
	page := se.page(e)
	visit, err := se.target.Visit(page)
	if err != nil || visit == page { // nobody asks for a ticket
		fmt.Fprintf(stderr, "web UI %s\n", newScreen(stderr).link(page, se.target.UI))
		return
	}
	// A terminal's link lets a browser in, for ten minutes.
	if s := newScreen(stderr); s.colours {
		page = s.link(visit, se.target.UI)
	}
	open := se.app.commandLine("esclab ui --open", runName(e.ID), nil)
	if strings.HasPrefix(e.ID, "sweep/") {
		open = se.app.commandLine("esclab ui --open --sweep", workflows.NamedIn(e.ID), nil)
	}
	fmt.Fprintf(stderr, "web UI %s\n       lets a browser in: %s\n", page, open)
}

// sayWarnings says what an experiment allows itself and hardly means.
func sayWarnings(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(stderr, "esclab: warning:", w)
	}
}
