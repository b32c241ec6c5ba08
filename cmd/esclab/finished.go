package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workflows/lab"
)

// helpRun explains the argument RUN of the commands that read a run's
// artifacts.
const helpRun = `RUN is what esclab status --all lists (run/demo/0da221080876), or the name of
an experiment: its newest run. Of a run with several seeds the first one's stages
are read, or those that are named, as in decoupled/dpo@2. With --set, or where RUN is a YAML file, or where
there is no such run, RUN is planned as esclab run would and the stages that are
in the store are read.`

// layoutOf finds the stages of a run: those that it was started with, or those
// that an experiment would have.
func (se *session) layoutOf(ctx context.Context, run string, set []string) (lab.Layout, error) {
	return se.lab.LayoutOf(ctx, run, set, node.Host(ctx, se.settings))
}

// absent says of a stage's error, where it is that the artifact is not there,
// what to do about it.
func absent(l lab.Layout, stage string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, artifacts.ErrNotFound):
		return failed(fmt.Errorf("stage %s of %s is not in the store: run it first: esclab run %s", stage, l.Name, l.Name))
	}
	return failed(fmt.Errorf("stage %s of %s: %w", stage, l.Name, err))
}
