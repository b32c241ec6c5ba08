package experiments

import (
	"errors"
	"fmt"
	"os"
)

// Prepared is an experiment that is ready to run.
type Prepared struct {
	Experiment Experiment
	// Stages is its DAG. The paths of source files in it are absolute: the
	// worker that reads them may have another working directory.
	Stages []Stage
	// Missing says which sources are not there. A plan without them can be
	// shown but not run.
	Missing error
	// Warnings say what is allowed and yet hardly meant.
	Warnings []string
}

// Prepare loads an experiment, a preset's name or a path, with fields set, and
// lays out its stages.
func Prepare(nameOrPath string, set []string, host Host) (Prepared, error) {
	exp, err := Load(nameOrPath, set...)
	if err != nil {
		return Prepared{Experiment: exp}, err
	}
	return exp.Prepare(host)
}

// Prepare lays out the experiment's stages.
func (e Experiment) Prepare(host Host) (Prepared, error) {
	p := Prepared{Experiment: e}
	sources, missing, err := host.sources(e)
	if err != nil {
		return p, err
	}
	p.Missing = missing
	p.Warnings = append(e.Warnings(), host.ownSampling(e, sources.Checkpoint)...)
	if p.Stages, err = Plan(e, sources); err != nil {
		return p, err
	}
	return p, AbsoluteSources(p.Stages)
}

// Result is the fingerprint of the last stage, which rests on all others.
func (p Prepared) Result() string { return p.Stages[len(p.Stages)-1].Fingerprint }

// sources finds and checks what an experiment reads from outside.
func (h Host) sources(e Experiment) (s Sources, missing, err error) {
	s, missing = SourceDigests(e, h)
	for _, j := range e.Judges() {
		texts := s.JudgePrompts[j.Prompts]
		if j.Kind != JudgeOpenAI || len(texts) == 0 || h.CheckPrompts == nil {
			continue
		}
		if err := h.CheckPrompts(j.Protocol, texts); err != nil {
			return s, missing, fmt.Errorf("%s.prompts: %s: %w", j.Path, j.Prompts, err)
		}
	}
	return s, missing, nil
}

// PreparedSweep is a sweep that is ready to run.
type PreparedSweep struct {
	Sweep Sweep
	Plan  SweepPlan
	// Missing says which sources are not there. A plan without them can be
	// shown but not run.
	Missing error
}

// PrepareSweep loads a sweep, a preset's name or a path, with fields of its
// base set, and plans every cell.
func PrepareSweep(nameOrPath string, set []string, host Host) (PreparedSweep, error) {
	var p PreparedSweep
	var err error
	if p.Sweep, err = LoadSweep(nameOrPath, set...); err != nil {
		return p, err
	}
	here, err := os.Getwd()
	if err != nil {
		return p, err
	}
	var refused error
	p.Plan, err = PlanSweep(p.Sweep, here, func(e Experiment) (Sources, error) {
		sources, missing, err := host.sources(e)
		refused = errors.Join(refused, err)
		return sources, missing
	})
	if refused != nil {
		return p, refused
	}
	if len(p.Plan.Cells) > 0 { // a plan with cells and an error lacks sources
		p.Missing, err = err, nil
	}
	return p, err
}
