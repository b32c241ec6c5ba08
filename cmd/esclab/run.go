package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/cmd/internal/revision"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workflows"
)

type runFlags struct {
	set    []string
	plan   bool
	json   bool
	detach bool
	out    string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
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
		RunE: func(c *cobra.Command, args []string) error { return a.run(c.Context(), args[0], f) },
	}
	c.Flags().StringArrayVar(&f.set, "set", nil, "set a field: --set dpo.roles.sp.beta=0.3 (repeatable)")
	c.Flags().BoolVar(&f.plan, "plan", false, "print every stage and whether it would be reused or run, and why; run nothing")
	c.Flags().BoolVar(&f.json, "json", false, "with --plan: print JSON")
	c.Flags().BoolVar(&f.detach, "detach", false, "start the run and return; a worker has to be up")
	c.Flags().StringVar(&f.out, "report", "", "write the report into this directory when the run is done")
	return c
}

// planned is an experiment ready to run.
type planned struct {
	exp    experiments.Experiment
	stages []experiments.Stage
}

// host is this machine as plans see it: with the sample corpus, and with the
// digests of the checkpoints that were planned with before, and with the
// buckets that checkpoints may lie in.
func (a *app) host(ctx context.Context) (experiments.Host, error) {
	s, err := a.loadSettings()
	if err != nil {
		return experiments.Host{}, err
	}
	host := experiments.OS(democorpus.JSON())
	host.Digests = experiments.OpenDigestCache(filepath.Join(s.Embedded.DataDir, "digests.json"))
	host.Remote = func(uri string) (fs.FS, error) {
		bucket, err := node.OpenBucket(ctx, s, uri)
		if err != nil {
			return nil, err
		}
		return artifacts.Files(ctx, bucket), nil
	}
	return host, nil
}

// plan loads an experiment and lays out its stages. The second error says
// which sources are missing; a plan without them can be shown but not run.
func plan(host experiments.Host, nameOrPath string, set []string) (p planned, missing error, err error) {
	p.exp, err = experiments.Load(nameOrPath, set...)
	if err != nil {
		return p, nil, err
	}
	sources, missing := experiments.SourceDigests(p.exp, host)
	if len(sources.JudgePrompts) > 0 {
		if _, err := prompts.New(sources.JudgePrompts); err != nil {
			return p, missing, fmt.Errorf("judge.prompts: %s: %w", p.exp.Judge.Prompts, err)
		}
	}
	p.stages, err = experiments.Plan(p.exp, sources)
	for i := range p.stages {
		// The worker that reads them may have another working directory.
		for _, path := range []*string{&p.stages[i].Source, &p.stages[i].SplitIndexSource} {
			if *path == "" || *path == experiments.SourceDemo || experiments.Remote(*path) {
				continue
			}
			abs, absErr := filepath.Abs(*path)
			if absErr != nil {
				return p, missing, absErr
			}
			*path = abs
		}
	}
	return p, missing, err
}

// runID is the identity of a run: the experiment's name and what it computes.
// The same command joins the run that is under way.
func (p planned) runID() string {
	last := p.stages[len(p.stages)-1].Fingerprint
	return fmt.Sprintf("run/%s/%.12s", p.exp.Name, last)
}

// runName is the experiment's name in a run's ID.
func runName(id string) string {
	parts := strings.Split(id, "/")
	if len(parts) != 3 || parts[0] != "run" {
		return id
	}
	return parts[1]
}

func (a *app) run(ctx context.Context, name string, f runFlags) error {
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	p, missing, err := plan(host, name, f.set)
	if err != nil {
		return err
	}
	if f.out != "" { // whatever the servers in this process do to the working directory
		if f.out, err = filepath.Abs(f.out); err != nil {
			return err
		}
	}
	if f.json && !f.plan {
		return errors.New("--json goes with --plan; a finished run's numbers are in the report's report.json")
	}
	if missing != nil && !f.plan {
		return missing
	}
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	if f.plan {
		if missing != nil {
			fmt.Fprintln(os.Stderr, "esclab:", missing)
		} else if err := surveyCorpus(p.stages[0], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "esclab:", err)
		}
		return se.printPlan(ctx, p, f.json, os.Stdout)
	}
	return se.runPlanned(ctx, p, f)
}

