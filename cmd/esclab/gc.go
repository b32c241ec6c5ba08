package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
)

type gcOptions struct {
	olderThan               time.Duration
	dryRun, cache, list     bool
	unfinished, json, force bool
}

// gcYoung is the age below which gc asks whether it is meant: stages that are
// under way then lose what they have stored and not committed, and store it
// again.
const gcYoung = time.Hour

func (a *app) gcCommand() *cobra.Command {
	var f gcOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove from the store what nobody needs",
		Long: `Remove what no artifact, no run and no unfinished stage needs, and say what and
how much:

  blobs that no manifest and no document of a run names
  uploads that were never finished
  checkpoints of finished stages, torn checkpoints, superseded leases
  what checks and killed collections have left

Finished artifacts stay, whatever their age. With --unfinished the checkpoints of
stages that were never finished go, too (they begin anew if a run needs them),
with --cache the kept replies of language models that judge (they are asked, and
paid for, again).

It is safe beside running stages, and beside another gc. What is younger than
--older-than, by the store's clock, stays: a stage stores its files before the
manifest that names them. Should a stage come to need a blob that is being
removed, it stores it again; a committed artifact never loses one.`,
		Example: `  esclab gc --dry-run                    what would go, and how many bytes
  esclab gc                              remove it
  esclab gc --older-than 168h --list     leave a week, name every object
  esclab gc --unfinished --cache         all that can be made again but artifacts`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runGC(c.Context(), f, stdout) },
	}
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "remove nothing, say what would go")
	c.Flags().DurationVar(&f.olderThan, "older-than", 24*time.Hour, "leave what is younger, by the store's clock")
	c.Flags().BoolVar(&f.unfinished, "unfinished", false, "also checkpoints of stages that were never finished and that nobody works on")
	c.Flags().BoolVar(&f.cache, "cache", false, "also the kept replies of the judge's language models")
	c.Flags().BoolVar(&f.list, "list", false, "name every object")
	c.Flags().BoolVar(&f.json, "json", false, "print one JSON object")
	c.Flags().BoolVar(&f.force, "force", false, fmt.Sprintf("allow --older-than below %s: stages that are under way store some things twice", gcYoung))
	return c
}

func (a *app) runGC(ctx context.Context, f gcOptions, out io.Writer) error {
	if f.olderThan < gcYoung && !f.force && !f.dryRun {
		return fmt.Errorf("--older-than %s: below %s stages that are under way lose what they have stored and not yet committed, and store it again: wait, or add --force", f.olderThan, gcYoung)
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	o := artifacts.CollectOptions{OlderThan: f.olderThan, Unfinished: f.unfinished, Replies: f.cache, DryRun: f.dryRun}
	var listed []artifacts.Garbage
	if f.list {
		o.Found = func(g artifacts.Garbage) {
			if f.json {
				listed = append(listed, g)
				return
			}
			fmt.Fprintf(out, "%s\t%d\t%s\n", g.Class, g.Bytes, g.Key)
		}
	}
	collected, err := se.node.Store.Collect(ctx, o)
	if f.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if printed := e.Encode(struct {
			Store  string `json:"store"`
			DryRun bool   `json:"dry_run"`
			artifacts.Collected
			Objects []artifacts.Garbage `json:"objects,omitempty"`
		}{se.node.Store.Location(), f.dryRun, collected, listed}); printed != nil {
			return printed
		}
		return failed(err)
	}
	printCollected(out, collected, f.dryRun)
	return failed(err)
}

func printCollected(out io.Writer, c artifacts.Collected, dryRun bool) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	verb := "removed"
	if dryRun {
		verb = "would go"
	}
	t.AppendHeader(table.Row{verb, "objects", "size"})
	var total artifacts.Amount
	for _, class := range artifacts.GarbageClasses {
		if n := c.Found[class]; n.Objects > 0 {
			t.AppendRow(table.Row{class, n.Objects, size(n.Bytes)})
			total.Objects, total.Bytes = total.Objects+n.Objects, total.Bytes+n.Bytes
		}
	}
	if n := c.Spared; n.Objects > 0 {
		t.AppendRow(table.Row{"claimed by stages meanwhile, left", -n.Objects, size(-n.Bytes)})
		total.Objects, total.Bytes = total.Objects-n.Objects, total.Bytes-n.Bytes
	}
	t.AppendFooter(table.Row{"", total.Objects, size(total.Bytes)})
	t.Render()
	fmt.Fprintf(out, "%d objects stay, %s\n", c.Kept.Objects, size(c.Kept.Bytes))
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, u := float64(n), 0
	for ; (v >= 1000 || v <= -1000) && u < len(units)-1; u++ {
		v /= 1000
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
