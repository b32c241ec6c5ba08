package lab

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// KeepPlan gives the input of the run of that workflow ID as Temporal takes it: a
// large plan goes into the store, where its name is its content's.
func KeepPlan(ctx context.Context, store *artifacts.Store, run string, in workflows.RunInput) (workflows.RunInput, error) {
	data, err := json.Marshal(in.Stages)
	if err != nil || len(data) <= workflows.PlainLimit {
		return in, err
	}
	file := fmt.Sprintf("plan-%.12s.json", artifacts.DigestBytes(data))
	ref, err := store.PutRunFile(ctx, run, file, data)
	if err != nil {
		return in, fmt.Errorf("store the plan of %s: %w", run, err)
	}
	return in.Planned(run, file, ref.SHA256), nil
}

// ReadRunPlan reads a run's plan from the store. A PlanError says that it is not
// the one that the run was started with.
func ReadRunPlan(ctx context.Context, store *artifacts.Store, ref workflows.RunPlan) ([]experiments.Stage, error) {
	data, err := readPlan(ctx, store, ref.Run, ref.File, ref.SHA256)
	if err != nil {
		return nil, err
	}
	var stages []experiments.Stage
	if err := json.Unmarshal(data, &stages); err != nil {
		return nil, &PlanError{fmt.Errorf("plan of %s: %w", ref.Run, err)}
	}
	return stages, nil
}

// readPlan reads a plan, a file of a run or a sweep, and checks that it is the one
// that is asked for.
func readPlan(ctx context.Context, store *artifacts.Store, id, file, sha256 string) ([]byte, error) {
	data, err := store.GetRunFile(ctx, id, file)
	if err != nil {
		return nil, fmt.Errorf("plan of %s: %w", id, err)
	}
	if err := artifacts.CheckBytes(file, data, sha256); err != nil {
		return nil, &PlanError{fmt.Errorf("plan of %s: %w", id, err)}
	}
	return data, nil
}

// RunInput is what a run was started with, with the stages of a plan in the store.
func (c *Client) RunInput(ctx context.Context, e Execution) (workflows.RunInput, error) {
	var in workflows.RunInput
	err := c.Input(ctx, e, &in)
	if err != nil || in.Plan == nil {
		return in, err
	}
	if in.Stages, err = ReadRunPlan(ctx, c.Store, *in.Plan); err != nil {
		return in, failed(err)
	}
	return in, nil
}
