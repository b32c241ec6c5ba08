package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/compare"
)

// contrast is two systems whose difference is measured.
type contrast struct {
	run, against          *comparedRun
	system, againstSystem string
}

// paired measures the differences that a comparison shows. Pairs that cannot
// be formed are named in the notes.
func (se *session) paired(ctx context.Context, runs []*comparedRun, f compareOptions) (out []compare.Paired, notes []string, err error) {
	if f.sweep != "" && f.against == "" {
		return nil, nil, nil
	}
	contrasts, err := se.contrasts(ctx, runs, f)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range contrasts {
		p := compare.Paired{Run: c.run.Name, System: c.system, AgainstRun: c.against.Name, AgainstSystem: c.againstSystem}
		a, b := c.run.evaluated[c.system], c.against.evaluated[c.againstSystem]
		if slices.Equal(stagesOf(c.run.Stages, c.system), stagesOf(c.against.Stages, c.againstSystem)) {
			notes = append(notes, p.Contrast()+": the same replies")
			continue
		}
		if a == nil || b == nil {
			notes = append(notes, fmt.Sprintf("%s: not computed, as a run is not done", p.Contrast()))
			continue
		}
		d, err := results.Paired(ctx, *a, *b, c.against.seed)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s: not computed: %v", p.Contrast(), err))
			continue
		}
		p.Turns, p.Dialogues, p.Differences = d.Turns, d.Dialogues, map[string]compare.Difference{}
		for i, c := range experiments.Table3() {
			if v := d.Values[i]; v.Defined() {
				p.Differences[c.Name] = compare.Difference(v)
			}
		}
		out = append(out, p)
	}
	return out, notes, nil
}

// contrasts are the differences to measure: within one run decoupled against
// vanilla, else every run's systems against those of one.
func (se *session) contrasts(ctx context.Context, runs []*comparedRun, f compareOptions) ([]contrast, error) {
	var out []contrast
	if len(runs) == 1 && f.against == "" {
		systems := runs[0].Systems
		for i := range systems {
			for k := range systems[:i] {
				out = append(out, contrast{runs[0], runs[0], systems[i].Name, systems[k].Name})
			}
		}
		if len(f.systems) > 0 && len(systems) > 2 { // all against all is more than anybody reads
			out = slices.DeleteFunc(out, func(c contrast) bool { return c.againstSystem != systems[0].Name })
		}
		return out, nil
	}
	against := runs[0]
	if f.against != "" {
		at := slices.IndexFunc(runs, func(r *comparedRun) bool {
			return r.Name == f.against || r.ID == f.against || r.ID == "run/"+f.against || r.experiment == f.against
		})
		if at >= 0 {
			against = runs[at]
		} else {
			var err error
			if against, err = se.runNamed(ctx, f.against); err != nil {
				return nil, fmt.Errorf("--against: %w", err)
			}
			if err := se.evaluate(ctx, against, f.systems, true); err != nil {
				return nil, fmt.Errorf("--against %s: %w", f.against, err)
			}
		}
	}
	for _, r := range runs {
		if r == against {
			continue
		}
		for _, s := range r.Systems {
			if slices.ContainsFunc(against.Systems, func(o compare.System) bool { return o.Name == s.Name }) {
				out = append(out, contrast{r, against, s.Name, s.Name})
			}
		}
	}
	if len(out) == 0 && len(runs) > 1 {
		return nil, nil
	}
	if len(out) == 0 {
		return nil, errors.New("--against: the runs have no system in common")
	}
	return out, nil
}
