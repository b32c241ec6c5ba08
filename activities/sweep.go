package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
	"github.com/esclab/esclab/workflows/sweeptable"
)

// sweepPlans keeps the plans that this process has read last.
type sweepPlans struct {
	mu    sync.Mutex
	plans []readPlan
}

type readPlan struct {
	sha256 string
	plan   experiments.SweepPlan
}

// sweepPlan reads a sweep's plan from the store.
func (a *Activities) sweepPlan(ctx context.Context, ref workflows.PlanRef) (experiments.SweepPlan, error) {
	a.plans.mu.Lock()
	defer a.plans.mu.Unlock()
	for _, known := range a.plans.plans {
		if known.sha256 == ref.SHA256 {
			return known.plan, nil
		}
	}
	plan, err := lab.ReadSweepPlan(ctx, a.Store, ref)
	var unusable *lab.PlanError
	if errors.As(err, &unusable) {
		return plan, badInput(err)
	}
	if err != nil {
		return plan, err
	}
	const kept = 2 // the plans of two sweeps at the same time
	a.plans.plans = append([]readPlan{{ref.SHA256, plan}}, a.plans.plans[:min(len(a.plans.plans), kept-1)]...)
	return plan, nil
}

// SurveyCells says which cells have every artifact in the store, with the
// manifests' digests and the files' sizes right. The files' content is compared
// where a stage reads it.
func (a *Activities) SurveyCells(ctx context.Context, in workflows.CellsInput) (workflows.SurveyResult, error) {
	defer startPulse(ctx).end()
	plan, err := a.sweepPlan(ctx, in.Plan)
	if err != nil {
		return workflows.SurveyResult{}, classify(err)
	}
	marks, err := Survey(ctx, a.Store, plan, in.First, in.Count)
	return workflows.SurveyResult{Marks: marks}, classify(err)
}

