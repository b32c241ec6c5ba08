package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/workflows"
)

// nightPriority lets a night wait behind what people wait for: Temporal's keys
// are 1 to 5, 3 where nothing is said.
const nightPriority = 5

// Schedule is a schedule of nights to be made or changed.
type Schedule struct {
	// Input is what each night is started with; its Timing says when.
	Input  workflows.NightInput
	Paused bool
	Note   string
	// Experiment is the YAML that the store is to have; nil for a preset.
	Experiment []byte
}

// ScheduleState is a schedule as Temporal has it, and what it starts its nights
// with.
type ScheduleState struct {
	*client.ScheduleDescription
	Input workflows.NightInput
}

// storeExperiment puts the experiment where the nights look for it.
func (c *Client) storeExperiment(ctx context.Context, s Schedule) error {
	if s.Experiment == nil {
		return nil
	}
	if _, err := c.Store.PutScheduleFile(ctx, s.Input.Schedule, s.Input.Experiment.File, s.Experiment); err != nil {
		return unreachable("store the experiment of schedule %s: %w", s.Input.Schedule, err)
	}
	return nil
}

// action is what a schedule does each night.
func action(in workflows.NightInput) *client.ScheduleWorkflowAction {
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

func policies(in workflows.NightInput) client.SchedulePolicies {
	overlap := map[string]enums.ScheduleOverlapPolicy{
		"skip": enums.SCHEDULE_OVERLAP_POLICY_SKIP, "buffer_one": enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
		"buffer_all": enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL, "cancel_other": enums.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER,
		"terminate_other": enums.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER, "allow_all": enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
	}[in.Timing.Overlap]
	return client.SchedulePolicies{Overlap: overlap, CatchupWindow: in.Timing.CatchupWindow, PauseOnFailure: in.Timing.PauseOnFailure}
}

// CreateSchedule makes a schedule.
func (c *Client) CreateSchedule(ctx context.Context, s Schedule) error {
	if err := c.storeExperiment(ctx, s); err != nil {
		return err
	}
	id, p := s.Input.Schedule, policies(s.Input)
	_, err := c.Temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: id, Spec: spec(s.Input), Action: action(s.Input), Overlap: p.Overlap, CatchupWindow: p.CatchupWindow,
		PauseOnFailure: p.PauseOnFailure, Paused: s.Paused, Note: s.Note,
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("there is a schedule %s, and it is none of esclab's: choose another name", id)
	}
	if err != nil {
		return unreachable("make schedule %s: %w", id, err)
	}
	return nil
}

// ChangeSchedule makes a schedule that is there into another.
func (c *Client) ChangeSchedule(ctx context.Context, s Schedule) error {
	if err := c.storeExperiment(ctx, s); err != nil {
		return err
	}
	err := c.schedule(ctx, s.Input.Schedule).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(was client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			next := was.Description.Schedule
			sp, p := spec(s.Input), policies(s.Input)
			next.Spec, next.Action, next.Policy = &sp, action(s.Input), &p
			next.State.Paused, next.State.Note = s.Paused, s.Note
			return &client.ScheduleUpdate{Schedule: &next}, nil
		},
	})
	if err != nil {
		return unreachable("change schedule %s: %w", s.Input.Schedule, err)
	}
	return nil
}

func (c *Client) schedule(ctx context.Context, id string) client.ScheduleHandle {
	return c.Temporal.ScheduleClient().GetHandle(ctx, id)
}

// LookForSchedule reads a schedule; nil where there is none.
func (c *Client) LookForSchedule(ctx context.Context, id string) (*ScheduleState, error) {
	d, err := c.schedule(ctx, id).Describe(ctx)
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, unreachable("schedule %s: %w", id, err)
	}
	state := &ScheduleState{ScheduleDescription: d}
	action, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok || action.Workflow != workflows.NightlyName || len(action.Args) != 1 {
		return nil, failed(fmt.Errorf("schedule %s is none of esclab's: it does not start %s", id, workflows.NightlyName))
	}
	payload, ok := action.Args[0].(*commonpb.Payload)
	if !ok {
		return nil, failed(fmt.Errorf("schedule %s: what it starts its nights with cannot be read", id))
	}
	if err := converter.GetDefaultDataConverter().FromPayload(payload, &state.Input); err != nil {
		return nil, failed(fmt.Errorf("schedule %s: what it starts its nights with: %w", id, err))
	}
	return state, nil
}

