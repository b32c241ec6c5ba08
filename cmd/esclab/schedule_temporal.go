package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workflows"
)

// nightPriority lets a night wait behind what people wait for: Temporal's keys
// are 1 to 5, 3 where nothing is said.
const nightPriority = 5

// wantedSchedule is a schedule to be made or changed.
type wantedSchedule struct {
	settings.Schedule
	input workflows.NightInput
	// experiment is the YAML that the store is to have; nil for a preset.
	experiment []byte
}

// want works out what a schedule's nights are started with. The paths of an
// experiment that is a file are made absolute.
func (se *session) want(ctx context.Context, s settings.Schedule, declared bool) (wantedSchedule, error) {
	w := wantedSchedule{Schedule: s}
	in := &w.input
	*in = workflows.NightInput{
		Schedule: s.ID, Fresh: s.Fresh,
		Compare: workflows.NightCompare{Window: s.Window, MinNights: s.MinNights, Noise: s.Noise, Slack: s.Slack},
		Notify:  workflows.NightNotify{Webhook: s.Webhook, File: s.File},
		Queues:  se.lab.Queues, HeartbeatSeconds: se.lab.HeartbeatSeconds,
		Timing:     workflows.NightTiming{Cron: s.Cron, Overlap: s.Overlap, CatchupWindow: s.CatchupWindow, PauseOnFailure: s.PauseOnFailure, Declared: declared},
		Attributes: se.lab.Attributes,
	}
	p, err := se.app.prepare(ctx, s.Experiment, s.Set)
	if err != nil {
		return w, err
	}
	in.Experiment.Name = p.Experiment.Name
	if p.Missing != nil {
		// The worker may have what this machine lacks.
		fmt.Fprintln(os.Stderr, "esclab: not on this machine:", p.Missing)
	}
	if slices.Contains(experiments.Presets(), s.Experiment) {
		in.Experiment.Preset, in.Experiment.Set = s.Experiment, s.Set
		return w, nil
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if err := p.Experiment.AbsolutePaths(exists); err != nil {
		return w, err
	}
	if w.experiment, err = experiments.Marshal(p.Experiment); err != nil {
		return w, err
	}
	sum := sha256.Sum256(w.experiment)
	in.Experiment.SHA256 = hex.EncodeToString(sum[:])
	in.Experiment.File = "experiments/" + in.Experiment.SHA256 + ".yaml"
	return w, nil
}

// storeExperiment puts the experiment where the nights look for it.
func (se *session) storeExperiment(ctx context.Context, w wantedSchedule) error {
	if w.experiment == nil {
		return nil
	}
	if _, err := se.node.Store.PutScheduleFile(ctx, w.ID, w.input.Experiment.File, w.experiment); err != nil {
		return unreachable(fmt.Errorf("store the experiment of schedule %s: %w", w.ID, err))
	}
	return nil
}

// action is what the schedule does each night.
func (se *session) action(in workflows.NightInput) *client.ScheduleWorkflowAction {
	facts := workflows.Facts{Attributes: in.Attributes}
	updates := facts.Usable(workflows.AttrExperiment.ValueSet(in.Experiment.Name))
	return &client.ScheduleWorkflowAction{
		ID:                    workflows.NightlyWorkflowID(in.Schedule),
		Workflow:              workflows.NightlyName,
		Args:                  []any{in},
		TaskQueue:             in.Queues.Control,
		TypedSearchAttributes: temporal.NewSearchAttributes(updates...),
		StaticSummary:         fmt.Sprintf("%s: %s", in.Schedule, in.Experiment.Name),
		Priority:              temporal.Priority{PriorityKey: nightPriority},
	}
}

func spec(in workflows.NightInput) client.ScheduleSpec {
	return client.ScheduleSpec{CronExpressions: []string{in.Timing.Cron}, TimeZoneName: "UTC"}
}

// overlapPolicy is Temporal's value of a policy's name.
func overlapPolicy(name string) enums.ScheduleOverlapPolicy {
	return map[string]enums.ScheduleOverlapPolicy{
		"skip": enums.SCHEDULE_OVERLAP_POLICY_SKIP, "buffer_one": enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
		"buffer_all": enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL, "cancel_other": enums.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER,
		"terminate_other": enums.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER, "allow_all": enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
	}[name]
}

func (se *session) makeSchedule(ctx context.Context, s wantedSchedule) error {
	if err := se.storeExperiment(ctx, s); err != nil {
		return err
	}
	_, err := se.node.Client.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: s.ID, Spec: spec(s.input), Action: se.action(s.input), Overlap: overlapPolicy(s.Overlap), CatchupWindow: s.CatchupWindow,
		PauseOnFailure: s.PauseOnFailure, Paused: s.Paused, Note: s.Note,
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("there is a schedule %s, and it is none of esclab's: choose another name", s.ID)
	}
	if err != nil {
		return unreachable(fmt.Errorf("make schedule %s: %w", s.ID, err))
	}
	return nil
}

