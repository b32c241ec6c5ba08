package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// helpRun explains the argument RUN of the commands that read a run's
// artifacts.
const helpRun = `RUN is what esclab status --all lists (run/demo/0da221080876), or the name of
an experiment: its newest run. Of a run with several seeds the first one's stages
are read, or those that are named, as in decoupled/dpo@2. With --set, or where RUN is a YAML file, or where
there is no such run, RUN is planned as esclab run would and the stages that are
in the store are read.`

// layout is a run's stages, by their names.
type layout struct {
	name   string // of the experiment
	stages []experiments.Stage
}

// layoutOf finds the stages of a run: those that it was started with, or those
// that an experiment would have.
func (se *session) layoutOf(ctx context.Context, run string, set []string) (layout, error) {
	info, err := os.Stat(run)
	if file := err == nil && info.Mode().IsRegular(); len(set) == 0 && !file {
		id, err := se.findRun(ctx, run, false)
		if err == nil {
			return se.startedWith(ctx, id)
		}
		if strings.HasPrefix(run, "run/") || !slices.Contains(experiments.Presets(), run) {
			return layout{}, err
		}
	}
	host, err := se.app.host(ctx)
	if err != nil {
		return layout{}, err
	}
	p, missing, err := plan(host, run, set)
	if err = errors.Join(err, missing); err != nil {
		return layout{}, err
	}
	return layout{p.exp.Name, p.stages}, nil
}

// startedWith reads the stages of a run from the first event of its history:
// no worker has to be up to answer.
func (se *session) startedWith(ctx context.Context, id string) (layout, error) {
	history := se.node.Client.GetWorkflowHistory(ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !history.HasNext() {
		return layout{}, unreachable(fmt.Errorf("run %s has no history", id))
	}
	event, err := history.Next()
	if err != nil {
		return layout{}, unreachable(fmt.Errorf("history of run %s: %w", id, err))
	}
	var in workflows.RunInput
	if err := converter.GetDefaultDataConverter().FromPayloads(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), &in); err != nil {
		return layout{}, fmt.Errorf("run %s: what it was started with: %w", id, err)
	}
	return layout{in.Experiment, in.Stages}, nil
}

// stage gives a stage by its name, such as "mine/sp"; in a run with several
// seeds, "mine/sp@2" is the second seed's and a name without a seed the first's.
func (l layout) stage(name string) (experiments.Stage, bool) {
	for _, s := range l.stages {
		if s.Name == name {
			return s, true
		}
	}
	for _, s := range l.stages {
		if experiments.WithoutSeed(s.Name) == name {
			return s, true
		}
	}
	return experiments.Stage{}, false
}

// of lists the stages of a kind.
func (l layout) of(kind experiments.Kind) []experiments.Stage {
	var stages []experiments.Stage
	for _, s := range l.stages {
		if s.Kind == kind {
			stages = append(stages, s)
		}
	}
	return stages
}

// inputs maps the names of a stage's inputs to the fingerprints of the stages
// that make them.
func (l layout) inputs(s experiments.Stage) map[string]string {
	inputs := map[string]string{}
	for name, from := range s.Inputs {
		if made, ok := l.stage(from); ok {
			inputs[name] = made.Fingerprint
		}
	}
	return inputs
}

// absent says of a stage's error, where it is that the artifact is not there,
// what to do about it.
func absent(l layout, stage string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, artifacts.ErrNotFound):
		return failed(fmt.Errorf("stage %s of %s is not in the store: run it first: esclab run %s", stage, l.name, l.name))
	}
	return failed(fmt.Errorf("stage %s of %s: %w", stage, l.name, err))
}
