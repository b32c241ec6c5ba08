package workflows

import (
	"fmt"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// RunWorkflowID is the identity of a run: the experiment's name and what it
// computes, the fingerprint of its last stage. Whoever starts the same run
// again joins the one that is under way.
func RunWorkflowID(experiment, fingerprint string) string {
	return fmt.Sprintf("run/%s/%.12s", experiment, fingerprint)
}

// WorkflowID is the identity of the run.
func (in RunInput) WorkflowID() string {
	return RunWorkflowID(in.Experiment, in.Stages[len(in.Stages)-1].Fingerprint)
}

// NightRunWorkflowID is the identity of a night's run that measures nothing
// anew: a run of its own, although others may compute the same.
func NightRunWorkflowID(experiment, night string) string {
	return fmt.Sprintf("run/%s/night-%s", experiment, night)
}

// SweepWorkflowID is the identity of a sweep: its name and what it computes.
func SweepWorkflowID(p experiments.SweepPlan) string {
	return fmt.Sprintf("sweep/%s/%.12s", p.Name, p.Identity())
}

// NamedIn is the name of the experiment or the sweep in a run's or a sweep's
// workflow ID; an ID of another kind names itself.
func NamedIn(workflowID string) string {
	if kind, rest, _ := strings.Cut(workflowID, "/"); kind == "run" || kind == "sweep" {
		if name, which, found := strings.Cut(rest, "/"); found && !strings.Contains(which, "/") {
			return name
		}
	}
	return workflowID
}

// NewRunInput is what a run of an experiment is started with. facts say what
// the experiment does not know: the sweep and its cell, the program's revision
// and the search attributes that the namespace has; origin who starts it.
func NewRunInput(p experiments.Prepared, queues Queues, heartbeatSeconds int, facts Facts, origin Origin) RunInput {
	exp := p.Experiment
	facts.Experiment, facts.Backbone, facts.Seed = exp.Name, exp.Backbone.Name, exp.AllSeeds()[0]
	return RunInput{
		Experiment: exp.Name, Stages: p.Stages, Queues: queues, Checkpoint: exp.Checkpoint, Memory: exp.Memory, Judge: exp.Judge.JudgeAccess,
		HeartbeatSeconds: heartbeatSeconds, Facts: facts, Origin: origin,
	}
}
