package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/experiments"
)

func (a *app) scheduleApply() *cobra.Command {
	var dry, keep bool
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
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSession(c.Context(), func(se *session) error {
				changes, err := se.scheduleChanges(c.Context())
				if err != nil {
					return err
				}
				return se.applySchedules(c.Context(), changes, dry, keep, os.Stdout)
			})
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would change, and change nothing")
	c.Flags().BoolVar(&keep, "keep", false, "keep schedules that temporal.yaml no longer declares")
	return c
}

// scheduleChange is one schedule, and what has to be done about it.
type scheduleChange struct {
	id   string
	verb string // make, change, delete, keep
	why  string
	want wantedSchedule
}

// scheduleChanges compares what is declared with what is there.
func (se *session) scheduleChanges(ctx context.Context) ([]scheduleChange, error) {
	there, err := se.schedules(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]*scheduleState{}
	for _, d := range there {
		byID[d.input.Schedule] = d
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
		} else if change.why = difference(d, wanted); change.why != "" {
			change.verb = "change"
		} else {
			change.verb = "keep"
		}
		changes = append(changes, change)
	}
	for _, d := range there {
		if id := d.input.Schedule; !declared[id] && d.input.Timing.Declared {
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

// difference says in what a schedule is not what is declared; "" where it is.
func difference(d *scheduleState, s wantedSchedule) string {
	var parts []string
	was, now := reflect.ValueOf(d.input), reflect.ValueOf(s.input)
	for i := range was.NumField() {
		// As JSON has it: an empty list is an absent one.
		if fmt.Sprintf("%v", was.Field(i)) != fmt.Sprintf("%v", now.Field(i)) {
			name, _, _ := strings.Cut(was.Type().Field(i).Tag.Get("json"), ",")
			parts = append(parts, name)
		}
	}
	if d.Schedule.State.Paused != s.Paused {
		parts = append(parts, "paused")
	}
	if d.Schedule.State.Note != s.Note {
		parts = append(parts, "note")
	}
	if p := d.Schedule.Policy; p.Overlap != overlapPolicy(s.Overlap) || p.CatchupWindow != s.CatchupWindow || p.PauseOnFailure != s.PauseOnFailure {
		parts = append(parts, "policies")
	}
	return strings.Join(parts, ", ")
}

func (se *session) applySchedules(ctx context.Context, changes []scheduleChange, dry, keep bool, out io.Writer) error {
	if len(changes) == 0 {
		fmt.Fprintln(out, "no schedule is declared, and none was before")
		return nil
	}
	var failures []error
	for _, c := range changes {
		if c.verb == "delete" && keep {
			c.verb, c.why = "keep", "no longer declared"
		}
		err := error(nil)
		if !dry {
			switch c.verb {
			case "make":
				err = se.makeSchedule(ctx, c.want)
			case "change":
				err = se.changeSchedule(ctx, c.want)
			case "delete":
				err = se.node.Client.ScheduleClient().GetHandle(ctx, c.id).Delete(ctx)
			}
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s schedule %s: %w", c.verb, c.id, err))
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
