package lab

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// Layout is a run's stages, by their names.
type Layout struct {
	Name   string // of the experiment
	Stages []experiments.Stage
	// Run is what was started, and Cell its name within a sweep. It is zero where
	// the stages are planned: of Planned, a preset's name or a file, with Set.
	Run     Execution
	Cell    string
	Planned string
	Set     []string
}

// LayoutOf finds the stages of a run: those that it was started with, or, with
// fields set, of a file, or of a preset that was not run, those that the
// experiment would have on this host.
func (c *Client) LayoutOf(ctx context.Context, run string, set []string, host experiments.Host) (Layout, error) {
	info, err := os.Stat(run)
	if file := err == nil && info.Mode().IsRegular(); len(set) == 0 && !file {
		e, err := c.FindRun(ctx, run, false)
		preset := slices.Contains(experiments.Presets(), run)
		if err == nil && (!preset || workflows.NamedIn(e.ID) == run) {
			in, err := c.RunInput(ctx, e)
			return Layout{Name: in.Experiment, Stages: in.Stages, Run: e, Cell: in.Facts.Cell}, err
		}
		var broken *Error
		if !preset || errors.As(err, &broken) {
			return Layout{}, err
		}
	}
	p, err := experiments.Prepare(run, set, host)
	if err = errors.Join(err, p.Missing); err != nil {
		return Layout{}, err
	}
	return Layout{Name: p.Experiment.Name, Stages: p.Stages, Planned: run, Set: set}, nil
}

// Result is the last stage, which rests on all others: the report.
func (l Layout) Result() experiments.Stage { return l.Stages[len(l.Stages)-1] }

// Stage gives a stage by its name, such as "mine/sp"; in a run with several
// seeds, "mine/sp@2" is the second seed's and a name without a seed the first's.
func (l Layout) Stage(name string) (experiments.Stage, bool) {
	for _, s := range l.Stages {
		if s.Name == name {
			return s, true
		}
	}
	for _, s := range l.Stages {
		if experiments.WithoutSeed(s.Name) == name {
			return s, true
		}
	}
	return experiments.Stage{}, false
}

// Of lists the stages of a kind.
func (l Layout) Of(kind experiments.Kind) []experiments.Stage {
	var stages []experiments.Stage
	for _, s := range l.Stages {
		if s.Kind == kind {
			stages = append(stages, s)
		}
	}
	return stages
}

// Inputs maps the names of a stage's inputs to the fingerprints of the stages
// that make them.
func (l Layout) Inputs(s experiments.Stage) map[string]string {
	inputs := map[string]string{}
	for name, from := range s.Inputs {
		if made, ok := l.Stage(from); ok {
			inputs[name] = made.Fingerprint
		}
	}
	return inputs
}
