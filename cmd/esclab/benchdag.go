package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/cmd/internal/benchlm"
	"github.com/esclab/esclab/workflows/lab"
)

// benchCommand has what every program of esclab measures, and the DAG.
func (a *app) benchCommand() *cobra.Command {
	c := benchlm.Command(benchlm.Host{OpenEngine: a.openEngine, Log: &a.log, Failed: failed})
	c.AddCommand(a.benchDAGCommand())
	return c
}

func (a *app) benchDAGCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "dag RUN",
		Short: "Measure what orchestration costs: the time outside kernels of a finished run",
		Long: `Read the histories of a run and of its stages' workflows, and say where the time
went that no kernel used. RUN is a run that has ended, or an experiment's name for
its newest run; stages that it reused say nothing and are left out.

  kernel    computing: the attempt's own time without the store's
  store     within the attempt: taking the lease, reading inputs, saving
            checkpoints, storing the artifact
  before    from the inputs' end to the order to compute: starting the stage's
            workflow
  dispatch  from the order, or from when the worker's slot was free, to the start
  call      of the activity around the attempt: answers to Temporal
  after     from the end of the computing to the run's knowing of it

outside is all but kernel. The figure for a stage of a minute takes the median of
what is outside without the store, which is work that grows with the model.`,
		Example: "  esclab run demo --data /tmp/fresh && esclab bench dag demo --data /tmp/fresh",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runBenchDAG(c.Context(), args[0], asJSON, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) runBenchDAG(ctx context.Context, name string, asJSON bool, out io.Writer) error {
	se, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer se.close()
	run, err := se.lab.FindRun(ctx, name, false)
	if err != nil {
		return err
	}
	cost, err := se.lab.CostOf(ctx, run)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(out, cost)
	}
	printCost(cost, out)
	return nil
}

func printCost(c lab.Cost, out io.Writer) {
	t := newTable(out, table.Row{"stage", "kernel s", "store s", "before ms", "dispatch ms", "call ms", "after ms", "orchestration ms", "of the stage"})
	ms := func(seconds float64) string { return fmt.Sprintf("%.0f", 1000*seconds) }
	for _, s := range c.Stages {
		t.AppendRow(table.Row{s.Stage, fmt.Sprintf("%.2f", s.Kernel), fmt.Sprintf("%.2f", s.Store), ms(s.Before), ms(s.Dispatch), ms(s.Call), ms(s.After),
			ms(s.Orchestration()), percent(s.Orchestration(), s.Kernel+s.Store+s.Orchestration())})
	}
	t.Render()
	fmt.Fprintf(out, "%s: %d stages in %.1f s\n", c.Run, len(c.Stages), c.Wall)
	fmt.Fprintf(out, "kernels %.1f s, store %.2f s, orchestration %.2f s\n", c.Kernel, c.Store, c.Rest)
	fmt.Fprintf(out, "no stage was computing for %.2f s, %s of the wall time\n", c.Idle, percent(c.Idle, c.Wall))
	fmt.Fprintf(out, "orchestration of a stage: median %s ms, most %s ms; of a stage of a minute: %s\n", ms(c.Median), ms(c.Most), percent(c.Median, 60+c.Median))
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*part/whole)
}