// FindSchedule is LookForSchedule for one that has to be there.
func (c *Client) FindSchedule(ctx context.Context, id string) (*ScheduleState, error) {
	d, err := c.LookForSchedule(ctx, id)
	if err == nil && d == nil {
		return nil, fmt.Errorf("there is no schedule %q: esclab schedule list shows them", id)
	}
	return d, err
}

// Schedules reads all schedules of esclab, by name.
func (c *Client) Schedules(ctx context.Context) ([]*ScheduleState, error) {
	list, err := c.Temporal.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 100})
	if err != nil {
		return nil, unreachable("list schedules: %w", err)
	}
	var all []*ScheduleState
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, unreachable("list schedules: %w", err)
		}
		if entry.WorkflowType.Name != workflows.NightlyName {
			continue
		}
		d, err := c.LookForSchedule(ctx, entry.ID)
		if err != nil {
			return nil, err
		}
		if d != nil { // the list may be older than a deletion
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *ScheduleState) int { return cmp.Compare(a.Input.Schedule, b.Input.Schedule) })
	return all, nil
}

// Difference says in what a schedule is not what is wanted; "" where it is.
func (d *ScheduleState) Difference(s Schedule) string {
	var parts []string
	was, now := reflect.ValueOf(d.Input), reflect.ValueOf(s.Input)
	for i := range was.NumField() {
		// As JSON has it: an empty list is an absent one.
		if fmt.Sprintf("%v", was.Field(i)) != fmt.Sprintf("%v", now.Field(i)) {
			name, _, _ := strings.Cut(was.Type().Field(i).Tag.Get("json"), ",")
			parts = append(parts, name)
		}
	}
	if d.Schedule.State.Paused != s.Paused {
		parts = append(parts, "paused")
	}
	if d.Schedule.State.Note != s.Note {
		parts = append(parts, "note")
	}
	if *d.Schedule.Policy != policies(s.Input) {
		parts = append(parts, "policies")
	}
	return strings.Join(parts, ", ")
}

// TriggerSchedule begins a night now, paused or not, if the schedule's overlap
// policy lets it begin.
func (c *Client) TriggerSchedule(ctx context.Context, id string) error {
	d, err := c.FindSchedule(ctx, id)
	if err != nil {
		return err
	}
	if running := d.Info.RunningWorkflows; len(running) > 0 && d.Schedule.Policy.Overlap == enums.SCHEDULE_OVERLAP_POLICY_SKIP {
		return failed(fmt.Errorf("night %s of schedule %s still runs, and its overlap policy is skip", running[0].WorkflowID, id))
	}
	if err := c.schedule(ctx, id).Trigger(ctx, client.ScheduleTriggerOptions{}); err != nil {
		return unreachable("trigger schedule %s: %w", id, err)
	}
	return nil
}

// PauseSchedule keeps a schedule from beginning nights, or lets it begin them
// again, and says how it stands afterwards.
func (c *Client) PauseSchedule(ctx context.Context, id string, pause bool, note string) (*ScheduleState, error) {
	if _, err := c.FindSchedule(ctx, id); err != nil {
		return nil, err
	}
	what, err := "pause", error(nil)
	if pause {
		err = c.schedule(ctx, id).Pause(ctx, client.SchedulePauseOptions{Note: note})
	} else {
		what, err = "resume", c.schedule(ctx, id).Unpause(ctx, client.ScheduleUnpauseOptions{Note: note})
	}
	if err != nil {
		return nil, unreachable("%s schedule %s: %w", what, id, err)
	}
	return c.FindSchedule(ctx, id)
}

// DeleteSchedule deletes a schedule; a night that runs goes on.
func (c *Client) DeleteSchedule(ctx context.Context, id string) error {
	if err := c.schedule(ctx, id).Delete(ctx); err != nil {
		return unreachable("delete schedule %s: %w", id, err)
	}
	return nil
}
