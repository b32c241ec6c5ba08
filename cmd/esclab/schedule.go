package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/workers/settings"
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

func (a *app) scheduleCreate() *cobra.Command {
	s := settings.DefaultSchedule()
	replace := false
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
			s.ID = args[0]
			if key, message := s.Check(); key != "" {
				return fmt.Errorf("%s: %s", flagOf(key), message)
			}
			return a.withSession(c.Context(), func(se *session) error { return se.createSchedule(c.Context(), s, replace) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.Experiment, "experiment", "", "preset or YAML file (required)")
	f.StringArrayVar(&s.Set, "set", nil, "as for esclab run")
	f.StringVar(&s.Cron, "cron", "0 22 * * *", "minute hour day month weekday, UTC")
	f.StringVar(&s.Overlap, "overlap", s.Overlap, "what to do while the night before still runs: "+strings.Join(settings.Overlaps, ", "))
	f.DurationVar(&s.CatchupWindow, "catchup", s.CatchupWindow, "how late a night may begin after an outage, at most 24h")
	f.BoolVar(&s.PauseOnFailure, "pause-on-failure", false, "pause after a night that failed (a regression is no failure)")
	f.BoolVar(&s.Paused, "paused", false, "make it paused")
	f.StringVar(&s.Note, "note", "", "shown in the web UI")
	f.StringVar(&s.Fresh, "fresh", s.Fresh, "what is measured anew: all, none, or kinds of stages")
	f.IntVar(&s.Window, "window", s.Window, "how many nights before it a night is compared with")
	f.IntVar(&s.MinNights, "min-nights", s.MinNights, "how many of them the comparison of speed needs")
	f.Float64Var(&s.Noise, "noise", s.Noise, "median absolute deviations that a stage's time may be off")
	f.Float64Var(&s.Slack, "slack", s.Slack, "share of the usual time that it may be off in any case")
	f.StringVar(&s.Webhook, "webhook", "", "URL that is told each verdict: POST, JSON")
	f.StringVar(&s.File, "file", "", "file that the worker writes each verdict to; a name alone lies in DATA/nightly")
	f.BoolVar(&replace, "replace", false, "change the schedule of that name, if there is one")
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

func (se *session) createSchedule(ctx context.Context, s settings.Schedule, replace bool) error {
	wanted, err := se.want(ctx, s, false)
	if err != nil {
		return err
	}
	there, err := se.describeSchedule(ctx, s.ID)
	switch {
	case err != nil:
		return err
	case there == nil:
		err = se.makeSchedule(ctx, wanted)
	case replace:
		err = se.changeSchedule(ctx, wanted)
	default:
		return fmt.Errorf("there is a schedule %s: change it with --replace, or delete it first", s.ID)
	}
	if err != nil {
		return err
	}
	d, err := se.describeSchedule(ctx, s.ID)
	if err != nil || d == nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "schedule %s runs %s at %q UTC; next: %s\n", s.ID, wanted.input.Experiment.Name, s.Cron, nextTime(d))
	if s.Fresh == "none" {
		fmt.Fprintln(os.Stderr, "fresh is none: what is in the store is reused, so a night measures only what a new build computes in another way")
	}
	se.warnWithoutWorker(ctx)
	return nil
}

// warnWithoutWorker says that nobody is there to do the work.
func (se *session) warnWithoutWorker(ctx context.Context) {
	if there, err := se.node.HasWorker(ctx); err == nil && !there {
		fmt.Fprintln(os.Stderr, "no worker is up: nights wait until one is (esclab up, esclab worker)")
	}
}

func nextTime(d *scheduleState) string {
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
			return a.withSession(c.Context(), func(se *session) error { return se.listSchedules(c.Context(), asJSON, os.Stdout) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
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
	all, err := se.schedules(ctx)
	if err != nil {
		return err
	}
	lines := []listedSchedule{}
	for _, d := range all {
		line := listedSchedule{ID: d.input.Schedule, Experiment: d.input.Experiment.Name, Cron: d.input.Timing.Cron, Declared: d.input.Timing.Declared, Paused: d.Schedule.State.Paused}
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
		fmt.Fprintln(os.Stderr, "there is no schedule; esclab schedule create makes one")
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
		RunE: func(c *cobra.Command, args []string) error {
			return a.withSession(c.Context(), func(se *session) error {
				ctx := c.Context()
				d, err := se.schedule(ctx, args[0])
				if err != nil {
					return err
				}
				if running := d.Info.RunningWorkflows; len(running) > 0 && d.Schedule.Policy.Overlap == enums.SCHEDULE_OVERLAP_POLICY_SKIP {
					return failed(fmt.Errorf("night %s of schedule %s still runs, and its overlap policy is skip", running[0].WorkflowID, args[0]))
				}
				if err := se.node.Client.ScheduleClient().GetHandle(ctx, args[0]).Trigger(ctx, client.ScheduleTriggerOptions{}); err != nil {
					return unreachable(fmt.Errorf("trigger schedule %s: %w", args[0], err))
				}
				fmt.Fprintf(os.Stderr, "a night of %s begins; its verdict: esclab schedule show %s\n", args[0], args[0])
				se.warnWithoutWorker(ctx)
				return nil
			})
		},
	}
}

func (a *app) schedulePause(pause bool) *cobra.Command {
	var note string
	c := &cobra.Command{Use: "resume ID", Short: "Let a paused schedule begin nights again", Args: cobra.ExactArgs(1)}
	if pause {
		c.Use, c.Short = "pause ID", "Keep a schedule from beginning nights; one that runs goes on"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withSession(c.Context(), func(se *session) error {
			ctx := c.Context()
			if _, err := se.schedule(ctx, args[0]); err != nil {
				return err
			}
			h, err := se.node.Client.ScheduleClient().GetHandle(ctx, args[0]), error(nil)
			if pause {
				err = h.Pause(ctx, client.SchedulePauseOptions{Note: note})
			} else {
				err = h.Unpause(ctx, client.ScheduleUnpauseOptions{Note: note})
			}
			if err != nil {
				return unreachable(fmt.Errorf("%s schedule %s: %w", c.Name(), args[0], err))
			}
			d, err := se.schedule(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "schedule %s; next night: %s\n", args[0], nextTime(d))
			return nil
		})
	}
	c.Flags().StringVar(&note, "note", "by esclab schedule", "why; shown in the web UI")
	return c
}

func (a *app) scheduleDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a schedule; its nights' records stay in the store",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withSession(c.Context(), func(se *session) error {
				d, err := se.schedule(c.Context(), args[0])
				if err != nil {
					return err
				}
				if err := se.node.Client.ScheduleClient().GetHandle(c.Context(), args[0]).Delete(c.Context()); err != nil {
					return unreachable(fmt.Errorf("delete schedule %s: %w", args[0], err))
				}
				fmt.Fprintf(os.Stderr, "schedule %s is deleted; a night that runs goes on, and the records stay\n", args[0])
				if d.input.Timing.Declared && slices.ContainsFunc(se.settings.Schedules, func(s settings.Schedule) bool { return s.ID == args[0] }) {
					fmt.Fprintf(os.Stderr, "%s still declares it: esclab schedule apply would make it again\n", se.settings.Path)
				}
				return nil
			})
		},
	}
}

// notFound tells whether Temporal has no such schedule.
func notFound(err error) bool {
	var none *serviceerror.NotFound
	return errors.As(err, &none)
}
