package main

import (
	"fmt"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/settings"
)

// allowJudges makes sure that the settings list the endpoints which an experiment
// wants asked. An experiment may come from anywhere, so it is the user who
// decides where dialogues and a key go: once, on a terminal, and otherwise by
// adding the entry that the error shows.
func (a *app) allowJudges(e experiments.Experiment) error {
	for _, j := range e.Judges() {
		if err := a.allowJudge(e.Name, j); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) allowJudge(name string, j experiments.JudgeAt) error {
	if j.Kind != experiments.JudgeOpenAI {
		return nil
	}
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	want := settings.Endpoint{BaseURL: j.BaseURL, APIKeyEnv: j.APIKeyEnv}
	if s.Judge.Allows(want) {
		return nil
	}
	add := fmt.Errorf("%s.base_url: %s does not list %s: if you trust it with dialogues%s, add to judge.endpoints there: %s",
		j.Path, s.File(), want.BaseURL, andKey(want), want.YAML())
	if !agreed(fmt.Sprintf("%s wants %q asked to judge: it would get dialogues%s. Add it to %s?", name, want.BaseURL, andKey(want), s.File())) {
		return add
	}
	if err := s.AddEndpoint(want); err != nil {
		return fmt.Errorf("%w: %w", err, add)
	}
	return nil
}

// allowSweep does so for the experiments of a sweep's cells.
func (a *app) allowSweep(p experiments.SweepPlan) error {
	asked := map[[2]string]bool{}
	for _, c := range p.Cells {
		e, err := p.Experiment(c.Cell)
		if err != nil {
			return err
		}
		for _, j := range e.Judges() {
			of := [2]string{j.BaseURL, j.APIKeyEnv}
			if j.Kind != experiments.JudgeOpenAI || asked[of] {
				continue
			}
			if err := a.allowJudge(e.Name, j); err != nil {
				return err
			}
			asked[of] = true
		}
	}
	return nil
}

func andKey(e settings.Endpoint) string {
	if e.APIKeyEnv == "" {
		return ""
	}
	return " and the key in $" + e.APIKeyEnv
}
