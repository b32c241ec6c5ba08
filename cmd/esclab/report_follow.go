package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// reportEvery is how often the report of a run that goes on is written at most: its
// intervals take processor time, which the run needs.
const reportEvery = 15 * time.Second

// followReport writes the page of a run that goes on into a directory, whenever
// stages have ended, until the run ends.
func (se *session) followReport(ctx context.Context, l lab.Layout, dir string) error {
	last, said := -1, false
	var at time.Time
	_, err := se.lab.FollowRun(ctx, l.Run, func(v lab.RunView) {
		done := 0
		for _, s := range v.Stages {
			if over(s.Status) {
				done++
			}
		}
		if done == last || done == len(v.Stages) || time.Since(at) < reportEvery {
			return
		}
		path, err := se.writeUnfinished(ctx, l, dir, done)
		switch {
		case err != nil && ctx.Err() == nil:
			se.app.log.Warn().Err(err).Msg("the report of the run so far cannot be written")
		case path != "" && !said:
			said = true
			fmt.Fprintf(stderr, "report so far  %s\n", newScreen(stderr).file(path))
		}
		last, at = done, time.Now()
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed(err)
}

// writeUnfinished writes the page of what is done; "" while there is nothing to show.
func (se *session) writeUnfinished(ctx context.Context, l lab.Layout, dir string, done int) (string, error) {
	stage := l.Result()
	data, ok, err := se.node.UnfinishedReport(ctx, workflows.StageInput{Stage: stage, Inputs: l.Inputs(stage)})
	if err != nil || !ok {
		return "", err
	}
	data.Unfinished = &report.Unfinished{Done: done, Stages: len(l.Stages), Seconds: int(reportEvery.Seconds())}
	var page bytes.Buffer
	if err := report.HTML(&page, data); err != nil {
		return "", err
	}
	path := filepath.Join(dir, results.FileReportHTML)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return path, whole.Write(path, whole.Private, page.Bytes())
}
