package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// detailsTab is the tab of a workflow's page that tells its story.
const detailsTab = "user-metadata"

// maxShown bounds the Markdown that a comparison's workflow is started with;
// Temporal warns at 512 KiB.
const maxShown = 256 << 10

type uiOptions struct {
	compareOptions
	compare bool
	query   string
	open    bool
}

func (a *app) uiCommand() *cobra.Command {
	var o uiOptions
	c := &cobra.Command{
		Use:   "ui [RUN | --sweep SWEEP | --query QUERY | --compare RUN… ]",
		Short: "Print or open the address of a run, a sweep or a comparison in the web UI",
		Long: `Print an address in Temporal's web UI; --open opens it in the browser. That of the
embedded UI lets a browser in, once and within ten minutes: nobody else can use it
then. Of RUN the
page that tells its story: the DAG's state and, at the end, Table 3. Of a sweep
the list of its runs, of a query the list that it finds; docs/operations.md has
the search attributes. With --compare a comparison, as esclab compare prints it,
gets a page of its own. Without arguments: the list of all runs.

The UI has to be there: that of esclab up, or of an external Temporal, whose
address is temporal.ui in temporal.yaml.`,
		Example: `  esclab ui demo --open
  esclab ui --query "WorkflowType = 'Run' AND Paradigm = 'decoupled' AND PreferenceBias < 0.2"
  esclab ui --compare demo tiny-esconv`,
		RunE: func(c *cobra.Command, args []string) error { return a.runUI(c.Context(), args, o, c.OutOrStdout()) },
	}
	flags := c.Flags()
	o.selection(flags.StringVar, flags.StringSliceVar)
	flags.BoolVar(&o.compare, "compare", false, "a page with the comparison of the runs, or of the sweep's cells")
	flags.StringVar(&o.query, "query", "", "the list of the workflows that this query finds")
	flags.BoolVar(&o.open, "open", false, "open the address in the browser")
	return c
}

func (a *app) runUI(ctx context.Context, args []string, o uiOptions, out io.Writer) error {
	switch {
	case o.compare:
		if err := o.check(args); err != nil {
			return err
		}
	case len(args) > 1:
		return errors.New("name one run; several are compared with --compare")
	case len(args) == 1 && (o.sweep != "" || o.query != ""), o.sweep != "" && o.query != "":
		return errors.New("name a run, a sweep or a query, one of them")
	}
	se, err := a.open(ctx, false)
	if err != nil {
		return err
	}
	defer se.close()
	if se.target.UI == "" {
		return unreachable(errors.New("the address of the web UI is not known: set temporal.ui in temporal.yaml"))
	}
	address, err := se.address(ctx, args, o)
	if err != nil {
		return err
	}
	if address, err = se.target.Visit(address); err != nil {
		return err
	}
	fmt.Fprintln(out, address)
	if !o.open {
		return nil
	}
	return failed(openBrowser(ctx, address))
}

// address is the page that the flags ask for.
func (se *session) address(ctx context.Context, args []string, o uiOptions) (string, error) {
	switch {
	case o.compare:
		runs, t, err := se.compared(ctx, args, o.compareOptions)
		if err != nil {
			return "", err
		}
		columns, err := o.columns()
		if err != nil {
			return "", err
		}
		page, err := se.showComparison(ctx, o.compareOptions, runs, t, columns)
		return page, unreachable(err)
	case o.query != "":
		// The server says what is wrong with it, which the UI shows less well.
		for _, err := range se.lab.List(ctx, o.query) {
			if err != nil {
				return "", fmt.Errorf("--query: %w", err)
			}
			break
		}
		return se.listLink(o.query), nil
	case o.sweep != "":
		return se.listLink(se.lab.AttributeIs(workflows.RunName, workflows.AttrSweep, o.sweep)), nil
	case len(args) == 1:
		r, err := se.runNamed(ctx, args[0])
		if err != nil {
			return "", err
		}
		if r.ID == "" {
			return "", fmt.Errorf("%s has not been run here: %s", args[0], se.app.commandLine("esclab run", args[0], nil))
		}
		if r.of.Kept {
			return "", failed(fmt.Errorf("run %s is forgotten by Temporal, so that it has no page; what it has left is printed by %s", runName(r.ID), se.app.commandLine("esclab status", runName(r.ID), nil)))
		}
		return se.page(r.of), nil
	}
	return se.listLink(lab.AllRuns()), nil
}

// listLink is the UI's list of the workflows that a query finds.
func (se *session) listLink(query string) string {
	return fmt.Sprintf("%s/namespaces/%s/workflows?query=%s", strings.TrimSuffix(se.target.UI, "/"),
		url.PathEscape(se.target.Temporal.Namespace), strings.ReplaceAll(url.QueryEscape(query), "+", "%20"))
}

// page is the page of a workflow in the UI, at the tab that tells its story.
func (se *session) page(e lab.Execution) string {
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/%s", strings.TrimSuffix(se.target.UI, "/"),
		url.PathEscape(se.target.Temporal.Namespace), url.PathEscape(e.ID), url.PathEscape(e.RunID), detailsTab)
}

// showComparison gives a comparison a page in the web UI: a small workflow
// whose details are the table. It is "" where no UI outlives this command, or
// no worker is there to run it.
func (se *session) showComparison(ctx context.Context, f compareOptions, runs []*comparedRun, t compare.Table, columns []experiments.Column) (string, error) {
	if se.stack != nil || se.target.UI == "" {
		return "", nil
	}
	if there, err := se.node.HasWorker(ctx); err != nil || !there {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Page(&b, columns); err != nil {
		return "", err
	}
	in := workflows.CompareInput{Sweep: f.sweep, Table: b.String(), Facts: workflows.Facts{
		Sweep: f.sweep, Attributes: se.lab.Attributes,
	}}
	if len(in.Table) > maxShown {
		cut := strings.LastIndexByte(in.Table[:maxShown], '\n')
		in.Table = in.Table[:cut+1] + "\n… the rest is too long for this page: esclab compare prints it\n"
	}
	for _, r := range runs {
		in.Runs = append(in.Runs, cmp.Or(r.ID, r.Name))
		for _, s := range r.Systems {
			if sys, err := experiments.ParseSystem(s.Name); err == nil && !slices.Contains(in.Systems, sys) {
				in.Systems = append(in.Systems, sys)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	shown, err := se.lab.ShowComparison(ctx, in)
	if err != nil {
		return "", err
	}
	return se.page(shown), nil
}

// openBrowser opens an address with what the desktop has for it.
func openBrowser(ctx context.Context, address string) error {
	program, args := "xdg-open", []string{address}
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("--open: %w: open the address above yourself", err)
	}
	if err := exec.CommandContext(ctx, program, args...).Run(); err != nil {
		return fmt.Errorf("--open: %s: %w", program, err)
	}
	return nil
}
