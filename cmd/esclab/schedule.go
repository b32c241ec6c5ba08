package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workflows/lab"
)

func (a *app) scheduleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "schedule",
		Short: "Nightly benchmarks: run an experiment again and again, and say what has changed",
		Long: `A schedule runs an experiment at set times (UTC) with whatever build of esclab
the workers are by then, compares each night with those before it, and says
whether quality (outside the bootstrap interval of the nights before) or speed
(outside their noise) has changed. Results that are in the store are made anew:
see --fresh.

Schedules live in Temporal. Make one with create, or declare them in
temporal.yaml and have apply make Temporal's the same. A worker has to be up at
the time: esclab up, esclab worker or esclab-worker.`,
		Example: `  esclab schedule create nightly --experiment tiny-esconv --cron "0 22 * * *"
  esclab schedule trigger nightly        # a night now
  esclab schedule show nightly           # the last verdicts
  esclab schedule apply --dry-run        # what temporal.yaml would change`,
	}
	c.AddCommand(a.scheduleCreate(), a.scheduleList(), a.scheduleShow(), a.scheduleTrigger(),
		a.schedulePause(true), a.schedulePause(false), a.scheduleDelete(), a.scheduleApply())
	return c
}

type scheduleCreateOptions struct {
	settings.Schedule
	replace bool
}

