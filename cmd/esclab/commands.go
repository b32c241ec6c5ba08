package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/cmd/internal/devices"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

type upOptions struct {
	slots  int
	listen string
}

func (a *app) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Start Temporal, its web UI, the store and a worker, and keep them running",
		Long: `Start the embedded stack in this process and keep it running until Ctrl-C:
a Temporal server on SQLite, its web UI and an S3 store, all on the loopback
interface with their data in the data directory, and a worker beside them.
Other esclab commands on the same data directory find it by themselves.

With embedded.open in temporal.yaml, other machines reach Temporal and the store
too, over TLS: Temporal demands a client certificate, the store its keys. The web
UI stays on the loopback interface.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runUp(c.Context(), o) },
	}
	c.Flags().IntVar(&o.slots, "slots", 1, "kernel stages at the same time")
	c.Flags().StringVar(&o.listen, "listen", "", "open Temporal and the store to other machines on this IP address, instead of embedded.open.listen; needs its certificates")
	a.metricsFlag(c)
	return c
}

// metricsFlag adds the flag of a command that works on stages.
func (a *app) metricsFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.metrics, "metrics", "", "serve Prometheus /metrics, /healthz and /readyz on this address, like 127.0.0.1:9464")
}

func (a *app) runUp(ctx context.Context, o upOptions) error {
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	options := stack.OptionsFrom(s, a.log)
	options.Open = s.Embedded.Open
	if o.listen != "" {
		options.Open.Listen = o.listen
	}
	if err := options.Open.Check(); err != nil {
		return err
	}
	se := &session{app: a, settings: s}
	if se.stack, err = stack.Start(ctx, options); err != nil {
		return unreachable(err)
	}
	defer se.close()
	a.watch(ctx, se.stack)
	if se.target, err = connect.Resolve(s, se.stack.Info()); err != nil {
		return unreachable(err)
	}
	if err := se.connect(ctx); err != nil {
		return unreachable(err)
	}
	if err := se.node.Work(nil, o.slots); err != nil {
		return unreachable(err)
	}
	fmt.Fprintf(stderr, "Temporal  %s\nweb UI    %s (esclab ui lets a browser in)\nstore     %s\ndata      %s\n",
		se.target.Temporal.Address, se.target.UI, se.node.Store.Location(), s.Embedded.DataDir)
	opened := se.stack.Opened()
	if at := opened["temporal"]; at != "" {
		fmt.Fprintf(stderr, "open      Temporal %s, to whoever has a certificate of %s\n", at, options.Open.ClientCA)
	}
	if at := opened["s3"]; at != "" {
		fmt.Fprintf(stderr, "open      store https://%s, to whoever has its keys\n", at)
	}
	fmt.Fprintln(stderr, "ready; Ctrl-C stops")
	<-ctx.Done()
	fmt.Fprintln(stderr, "stopping")
	return nil
}

type workerOptions struct {
	queues  []string
	slots   int
	stop    time.Duration
	promote bool
	devices string
}

func (a *app) workerCommand() *cobra.Command {
	var o workerOptions
	c := &cobra.Command{
		Use:   "worker",
		Short: "Work on the task queues of an external Temporal, or of a stack that is up",
		Long: `Poll task queues and execute stages until Ctrl-C or SIGTERM; running stages then
save a checkpoint, and another worker continues them.

  control  workflows, corpus, scores, judge, report
  cpu      stages that run a model on CPU cores
  gpu      stages that run a model on this machine's best device`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.devices != "" {
				return devices.Run(c.Context(), o.devices, a.metrics, a.log)
			}
			return a.runWorker(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.devices, devices.Flag, "", devices.Usage)
	c.Flags().StringSliceVar(&o.queues, "queues", []string{"control", "cpu", "gpu"}, "classes of queues to serve")
	c.Flags().IntVar(&o.slots, "slots", 1, "kernel stages at the same time: one per device")
	c.Flags().DurationVar(&o.stop, "stop-timeout", workers.DefaultStopTimeout, "time that running stages have to save a checkpoint at the end: more than a step and a save")
	c.Flags().BoolVar(&o.promote, "promote", false, "with versioning.mode: pinned, new runs start on this build from now on")
	a.metricsFlag(c)
	return c
}