func (se *session) runPlanned(ctx context.Context, p planned, f runFlags) error {
	if err := se.findWorker(ctx, f.detach, 1); err != nil {
		return err
	}
	in := se.runInput(p)
	run, err := se.node.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       p.runID(),
		TaskQueue:                se.node.Queues().Control,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            in.Summary(),
		TypedSearchAttributes:    in.SearchAttributes(),
	}, workflows.RunName, in)
	if err != nil {
		return unreachable(fmt.Errorf("start run %s: %w", p.runID(), err))
	}
	fmt.Fprintf(os.Stderr, "run %s\n", run.GetID())
	if url := se.link(run.GetID(), run.GetRunID()); url != "" {
		fmt.Fprintf(os.Stderr, "web UI %s\n", url)
	}
	if f.detach {
		fmt.Fprintf(os.Stderr, "follow it with: esclab status %s\n", p.exp.Name)
		return nil
	}

	began := time.Now()
	result, err := follow(ctx, se.node.Client, run, os.Stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "\nstopping; the same command continues at the last checkpoint")
		return ctx.Err()
	}
	if err != nil {
		return failed(fmt.Errorf("run %s: %w", run.GetID(), rootCause(err)))
	}
	reused := 0
	for _, s := range result.Stages {
		if s.Reused {
			reused++
		}
	}
	fmt.Fprintf(os.Stderr, "done in %s: %d stages, %d of them reused\n", time.Since(began).Round(time.Second), len(result.Stages), reused)
	last := result.Stages[len(result.Stages)-1]
	if err := se.printResults(ctx, last.Fingerprint, os.Stdout); err != nil {
		return failed(err)
	}
	if f.out != "" {
		if err := se.writeReport(ctx, last.Fingerprint, f.out); err != nil {
			return failed(err)
		}
	} else {
		fmt.Fprintf(os.Stderr, "report: esclab report %s --out DIR\n", p.exp.Name)
	}
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
		running, err := se.runs(ctx, true)
		if err != nil || len(running) == 0 {
			return nil // nobody to stay for, or nobody who could tell
		}
		if !said {
			fmt.Fprintf(os.Stderr, "staying up for %s, which uses this process's stack; Ctrl-C stops it at a checkpoint\n", running[0].GetExecution().GetWorkflowId())
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// link is a workflow's page in the embedded web UI.
func (se *session) link(id, runID string) string {
	if se.target.UI == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history", strings.TrimSuffix(se.target.UI, "/"),
		se.target.Temporal.Namespace, strings.ReplaceAll(id, "/", "%2F"), runID)
}

// printPlan shows what a run would do.
func (se *session) printPlan(ctx context.Context, p planned, asJSON bool, out io.Writer) error {
	decisions := make(map[string]experiments.Decision, len(p.stages))
	for _, s := range p.stages {
		d := experiments.Decision{Action: experiments.ActionRun, Reason: "not in the store"}
		if s.Fingerprint == "" {
			d.Reason = "a source file is missing"
		} else if _, err := se.node.Store.Lookup(ctx, s.Fingerprint); err == nil {
			d = experiments.Decision{Action: experiments.ActionReuse, Reason: "in the store, whole"}
		} else if !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrDamaged) {
			return unreachable(err)
		} else if errors.Is(err, artifacts.ErrDamaged) {
			d.Reason = err.Error()
		} else if c, _, err := se.node.Store.LatestCheckpoint(ctx, s.Fingerprint); err == nil {
			d.Reason = fmt.Sprintf("unfinished: continues at step %d", c.Step)
		}
		decisions[s.Name] = d
	}
	all := experiments.Planned(p.stages, decisions)
	if asJSON {
		return experiments.WritePlanJSON(out, all)
	}
	return experiments.WritePlan(out, all)
}

// printResults shows Table 3 on the terminal.
func (se *session) printResults(ctx context.Context, fingerprint string, out io.Writer) error {
	raw, err := se.reportFile(ctx, fingerprint, "report.json")
	if err != nil {
		return err
	}
	data, err := report.Read(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"system", "D-1", "B-1", "F1", "R-L", "Flu.", "Pro.", "Emp.", "Hel.", "B", "Qw", "Q"})
	for _, row := range data.Systems {
		line := table.Row{row.System()}
		c := row.Columns
		for _, v := range []*float64{c.Distinct1, c.Bleu1, c.F1, c.RougeL, c.Fluency, c.Professionalism, c.Empathy, c.Helpfulness, c.PreferenceBias, c.WeightedF1, c.MacroF1} {
			if v == nil {
				line = append(line, "–")
			} else {
				line = append(line, fmt.Sprintf("%.2f", *v))
			}
		}
		t.AppendRow(line)
	}
	if data.Run.Judge.Offline {
		t.SetCaption("Flu. to Hel. are the offline judge's (%s): fixed rules, no language model.", data.Run.Judge.Name)
	}
	t.Render()
	return nil
}

func (se *session) reportFile(ctx context.Context, fingerprint, name string) ([]byte, error) {
	m, err := se.node.Store.Lookup(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	ref, ok := m.Files[name]
	if !ok {
		return nil, fmt.Errorf("the report of stage %.12s has no file %s", fingerprint, name)
	}
	r, err := se.node.Store.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// writeReport copies a report's files into a directory.
func (se *session) writeReport(ctx context.Context, fingerprint, dir string) error {
	m, err := se.node.Store.Lookup(ctx, fingerprint)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name := range m.Files {
		data, err := se.reportFile(ctx, fingerprint, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "report written to %s\n", filepath.Join(dir, "report.html"))
	return nil
}

// runInput is what the workflow of a run is started with.
func (se *session) runInput(p planned) workflows.RunInput {
	return workflows.RunInput{
		Experiment: p.exp.Name, Stages: p.stages, Queues: se.node.Queues(),
		Checkpoint: p.exp.Checkpoint, Judge: p.exp.Judge.JudgeAccess, HeartbeatSeconds: se.heartbeat(),
		Facts: workflows.Facts{
			Experiment: p.exp.Name, Backbone: p.exp.Backbone.Name, Seed: p.exp.AllSeeds()[0],
			Revision: revision.Of(), Attributes: workflows.UsableAttributes(se.node.Attributes),
		},
	}
}

// rootCause is what a failed workflow failed of, without Temporal's layers.
func rootCause(err error) error {
	if temporal.IsCanceledError(err) {
		return errors.New("it was cancelled; what is done stays in the store, and esclab run continues it")
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return errors.New(app.Message())
	}
	return err
}