// Survey is SurveyCells for whoever has the plan.
func Survey(ctx context.Context, store *artifacts.Store, plan experiments.SweepPlan, first, count int) (workflows.CellMarks, error) {
	marks := make([]byte, count)
	whole := newPresence(store)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * lookups)
	for i := range count {
		g.Go(func() error {
			_, stages, err := plan.Stages(first + i)
			if err != nil {
				return badInput(err)
			}
			marks[i] = byte(workflows.CellDone)
			// From the report back: what has not been run lacks it.
			for _, s := range slices.Backward(stages) {
				there, err := whole.has(ctx, s.Fingerprint)
				if err != nil {
					return err
				}
				if !there {
					marks[i] = byte(workflows.CellWaiting)
					break
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return workflows.CellMarks(marks), err
}

// presence looks stages up, each once however many cells share it.
type presence struct {
	store *artifacts.Store
	mu    sync.Mutex
	known map[string]*looked
}

type looked struct {
	once sync.Once
	is   bool
	err  error
}

func newPresence(store *artifacts.Store) *presence {
	return &presence{store: store, known: map[string]*looked{}}
}

func (p *presence) has(ctx context.Context, fingerprint string) (bool, error) {
	if fingerprint == "" {
		return false, nil // a source is missing
	}
	p.mu.Lock()
	l := p.known[fingerprint]
	if l == nil {
		l = &looked{}
		p.known[fingerprint] = l
	}
	p.mu.Unlock()
	l.once.Do(func() {
		_, err := p.store.Lookup(ctx, fingerprint)
		l.is = err == nil
		if err != nil && !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrDamaged) {
			l.err = err
		}
	})
	return l.is, l.err
}

// payloadLimit is what Temporal takes as one input; see its limit.blobSize.
const payloadLimit = 2 << 20

// PlanCell lays out the run of one cell.
func (a *Activities) PlanCell(ctx context.Context, in workflows.CellInput) (workflows.CellPlan, error) {
	plan, err := a.sweepPlan(ctx, in.Plan)
	if err != nil {
		return workflows.CellPlan{}, classify(err)
	}
	exp, stages, err := plan.Stages(in.Cell)
	if err != nil {
		return workflows.CellPlan{}, classify(badInput(err))
	}
	facts := in.Facts
	facts.Sweep, facts.Cell = plan.Name, plan.Cells[in.Cell].Name
	run := workflows.NewRunInput(experiments.Prepared{Experiment: exp, Stages: stages}, in.Queues, in.HeartbeatSeconds, facts, in.Origin)
	cell := workflows.CellPlan{Name: facts.Cell, WorkflowID: run.WorkflowID(), Run: run}
	// Temporal refuses what is larger with a message about blobs, and the
	// workflow that sends it is stuck.
	if raw, err := json.Marshal(cell); err != nil || len(raw) > payloadLimit*9/10 {
		err = errors.Join(err, fmt.Errorf("cell %s: the plan of its run has %d bytes, Temporal takes %d: a run with fewer paradigms, methods or pair sets is smaller", cell.Name, len(raw), payloadLimit))
		return workflows.CellPlan{}, classify(badInput(err))
	}
	return cell, nil
}

// AwaitCell follows a cell's run to its end and fails as it does.
func (a *Activities) AwaitCell(ctx context.Context, in workflows.RunningCell) error {
	run := a.Client.GetWorkflow(ctx, in.WorkflowID, in.RunID)
	ended := make(chan error, 1)
	go func() { ended <- run.Get(ctx, nil) }()
	poll := beats(ctx)
	defer poll.Stop()
	for {
		select {
		case err := <-ended:
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case temporal.IsCanceledError(err):
				return temporal.NewNonRetryableApplicationError("its run was cancelled", workflows.ErrTypeCancelled, nil)
			}
			return unwrapWorkflow(err)
		case <-activity.GetWorkerStopChannel(ctx):
			return errWorkerStopping
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// KeepRun writes what a run, or a sweep, leaves of itself into the store.
func (a *Activities) KeepRun(ctx context.Context, kept workflows.KeptRun) error {
	return classify(lab.KeepRun(ctx, a.Store, kept))
}

// FindHopeless compares the cells by the watched stage's curves: of what is
// done by its artifact's record, of what runs by its newest checkpoint's.
func (a *Activities) FindHopeless(ctx context.Context, in workflows.HopelessInput) ([]experiments.HopelessCell, error) {
	defer startPulse(ctx).end()
	plan, err := a.sweepPlan(ctx, in.Plan)
	if err != nil {
		return nil, classify(err)
	}
	rule := plan.EarlyStopping
	var mu sync.Mutex
	curves := map[int][]experiments.CurvePoint{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for cell := range len(in.Marks) {
		switch in.Marks.At(cell) {
		case workflows.CellUnknown, workflows.CellWaiting:
			continue
		}
		g.Go(func() error {
			_, stages, err := plan.Stages(cell)
			if err != nil {
				return badInput(err)
			}
			at := slices.IndexFunc(stages, func(s experiments.Stage) bool { return s.Name == rule.Stage })
			if at < 0 {
				return nil // this cell has no such stage
			}
			steps, err := a.recordedSteps(gctx, stages[at].Fingerprint)
			if err != nil || len(steps) == 0 {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			curves[cell] = curveOf(steps, rule.Metric)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, classify(err)
	}
	return rule.Hopeless(curves, in.Running), nil
}

// recordedSteps reads what a training stage has recorded so far; nothing where
// it has not begun.
func (a *Activities) recordedSteps(ctx context.Context, fingerprint string) ([]results.Step, error) {
	var ref artifacts.Ref
	m, err := a.Store.Lookup(ctx, fingerprint)
	if err == nil {
		ref = m.Files[results.FileMetrics]
	} else if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
		c, _, err := a.Store.LatestCheckpoint(ctx, fingerprint)
		if errors.Is(err, artifacts.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		ref = c.Files[recordFile]
	} else {
		return nil, err
	}
	const limit = 64 << 20
	data, err := a.Store.ReadAll(ctx, ref, limit)
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, nil // a checkpoint that a newer one has replaced meanwhile
	}
	if err != nil {
		return nil, err
	}
	return results.DecodeRows[results.Step](data)
}

// curveOf reads a metric off a training's record.
func curveOf(steps []results.Step, metric experiments.StopMetric) []experiments.CurvePoint {
	var curve []experiments.CurvePoint
	if metric == experiments.MetricValidationLoss {
		for _, s := range steps {
			if s.Validation != nil {
				curve = append(curve, experiments.CurvePoint{Epoch: s.Epoch, Value: s.Validation.Loss})
			}
		}
		return curve
	}
	// Batches of a few pairs say little: the mean over a quarter of an epoch,
	// once it is over.
	const window = 0.25
	sum, n, end := 0.0, 0, window
	for _, s := range steps {
		if s.Rewards == nil {
			continue
		}
		sum, n = sum+s.Rewards.Accuracy, n+1
		if s.Epoch >= end-1e-9 {
			curve = append(curve, experiments.CurvePoint{Epoch: end, Value: sum / float64(n)})
			sum, n = 0, 0
			for end <= s.Epoch+1e-9 {
				end += window
			}
		}
	}
	return curve
}

// TabulateSweep writes the sweep's table into the store.
func (a *Activities) TabulateSweep(ctx context.Context, in workflows.TableInput) (workflows.SweepTable, error) {
	defer startPulse(ctx).end()
	plan, err := a.sweepPlan(ctx, in.Plan)
	if err != nil {
		return workflows.SweepTable{}, classify(err)
	}
	table, err := sweeptable.Write(ctx, a.Store, plan, in)
	if errors.Is(err, sweeptable.ErrPlan) {
		err = badInput(err)
	}
	return table, classify(err)
}