func (a *app) runWorker(ctx context.Context, o workerOptions) error {
	classes, err := node.ParseQueues(o.queues)
	if err != nil {
		return err
	}
	se, err := a.open(ctx, false)
	if err != nil {
		return err
	}
	defer se.close()
	se.node.StopTimeout, se.node.Promote = o.stop, o.promote
	if err := se.node.Work(classes, o.slots); err != nil {
		return unreachable(err)
	}
	a.log.Info().Strs("queues", o.queues).Str("temporal", se.target.Temporal.Address).Msg("working")
	<-ctx.Done()
	a.log.Info().Msg("stopping: running stages save their checkpoints")
	return nil
}

func (a *app) presetsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "presets [NAME]",
		Short: "List the experiments and sweeps that come with the program, or print one",
		Long: `Without a name, list the presets. With a name, print its YAML, every key
explained: save it, change it, and run it with esclab run FILE.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runPresets(strings.Join(args, ""), c.OutOrStdout())
		},
	}
}

// runPresets prints a preset's YAML, or, without a name, the presets' names.
func runPresets(name string, out io.Writer) error {
	if name == "" {
		for _, name := range experiments.Presets() {
			fmt.Fprintln(out, name)
		}
		for _, name := range experiments.SweepPresets() {
			fmt.Fprintln(out, name, " (sweep)")
		}
		return nil
	}
	read := experiments.PresetYAML
	if slices.Contains(experiments.SweepPresets(), name) {
		read = experiments.SweepPresetYAML
	}
	data, err := read(name)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// printExecutions lists runs or sweeps.
func printExecutions(out io.Writer, what string, all iter.Seq2[lab.Execution, error]) error {
	t := newTable(out, table.Row{what, "status", "started"})
	for e, err := range all {
		if err != nil {
			return err
		}
		t.AppendRow(table.Row{runName(e.ID), workflows.StatusWord(e.Status), e.Started.Format("2006-01-02 15:04:05")})
	}
	t.Render()
	return nil
}

func (a *app) cancelCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Cancel a run: its stages save a checkpoint and stop",
		Long: `Cancel a run: its stages save a checkpoint and stop. A run that somebody else has
started, or that was started on another machine, is cancelled when a question on
the terminal is answered by yes, or with --yes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runCancel(c.Context(), args[0], yes) },
	}
	c.Flags().BoolVar(&yes, "yes", false, "also a run that another has started, without a question")
	return c
}

func (a *app) runCancel(ctx context.Context, name string, yes bool) error {
	return a.withSession(ctx, func(se *session) error {
		run, err := se.lab.FindRun(ctx, name, true)
		if err != nil {
			return err
		}
		if err := se.mayCancel(ctx, "run", run, yes); err != nil {
			return err
		}
		if err := se.lab.CancelRun(ctx, run.ID); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "run %s is being cancelled; what is done stays in the store\n", run.ID)
		return nil
	})
}

// mayCancel asks before what somebody else has started is cancelled.
func (se *session) mayCancel(ctx context.Context, what string, e lab.Execution, yes bool) error {
	if yes {
		return nil
	}
	by, err := se.lab.OriginOf(ctx, e)
	if err != nil {
		return err
	}
	if by.By() == "" || by.By() == se.lab.Origin.By() { // of an older build, or one's own
		return nil
	}
	others := fmt.Sprintf("%s %s was started by %s (%s)", what, runName(e.ID), by.By(), by.Command)
	if agreed(others + ". Cancel it?") {
		return nil
	}
	return fmt.Errorf("%s: cancel it with --yes", others)
}

