package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
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
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/workflows"
)

// detailsTab is the tab of a workflow's page with its details.
const detailsTab = "user-metadata"

// maxShown bounds the Markdown that a comparison's workflow is started with;
// Temporal warns at 512 KiB.
const maxShown = 256 << 10

type uiFlags struct {
	compareFlags
	compare bool
	query   string
	open    bool
}

func (a *app) uiCommand() *cobra.Command {
	var f uiFlags
	c := &cobra.Command{
		Use:   "ui [RUN | --sweep SWEEP | --query QUERY | --compare RUN… ]",
		Short: "Print or open the address of a run, a sweep or a comparison in the web UI",
		Long: `Print an address in Temporal's web UI; --open opens it in the browser. Of RUN the
page that tells its story: the DAG's state and, at the end, Table 3. Of a sweep
the list of its runs, of a query the list that it finds; docs/operations.md has
the search attributes. With --compare a comparison, as esclab compare prints it,
gets a page of its own. Without arguments: the list of all runs.

The UI has to be there: that of esclab up, or of an external Temporal, whose
address is temporal.ui in temporal.yaml.`,
		Example: `  esclab ui demo --open
  esclab ui --query "WorkflowType = 'Run' AND Paradigm = 'decoupled' AND PreferenceBias < 0.2"
  esclab ui --compare demo tiny-esconv`,
		RunE: func(c *cobra.Command, args []string) error { return a.ui(c.Context(), args, f, c.OutOrStdout()) },
	}
	flags := c.Flags()
	f.selection(flags.StringVar, flags.StringSliceVar)
	flags.BoolVar(&f.compare, "compare", false, "a page with the comparison of the runs, or of the sweep's cells")
	flags.StringVar(&f.query, "query", "", "the list of the workflows that this query finds")
	flags.BoolVar(&f.open, "open", false, "open the address in the browser")
	return c
}

func (a *app) ui(ctx context.Context, args []string, f uiFlags, out io.Writer) error {
	switch {
	case f.compare:
		if err := f.check(args); err != nil {
			return err
		}
	case len(args) > 1:
		return errors.New("name one run; several are compared with --compare")
	case len(args) == 1 && (f.sweep != "" || f.query != ""), f.sweep != "" && f.query != "":
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
	address, err := se.address(ctx, args, f)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, address)
	if !f.open {
		return nil
	}
	return failed(openBrowser(ctx, address))
}

// address is the page that the flags ask for.
func (se *session) address(ctx context.Context, args []string, f uiFlags) (string, error) {
	switch {
	case f.compare:
		runs, t, err := se.compared(ctx, args, f.compareFlags)
		if err != nil {
			return "", err
		}
		columns, err := f.columns()
		if err != nil {
			return "", err
		}
		page, err := se.showComparison(ctx, f.compareFlags, runs, t, columns)
		return page, unreachable(err)
	case f.query != "":
		// The server says what is wrong with it, which the UI shows less well.
		if _, err := se.list(ctx, f.query, func(*workflow.WorkflowExecutionInfo) bool { return true }, 1); err != nil {
			return "", fmt.Errorf("--query: %w", err)
		}
		return se.listLink(f.query), nil
	case f.sweep != "":
		return se.listLink(visibilityQuery(workflows.RunName, workflows.AttrSweep.GetName(), f.sweep)), nil
	case len(args) == 1:
		r, err := se.runNamed(ctx, args[0])
		if err != nil {
			return "", err
		}
		if r.ID == "" {
			return "", fmt.Errorf("%s has not been run here: esclab run %s", args[0], args[0])
		}
		return se.page(r.ID, r.runID, detailsTab), nil
	}
	return se.listLink(fmt.Sprintf("WorkflowType = '%s'", workflows.RunName)), nil
}

// listLink is the UI's list of the workflows that a query finds.
func (se *session) listLink(query string) string {
	return fmt.Sprintf("%s/namespaces/%s/workflows?query=%s", strings.TrimSuffix(se.target.UI, "/"),
		url.PathEscape(se.target.Temporal.Namespace), strings.ReplaceAll(url.QueryEscape(query), "+", "%20"))
}

// page is a tab of a workflow's page in the UI: detailsTab, timeline, history.
func (se *session) page(id, runID, tab string) string {
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/%s", strings.TrimSuffix(se.target.UI, "/"),
		url.PathEscape(se.target.Temporal.Namespace), url.PathEscape(id), url.PathEscape(runID), tab)
}

// showComparison gives a comparison a page in the web UI: a small workflow
// whose details are the table. It is "" where no UI outlives this command, or
// no worker is there to run it.
func (se *session) showComparison(ctx context.Context, f compareFlags, runs []*comparedRun, t compare.Table, columns []experiments.Column) (string, error) {
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
		Sweep: f.sweep, Attributes: workflows.UsableAttributes(se.node.Attributes),
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
	raw, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// The same comparison has one page, however often it is made.
	run, err := se.node.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: fmt.Sprintf("compare/%.12x", sha256.Sum256(raw)), TaskQueue: se.node.Queues().Control,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            in.Summary(),
		TypedSearchAttributes:    in.SearchAttributes(),
	}, workflows.CompareName, in)
	if err != nil {
		return "", fmt.Errorf("start the workflow of the comparison: %w", err)
	}
	if err := run.Get(ctx, nil); err != nil {
		return "", fmt.Errorf("the workflow of the comparison: %w", err)
	}
	return se.page(run.GetID(), run.GetRunID(), detailsTab), nil
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
