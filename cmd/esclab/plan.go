package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/workflows/lab"
)

// printPlan shows what a run would do.
func (se *session) printPlan(ctx context.Context, p experiments.Prepared, o runOptions, out io.Writer) error {
	var corpus esc.Survey
	var shape experiments.Shape
	if p.Missing == nil { // what is wrong with them is the check's to say
		corpus, _ = surveyCorpus(p.Stages[0], stderr)
		shape, _ = surveyBackbone(p.Stages, stderr)
	}
	all, err := se.planned(ctx, p)
	if err != nil {
		return err
	}
	if o.json {
		return experiments.WritePlanJSON(out, all)
	}
	width := 0
	if onTerminal(out) {
		width = newScreen(out).width
	}
	if err := experiments.WritePlan(out, all, width); err != nil {
		return err
	}
	if err := se.printEstimate(ctx, all, out, false); err != nil {
		return err
	}
	return sayForecast(all, &p.Experiment, corpus, shape, o.card, false, stderr)
}

// planned says of each stage whether it would be reused or run, and why; all are to be
// run where nothing has been.
func (se *session) planned(ctx context.Context, p experiments.Prepared) ([]experiments.PlannedStage, error) {
	if se.lab == nil {
		return experiments.Planned(p.Stages, nil), nil
	}
	decisions, err := se.lab.Decide(ctx, p.Stages)
	if err != nil {
		return nil, err
	}
	if err := se.explain(ctx, p, decisions); err != nil {
		return nil, err
	}
	return experiments.Planned(p.Stages, decisions), nil
}

// explain says of stages that are not in the store in what they differ from those of
// the experiment's newest run.
func (se *session) explain(ctx context.Context, p experiments.Prepared, decisions map[string]experiments.Decision) error {
	l, err := se.layoutOf(ctx, p.Experiment.Name, nil)
	if err != nil || l.Planned != "" || p.Missing != nil {
		var broken *lab.Error
		if errors.As(err, &broken) {
			return err
		}
		return nil // it has not been run: there is nothing to differ from
	}
	d := compare.Differ(l.Stages, p.Stages)
	why := map[string]string{}
	for _, part := range d.Parts {
		var reasons []string
		for _, r := range part.Reasons {
			reasons = append(reasons, strings.Replace(r, ", ", " -> ", 1))
		}
		why[part.Stage] = strings.Join(reasons, "; ") + " since " + runName(l.Run.ID)
	}
	follows := map[string]bool{}
	for _, name := range d.Follows {
		follows[name] = true
	}
	for _, s := range p.Stages {
		decision := decisions[s.Name]
		if decision.Action != experiments.ActionRun || decision.Reason != lab.NotInStore {
			continue
		}
		if reason := why[s.Name]; reason != "" {
			decision.Reason = reason
		} else if follows[s.Name] {
			var changed []string
			for _, name := range experiments.InputNames(s) {
				if follows[name] || why[name] != "" {
					changed = append(changed, name)
				}
			}
			if len(changed) > 3 {
				changed = append(changed[:3], fmt.Sprintf("%d more", len(changed)-3))
			}
			decision.Reason = "new inputs: " + strings.Join(changed, ", ")
		}
		decisions[s.Name] = decision
	}
	return nil
}

// printEstimate says how long what is to be computed takes, one stage at a time, and
// the most memory that stages like these have held; with each also of every stage that
// takes a second or more.
func (se *session) printEstimate(ctx context.Context, planned []experiments.PlannedStage, out io.Writer, each bool) error {
	if se.lab == nil {
		_, err := fmt.Fprintln(out, "time: unknown; no stage has finished here yet")
		return err
	}
	past, err := se.lab.PastStages(ctx)
	if err != nil {
		return unreachable(err)
	}
	estimator := experiments.NewEstimator(past)
	var seconds float64
	var held int64
	run, unknown, short := 0, 0, 0
	var lines bytes.Buffer
	table := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', 0)
	for _, s := range planned {
		switch s.Action {
		case experiments.ActionBlocked:
			_, err := fmt.Fprintln(out, "time: unknown; source files are missing")
			return err
		case experiments.ActionReuse:
			continue
		}
		run++
		guess := estimator.Estimate(s.Stage)
		switch {
		case guess.Past == 0:
			unknown++
		case guess.Seconds < 1:
			short++
		default:
			fmt.Fprintf(table, "  %s\t%s\t%s\n", s.Name, roughly(guess.Seconds), size(guess.Bytes))
		}
		seconds += guess.Seconds
		held = max(held, guess.Bytes)
	}
	table.Flush() // into memory
	switch {
	case run == 0:
		fmt.Fprintln(out, "time: nothing is to be computed")
	case unknown == run:
		fmt.Fprintln(out, "time: unknown; no stage of these kinds has finished in this store yet")
	default:
		fmt.Fprintf(out, "time: about %s, one stage at a time", roughly(seconds))
		if unknown > 0 {
			fmt.Fprintf(out, ", and %d stages of which none like them has finished", unknown)
		}
		if held > 0 {
			fmt.Fprintf(out, "; processes with such stages held up to %s", size(held))
		}
		fmt.Fprintln(out)
		if each {
			fmt.Fprintf(out, "%s  %d stages take less than a second each\n", lines.String(), short)
		}
	}
	return nil
}