func (a *app) scheduleCreate() *cobra.Command {
	o := scheduleCreateOptions{Schedule: settings.DefaultSchedule()}
	c := &cobra.Command{
		Use:   "create ID",
		Short: "Make a schedule",
		Long: `Make a schedule. A preset is taken from the program that plans the night, so
that a new build brings its own; a file is stored as it is now, with --set
applied, and its corpus is read from the same path by whichever worker plans.

What is measured anew (--fresh):
  all          every stage, each night, although the store has it (the default)
  dpo,generate these kinds, and all that follows from them
  none         only what a new build computes in another way; nothing else runs,
               so nothing else is timed`,
		Example: `  esclab schedule create nightly --experiment tiny-esconv --cron "0 22 * * *"
  esclab schedule create decode --experiment my.yaml --cron "30 2 * * 1-5" --fresh generate --webhook https://hooks.example.org/x`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.ID = args[0]
			return a.runScheduleCreate(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Experiment, "experiment", "", "preset or YAML file (required)")
	f.StringArrayVar(&o.Set, "set", nil, "as for esclab run")
	f.StringVar(&o.Cron, "cron", "0 22 * * *", "minute hour day month weekday, UTC")
	f.StringVar(&o.Overlap, "overlap", o.Overlap, "what to do while the night before still runs: "+strings.Join(settings.Overlaps, ", "))
	f.DurationVar(&o.CatchupWindow, "catchup", o.CatchupWindow, "how late a night may begin after an outage, at most 24h")
	f.BoolVar(&o.PauseOnFailure, "pause-on-failure", false, "pause after a night that failed (a regression is no failure)")
	f.BoolVar(&o.Paused, "paused", false, "make it paused")
	f.StringVar(&o.Note, "note", "", "shown in the web UI")
	f.StringVar(&o.Fresh, "fresh", o.Fresh, "what is measured anew: all, none, or kinds of stages")
	f.IntVar(&o.Window, "window", o.Window, "how many nights before it a night is compared with")
	f.IntVar(&o.MinNights, "min-nights", o.MinNights, "how many of them the comparison of speed needs")
	f.Float64Var(&o.Noise, "noise", o.Noise, "median absolute deviations that a stage's time may be off")
	f.Float64Var(&o.Slack, "slack", o.Slack, "share of the usual time that it may be off in any case")
	f.StringVar(&o.Webhook, "webhook", "", "URL that is told each verdict: POST, JSON")
	f.StringVar(&o.File, "file", "", "file that the worker writes each verdict to; a name alone lies in DATA/nightly")
	f.BoolVar(&o.replace, "replace", false, "change the schedule of that name, if there is one")
	return c
}

// flagOf names the flag of a key of temporal.yaml.
func flagOf(key string) string {
	switch key {
	case "id":
		return "ID"
	case "catchup_window":
		return "--catchup"
	}
	return "--" + strings.ReplaceAll(key, "_", "-")
}

func (a *app) runScheduleCreate(ctx context.Context, o scheduleCreateOptions) error {
	if key, message := o.Check(); key != "" {
		return fmt.Errorf("%s: %s", flagOf(key), message)
	}
	return a.withSession(ctx, func(se *session) error { return se.createSchedule(ctx, o.Schedule, o.replace) })
}

func (se *session) createSchedule(ctx context.Context, s settings.Schedule, replace bool) error {
	wanted, err := se.want(ctx, s, false)
	if err != nil {
		return err
	}
	there, err := se.lab.LookForSchedule(ctx, s.ID)
	switch {
	case err != nil:
		return err
	case there == nil:
		err = se.lab.CreateSchedule(ctx, wanted)
	case replace:
		err = se.lab.ChangeSchedule(ctx, wanted)
	default:
		return fmt.Errorf("there is a schedule %s: change it with --replace, or delete it first", s.ID)
	}
	if err != nil {
		return err
	}
	d, err := se.lab.LookForSchedule(ctx, s.ID)
	if err != nil || d == nil {
		return err
	}
	fmt.Fprintf(stderr, "schedule %s runs %s at %q UTC; next: %s\n", s.ID, wanted.Input.Experiment.Name, s.Cron, nextTime(d))
	if s.Fresh == "none" {
		fmt.Fprintln(stderr, "fresh is none: what is in the store is reused, so a night measures only what a new build computes in another way")
	}
	se.warnWithoutWorker(ctx)
	return nil
}

// warnWithoutWorker says that nobody is there to do the work.
func (se *session) warnWithoutWorker(ctx context.Context) {
	if there, err := se.node.HasWorker(ctx); err == nil && !there {
		fmt.Fprintln(stderr, "no worker is up: nights wait until one is (esclab up, esclab worker)")
	}
}

func nextTime(d *lab.ScheduleState) string {
	switch {
	case d.Schedule.State.Paused:
		return "none, it is paused"
	case len(d.Info.NextActionTimes) == 0:
		return "none"
	}
	return stamp(d.Info.NextActionTimes[0])
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func (a *app) scheduleList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the schedules with their next night and last verdict", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runScheduleList(c.Context(), asJSON, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) runScheduleList(ctx context.Context, asJSON bool, out io.Writer) error {
	return a.withSession(ctx, func(se *session) error { return se.listSchedules(ctx, asJSON, out) })
}

// listedSchedule is a line of the list.
type listedSchedule struct {
	ID          string     `json:"id"`
	Experiment  string     `json:"experiment"`
	Cron        string     `json:"cron"`
	Declared    bool       `json:"declared"`
	Paused      bool       `json:"paused"`
	Next        *time.Time `json:"next"`
	LastNight   string     `json:"last_night,omitempty"`
	LastVerdict string     `json:"last_verdict,omitempty"`
}

func (se *session) listSchedules(ctx context.Context, asJSON bool, out io.Writer) error {
	all, err := se.lab.Schedules(ctx)
	if err != nil {
		return err
	}
	lines := []listedSchedule{}
	for _, d := range all {
		line := listedSchedule{ID: d.Input.Schedule, Experiment: d.Input.Experiment.Name, Cron: d.Input.Timing.Cron, Declared: d.Input.Timing.Declared, Paused: d.Schedule.State.Paused}
		if !line.Paused && len(d.Info.NextActionTimes) > 0 {
			line.Next = &d.Info.NextActionTimes[0]
		}
		if nights, err := se.nights(ctx, line.ID, 1); err != nil {
			return err
		} else if len(nights) > 0 {
			line.LastNight, line.LastVerdict = nights[0].Night, string(nights[0].Verdict)
		}
		lines = append(lines, line)
	}
	if asJSON {
		return writeJSON(out, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintln(stderr, "there is no schedule; esclab schedule create makes one")
		return nil
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"schedule", "experiment", "cron (UTC)", "next", "last night", "verdict"})
	for _, l := range lines {
		next := "paused"
		if l.Next != nil {
			next = stamp(*l.Next)
		}
		t.AppendRow(table.Row{l.ID, l.Experiment, l.Cron, next, l.LastNight, l.LastVerdict})
	}
	t.Render()
	return nil
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) scheduleTrigger() *cobra.Command {
	return &cobra.Command{
		Use:   "trigger ID",
		Short: "Begin a night now",
		Long: `Begin a night now, paused or not. While another night of the schedule runs, its
overlap policy decides: with skip, nothing begins.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runScheduleTrigger(c.Context(), args[0]) },
	}
}

func (a *app) runScheduleTrigger(ctx context.Context, id string) error {
	return a.withSession(ctx, func(se *session) error {
		if err := se.lab.TriggerSchedule(ctx, id); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "a night of %s begins; its verdict: esclab schedule show %s\n", id, id)
		se.warnWithoutWorker(ctx)
		return nil
	})
}

func (a *app) schedulePause(pause bool) *cobra.Command {
	var note string
	c := &cobra.Command{Use: "resume ID", Short: "Let a paused schedule begin nights again", Args: cobra.ExactArgs(1)}
	if pause {
		c.Use, c.Short = "pause ID", "Keep a schedule from beginning nights; one that runs goes on"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.runSchedulePause(c.Context(), args[0], pause, note)
	}
	c.Flags().StringVar(&note, "note", "by esclab schedule", "why; shown in the web UI")
	return c
}

// runSchedulePause pauses a schedule, or lets a paused one go on.
func (a *app) runSchedulePause(ctx context.Context, id string, pause bool, note string) error {
	return a.withSession(ctx, func(se *session) error {
		d, err := se.lab.PauseSchedule(ctx, id, pause, note)
		if err != nil {
			return err
		}
		fmt.Fprintf(stderr, "schedule %s; next night: %s\n", id, nextTime(d))
		return nil
	})
}

func (a *app) scheduleDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a schedule; its nights' records stay in the store",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return a.runScheduleDelete(c.Context(), args[0]) },
	}
}

func (a *app) runScheduleDelete(ctx context.Context, id string) error {
	return a.withSession(ctx, func(se *session) error {
		d, err := se.lab.FindSchedule(ctx, id)
		if err != nil {
			return err
		}
		if err := se.lab.DeleteSchedule(ctx, id); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "schedule %s is deleted; a night that runs goes on, and the records stay\n", id)
		if d.Input.Timing.Declared && slices.ContainsFunc(se.settings.Schedules, func(s settings.Schedule) bool { return s.ID == id }) {
			fmt.Fprintf(stderr, "%s still declares it: esclab schedule apply would make it again\n", se.settings.Path)
		}
		return nil
	})
}