func (se *session) changeSchedule(ctx context.Context, s wantedSchedule) error {
	if err := se.storeExperiment(ctx, s); err != nil {
		return err
	}
	err := se.node.Client.ScheduleClient().GetHandle(ctx, s.ID).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(was client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			next := was.Description.Schedule
			sp := spec(s.input)
			next.Spec, next.Action = &sp, se.action(s.input)
			next.Policy = &client.SchedulePolicies{Overlap: overlapPolicy(s.Overlap), CatchupWindow: s.CatchupWindow, PauseOnFailure: s.PauseOnFailure}
			next.State.Paused, next.State.Note = s.Paused, s.Note
			return &client.ScheduleUpdate{Schedule: &next}, nil
		},
	})
	if err != nil {
		return unreachable(fmt.Errorf("change schedule %s: %w", s.ID, err))
	}
	return nil
}

// scheduleState is a schedule as Temporal has it, and what it starts its nights
// with.
type scheduleState struct {
	*client.ScheduleDescription
	input workflows.NightInput
}

// describeSchedule reads a schedule; nil where there is none.
func (se *session) describeSchedule(ctx context.Context, id string) (*scheduleState, error) {
	d, err := se.node.Client.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unreachable(fmt.Errorf("schedule %s: %w", id, err))
	}
	state := &scheduleState{ScheduleDescription: d}
	action, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok || action.Workflow != workflows.NightlyName || len(action.Args) != 1 {
		return nil, failed(fmt.Errorf("schedule %s is none of esclab's: it does not start %s", id, workflows.NightlyName))
	}
	payload, ok := action.Args[0].(*commonpb.Payload)
	if !ok {
		return nil, failed(fmt.Errorf("schedule %s: what it starts its nights with cannot be read", id))
	}
	if err := converter.GetDefaultDataConverter().FromPayload(payload, &state.input); err != nil {
		return nil, failed(fmt.Errorf("schedule %s: what it starts its nights with: %w", id, err))
	}
	return state, nil
}

// schedule is describeSchedule for one that has to be there.
func (se *session) schedule(ctx context.Context, id string) (*scheduleState, error) {
	d, err := se.describeSchedule(ctx, id)
	if err == nil && d == nil {
		return nil, fmt.Errorf("there is no schedule %q: esclab schedule list shows them", id)
	}
	return d, err
}

// schedules reads all schedules of esclab, by name.
func (se *session) schedules(ctx context.Context) ([]*scheduleState, error) {
	list, err := se.node.Client.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 100})
	if err != nil {
		return nil, unreachable(fmt.Errorf("list schedules: %w", err))
	}
	var all []*scheduleState
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, unreachable(fmt.Errorf("list schedules: %w", err))
		}
		if entry.WorkflowType.Name != workflows.NightlyName {
			continue
		}
		d, err := se.describeSchedule(ctx, entry.ID)
		if err != nil {
			return nil, err
		}
		if d != nil { // the list may be older than a deletion
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *scheduleState) int { return cmp.Compare(a.input.Schedule, b.input.Schedule) })
	return all, nil
}
