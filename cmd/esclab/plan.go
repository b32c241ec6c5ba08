package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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
	decisions := map[string]experiments.Decision{}
	if se.lab != nil {
		var err error
		if decisions, err = se.lab.Decide(ctx, p.Stages); err != nil {
			return err
		}
		if err := se.explain(ctx, p, decisions); err != nil {
			return err
		}
	}
	all := experiments.Planned(p.Stages, decisions)
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
	if err := se.printEstimate(ctx, p.Stages, out); err != nil {
		return err
	}
	return sayForecast(all, &p.Experiment, corpus, shape, o.card, stderr)
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
// the most memory that stages like these have held.
func (se *session) printEstimate(ctx context.Context, stages []experiments.Stage, out io.Writer) error {
	if se.lab == nil {
		_, err := fmt.Fprintln(out, "time: unknown; no stage has finished here yet")
		return err
	}
	decisions, err := se.lab.Decide(ctx, stages)
	if err != nil {
		return err
	}
	past, err := se.lab.PastStages(ctx)
	if err != nil {
		return unreachable(err)
	}
	estimator := experiments.NewEstimator(past)
	var seconds float64
	var bytes int64
	run, unknown := 0, 0
	for _, s := range stages {
		if s.Fingerprint == "" {
			fmt.Fprintln(out, "time: unknown; source files are missing")
			return nil
		}
		if decisions[s.Name].Action != experiments.ActionRun {
			continue
		}
		run++
		guess := estimator.Estimate(s)
		if guess.Past == 0 {
			unknown++
		}
		seconds += guess.Seconds
		bytes = max(bytes, guess.Bytes)
	}
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
		if bytes > 0 {
			fmt.Fprintf(out, "; processes with such stages held up to %s", size(bytes))
		}
		fmt.Fprintln(out)
	}
	return nil
}