type scoreOptions struct{ json bool }

func (a *app) scoreCommand() *cobra.Command {
	var o scoreOptions
	c := &cobra.Command{
		Use:   "score FILE",
		Short: "Score any system's predictions with the paper's metrics",
		Long: `Score predictions: JSON lines with gold_strategy, gold_response, strategy and
response ("-" reads standard input), or LLaMA-Factory's generated_predictions.jsonl,
whose label and predict are whole answers, [Question] How are you?. The numbers equal those of the paper's own
evaluation code: distinct-1, BLEU-1, unigram F1 and ROUGE-L as means over the
samples in percent, preference bias B as it is, weighted and macro F1 in
percent; besides Table 3's columns distinct-2, BLEU-2 and BLEU-4. A strategy that is empty or unknown counts in no strategy metric.`,
		Example: "  esclab score predictions.jsonl\n  esclab score predictions.jsonl --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runScore(args[0], o, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object with the columns of the paper's Table 3")
	return c
}

func runScore(path string, o scoreOptions, in io.Reader, out io.Writer) error {
	name := path
	if path == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	tok, err := metrics.NewTokenizer()
	if err != nil {
		return failed(err)
	}
	scorer, err := metrics.NewScorer(tok, esc.NumStrategies)
	if err != nil {
		return failed(err)
	}
	for p, err := range metrics.Predictions(in, name, metrics.Parser{
		Strategy: func(s string) (int, error) {
			strategy, err := esc.ParseStrategy(s)
			return int(strategy), err
		},
		Answer: func(text string) (int, string) {
			parsed := esc.ParseAnswer(esc.VM, text)
			if !parsed.Strategy.Valid() {
				return metrics.Unparsed, parsed.Response
			}
			return int(parsed.Strategy), parsed.Response
		},
	}) {
		if err != nil {
			return err
		}
		if err := scorer.Add(p); err != nil {
			return failed(fmt.Errorf("%s: %w", name, err))
		}
	}
	r, err := scorer.Report()
	if err != nil {
		return failed(fmt.Errorf("%s: %w", name, err))
	}
	columns, average := results.AutomaticColumns(r.Average), r.Average
	maps.Copy(columns, results.StrategyColumns(r.Strategy))
	others := []struct {
		name, head string
		value      float64
	}{{"distinct_2", "D-2", average.Distinct2}, {"bleu_2", "B-2", average.Bleu2}, {"bleu_4", "B-4", average.Bleu4}}
	if o.json {
		all := map[string]any{"samples": r.Samples, "unparsed": r.Strategy.Dropped,
			"counting_all": r.CountingAll} // with those as wrong predictions
		for name, v := range columns {
			all[name] = v
		}
		for _, c := range others {
			all[c.name] = c.value
		}
		if r.Strategy.Note != "" {
			all["note"] = esc.NameStrategies(r.Strategy.Note)
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	head, row := table.Row{"samples"}, table.Row{r.Samples}
	for _, c := range experiments.Table3() {
		if v, ok := columns[c.Name]; ok {
			head, row = append(head, c.Head), append(row, fmt.Sprintf("%.2f", v))
		}
	}
	for _, c := range others {
		head, row = append(head, c.head), append(row, fmt.Sprintf("%.2f", c.value))
	}
	t := newTable(out, head)
	t.AppendRow(row)
	t.Render()
	if r.Strategy.Dropped > 0 {
		all := r.CountingAll
		fmt.Fprintf(out, "%d predictions name no known strategy and count in no strategy metric; counted as wrong: B %.2f, Qw %.2f, Q %.2f\n",
			r.Strategy.Dropped, all.PreferenceBias, all.WeightedF1, all.MacroF1)
	}
	if r.Strategy.Note != "" {
		fmt.Fprintln(out, esc.NameStrategies(r.Strategy.Note))
	}
	return nil
}
