package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/results/nightly"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

type scheduleShowOptions struct {
	json  bool
	last  int
	night string
}

func (a *app) scheduleShow() *cobra.Command {
	var o scheduleShowOptions
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show a schedule and its last verdicts, or one night's report",
		Long: `Show a schedule and the verdicts of its last nights:

  failed      the run has not come to its end
  regression  something is worse than in the nights before
  improved    something is better, nothing worse
  steady      all within the noise of the nights before
  first       there is no night to compare with

With --night, print that night's whole report (Markdown); "last" is the newest.`,
		Example: `  esclab schedule show nightly
  esclab schedule show nightly --night last > report.md`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runScheduleShow(c.Context(), args[0], o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.Flags().IntVar(&o.last, "last", 10, "how many nights")
	c.Flags().StringVar(&o.night, "night", "", "print this night's report")
	return c
}

func (a *app) runScheduleShow(ctx context.Context, id string, o scheduleShowOptions, out io.Writer) error {
	return a.withSession(ctx, func(se *session) error {
		if o.night != "" {
			return se.showNight(ctx, id, o.night, o.json, out)
		}
		return se.showSchedule(ctx, id, o.last, o.json, out)
	})
}

// nights reads the last records of a schedule, the newest first.
func (se *session) nights(ctx context.Context, id string, last int) ([]nightly.Record, error) {
	names, err := se.nightNames(ctx, id)
	if err != nil {
		return nil, err
	}
	var records []nightly.Record
	for _, name := range slices.Backward(names) {
		if len(records) == last {
			break
		}
		data, err := se.node.Store.GetScheduleFile(ctx, id, "nights/"+name+".json")
		if err != nil {
			return nil, failed(err)
		}
		r, err := nightly.Decode(data)
		if err != nil {
			return nil, failed(err)
		}
		records = append(records, r)
	}
	return records, nil
}

// nightNames lists the nights that have a record, the oldest first.
func (se *session) nightNames(ctx context.Context, id string) ([]string, error) {
	files, err := se.node.Store.ListScheduleFiles(ctx, id)
	if err != nil {
		return nil, unreachable(err)
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutPrefix(f, "nights/"); ok && strings.HasSuffix(name, ".json") {
			names = append(names, strings.TrimSuffix(name, ".json"))
		}
	}
	return names, nil
}

func (se *session) showNight(ctx context.Context, id, night string, asJSON bool, out io.Writer) error {
	names, err := se.nightNames(ctx, id)
	if err != nil {
		return err
	}
	if night == "last" && len(names) > 0 {
		night = names[len(names)-1]
	}
	if !slices.Contains(names, night) {
		return failed(fmt.Errorf("schedule %s has no record of night %s: esclab schedule show %s lists them", id, night, id))
	}
	ext := ".md"
	if asJSON {
		ext = ".json"
	}
	data, err := se.node.Store.GetScheduleFile(ctx, id, "nights/"+night+ext)
	if err != nil {
		return failed(err)
	}
	_, err = out.Write(data)
	return err
}

// shownSchedule is a schedule with its nights, as JSON.
type shownSchedule struct {
	workflows.NightInput
	Paused  bool             `json:"paused"`
	Note    string           `json:"note"`
	Next    []time.Time      `json:"next"`
	Running []string         `json:"running"`
	Skipped int              `json:"skipped"` // for another night still ran
	Missed  int              `json:"missed"`  // for nobody was there within the catch-up window
	Nights  []nightly.Record `json:"nights"`  // the newest first
}

func (se *session) showSchedule(ctx context.Context, id string, last int, asJSON bool, out io.Writer) error {
	d, err := se.lab.LookForSchedule(ctx, id)
	if err != nil {
		return err
	}
	records, err := se.nights(ctx, id, last)
	if err != nil {
		return err
	}
	if d == nil {
		if len(records) == 0 {
			return fmt.Errorf("there is no schedule %q: esclab schedule list shows them", id)
		}
		fmt.Fprintf(os.Stderr, "schedule %s is deleted; these are its nights\n", id)
		if asJSON {
			return writeJSON(out, shownSchedule{Nights: records})
		}
		printNights(records, out)
		return nil
	}
	shown := shownSchedule{NightInput: d.Input, Paused: d.Schedule.State.Paused, Note: d.Schedule.State.Note, Next: d.Info.NextActionTimes,
		Skipped: d.Info.NumActionsSkippedOverlap, Missed: d.Info.NumActionsMissedCatchupWindow, Nights: records, Running: []string{}}
	for _, w := range d.Info.RunningWorkflows {
		shown.Running = append(shown.Running, w.WorkflowID)
	}
	if asJSON {
		return writeJSON(out, shown)
	}
	printSchedule(d, shown, out)
	printNights(records, out)
	return nil
}

func printSchedule(d *lab.ScheduleState, s shownSchedule, out io.Writer) {
	from := "preset " + s.Experiment.Preset
	if s.Experiment.Preset == "" {
		from = "stored as " + s.Experiment.File
	}
	if len(s.Experiment.Set) > 0 {
		from += " with " + strings.Join(s.Experiment.Set, ", ")
	}
	line := func(what, format string, args ...any) {
		fmt.Fprintf(out, "%-12s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("schedule", "%s", s.Schedule)
	line("experiment", "%s (%s)", s.Experiment.Name, from)
	line("cron", "%s UTC; overlap %s, catch-up %s, pause on failure %v", s.Timing.Cron, s.Timing.Overlap, s.Timing.CatchupWindow, s.Timing.PauseOnFailure)
	line("fresh", "%s", s.Fresh)
	line("compared", "with %d nights; speed from %d on, off by more than %g deviations and %g %%", s.Compare.Window, s.Compare.MinNights, s.Compare.Noise, 100*s.Compare.Slack)
	line("next", "%s", nextTime(d))
	if s.Note != "" {
		line("note", "%s", s.Note)
	}
	for _, id := range s.Running {
		line("running", "%s", id)
	}
	if s.Skipped > 0 || s.Missed > 0 {
		line("not begun", "%d while another night ran, %d missed", s.Skipped, s.Missed)
	}
}

func printNights(records []nightly.Record, out io.Writer) {
	if len(records) == 0 {
		fmt.Fprintln(out, "\nno night has ended yet")
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"night", "verdict", "revision", "took", "what"})
	for _, r := range records {
		_, what, _ := strings.Cut(r.Headline(), ": ")
		if effects := r.EffectsLine(); effects != "" {
			what = strings.TrimSuffix(effects+"\n"+what, "\n")
		}
		t.AppendRow(table.Row{r.Night, r.Verdict, r.Revision, r.Finished.Sub(r.Started).Round(time.Second), what})
	}
	fmt.Fprintln(out)
	t.Render()
}
