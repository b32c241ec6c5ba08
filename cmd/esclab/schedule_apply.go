package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

type scheduleApplyOptions struct{ dry, keep bool }

func (a *app) scheduleApply() *cobra.Command {
	var o scheduleApplyOptions
	c := &cobra.Command{
		Use:   "apply",
		Short: "Make Temporal's schedules those that temporal.yaml declares",
		Long: `Make the schedules that temporal.yaml declares, change those that differ, and
delete those that it declared before and no longer does. Schedules that were
made with create are left alone, unless temporal.yaml declares one of the same
name: then it takes it over. Run again, it changes nothing.

An experiment that is a file is read now: apply again after changing it. Whether
a schedule is paused is set too, so that a pause by hand ends here unless
"paused: true" is declared.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runScheduleApply(c.Context(), o, c.OutOrStdout()) },
	}
	c.Flags().BoolVar(&o.dry, "dry-run", false, "say what would change, and change nothing")
	c.Flags().BoolVar(&o.keep, "keep", false, "keep schedules that temporal.yaml no longer declares")
	return c
}

func (a *app) runScheduleApply(ctx context.Context, o scheduleApplyOptions, out io.Writer) error {
	return a.withSession(ctx, func(se *session) error {
		changes, err := se.scheduleChanges(ctx)
		if err != nil {
			return err
		}
		return se.applySchedules(ctx, changes, o, out)
	})
}

// scheduleChange is one schedule, and what has to be done about it.
type scheduleChange struct {
	id   string
	verb string // make, change, delete, keep
	why  string
	want lab.Schedule
}

// scheduleChanges compares what is declared with what is there.
func (se *session) scheduleChanges(ctx context.Context) ([]scheduleChange, error) {
	there, err := se.lab.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]*lab.ScheduleState{}
	for _, d := range there {
		byID[d.Input.Schedule] = d
	}
	var changes []scheduleChange
	declared := map[string]bool{}
	for i, s := range se.settings.Schedules {
		declared[s.ID] = true
		s.Experiment = se.besideSettings(s.Experiment)
		wanted, err := se.want(ctx, s, true)
		if err != nil {
			return nil, fmt.Errorf("%s: schedules[%d] (%s): %w", se.settings.Path, i, s.ID, err)
		}
		change := scheduleChange{id: s.ID, want: wanted}
		if d := byID[s.ID]; d == nil {
			change.verb = "make"
		} else if change.why = d.Difference(wanted); change.why != "" {
			change.verb = "change"
		} else {
			change.verb = "keep"
		}
		changes = append(changes, change)
	}
	for _, d := range there {
		if id := d.Input.Schedule; !declared[id] && d.Input.Timing.Declared {
			changes = append(changes, scheduleChange{id: id, verb: "delete", why: "no longer declared"})
		}
	}
	return changes, nil
}

// besideSettings gives an experiment's file relative to the settings, as every
// path in them is.
func (se *session) besideSettings(experiment string) string {
	if filepath.IsAbs(experiment) || se.settings.Path == "" || isPreset(experiment) {
		return experiment
	}
	return filepath.Join(filepath.Dir(se.settings.Path), experiment)
}

func isPreset(name string) bool {
	_, err := experiments.PresetYAML(name)
	return err == nil && !strings.ContainsAny(name, `/\`)
}

func (se *session) applySchedules(ctx context.Context, changes []scheduleChange, o scheduleApplyOptions, out io.Writer) error {
	if len(changes) == 0 {
		fmt.Fprintln(out, "no schedule is declared, and none was before")
		return nil
	}
	var failures []error
	for _, c := range changes {
		if c.verb == "delete" && o.keep {
			c.verb, c.why = "keep", "no longer declared"
		}
		var err error
		if !o.dry {
			switch c.verb {
			case "make":
				err = se.lab.CreateSchedule(ctx, c.want)
			case "change":
				err = se.lab.ChangeSchedule(ctx, c.want)
			case "delete":
				err = se.lab.DeleteSchedule(ctx, c.id)
			}
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		line := fmt.Sprintf("%-7s %s", c.verb, c.id)
		if c.why != "" {
			line += " (" + c.why + ")"
		}
		fmt.Fprintln(out, line)
	}
	return failed(errors.Join(failures...))
}

// want works out what a schedule's nights are started with. The paths of an
// experiment that is a file are made absolute.
func (se *session) want(ctx context.Context, s settings.Schedule, declared bool) (lab.Schedule, error) {
	w := lab.Schedule{Paused: s.Paused, Note: s.Note}
	in := &w.Input
	*in = workflows.NightInput{
		Schedule: s.ID, Fresh: s.Fresh,
		Compare: workflows.NightCompare{Window: s.Window, MinNights: s.MinNights, Noise: s.Noise, Slack: s.Slack},
		Notify:  workflows.NightNotify{Webhook: s.Webhook, File: s.File},
		Queues:  se.lab.Queues, HeartbeatSeconds: se.lab.HeartbeatSeconds,
		Timing:     workflows.NightTiming{Cron: s.Cron, Overlap: s.Overlap, CatchupWindow: s.CatchupWindow, PauseOnFailure: s.PauseOnFailure, Declared: declared},
		Attributes: se.lab.Attributes,
	}
	p, err := se.app.prepare(ctx, s.Experiment, s.Set)
	if err != nil {
		return w, err
	}
	if err := se.app.allowJudges(p.Experiment); err != nil {
		return w, err
	}
	in.Experiment.Name = p.Experiment.Name
	if p.Missing != nil {
		// The worker may have what this machine lacks.
		fmt.Fprintln(stderr, "esclab: not on this machine:", p.Missing)
	}
	if slices.Contains(experiments.Presets(), s.Experiment) {
		in.Experiment.Preset, in.Experiment.Set = s.Experiment, s.Set
		return w, nil
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if err := p.Experiment.AbsolutePaths(exists); err != nil {
		return w, err
	}
	if w.Experiment, err = experiments.Marshal(p.Experiment); err != nil {
		return w, err
	}
	sum := sha256.Sum256(w.Experiment)
	in.Experiment.SHA256 = hex.EncodeToString(sum[:])
	in.Experiment.File = "experiments/" + in.Experiment.SHA256 + ".yaml"
	return w, nil
}
