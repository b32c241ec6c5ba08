package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// comparedRun is a run, and what it takes to read its systems.
type comparedRun struct {
	compare.Run
	experiment string
	seed       uint64
	of         lab.Execution
	evaluated  map[string]*results.System
}

// selected finds the runs to compare.
func (se *session) selected(ctx context.Context, args []string, f compareOptions) ([]*comparedRun, error) {
	if f.sweep != "" {
		return se.cells(ctx, f.sweep)
	}
	var runs []*comparedRun
	for _, arg := range args {
		r, err := se.runNamed(ctx, arg)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	nameRuns(runs)
	return runs, nil
}

// runNamed finds a run as layoutOf does.
func (se *session) runNamed(ctx context.Context, arg string) (*comparedRun, error) {
	l, err := se.layoutOf(ctx, arg, nil)
	if err != nil {
		return nil, err
	}
	r := newCompared(l.Name, l.Run.ID, l.Stages)
	r.of = l.Run
	r.Name = cmp.Or(l.Cell, r.Name)
	if l.Planned == "" && l.Run.Status != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		r.State = workflows.StatusWord(l.Run.Status)
	}
	return r, nil
}

// cells are those of a sweep, as its plan has them: also such as needed no run,
// because all that they are was in the store.
func (se *session) cells(ctx context.Context, sweep string) ([]*comparedRun, error) {
	found, err := se.lab.FindSweep(ctx, sweep, false)
	if err != nil {
		return nil, err
	}
	state, err := se.lab.StoredSweep(ctx, found)
	if err != nil {
		return nil, err
	}
	plan, err := lab.ReadSweepPlan(ctx, se.node.Store, state.Plan)
	if err != nil {
		return nil, failed(err)
	}
	runs := make([]*comparedRun, len(plan.Cells))
	for i, cell := range plan.Cells {
		exp, stages, err := plan.Stages(i)
		if err != nil {
			return nil, failed(err)
		}
		runs[i] = newCompared(exp.Name, workflows.RunWorkflowID(exp.Name, cell.Fingerprint), stages)
		runs[i].Name = cell.Name
		if i >= len(state.Marks) {
			continue
		}
		switch mark := state.Marks.At(i); mark {
		case workflows.CellDone, workflows.CellReused, workflows.CellUnknown:
		default:
			runs[i].State = mark.String()
		}
	}
	nameRuns(runs)
	return runs, nil
}

func newCompared(experiment, id string, stages []experiments.Stage) *comparedRun {
	r := &comparedRun{Run: compare.Run{Name: experiment, ID: id, Stages: stages}, experiment: experiment, evaluated: map[string]*results.System{}}
	for _, s := range stages {
		if s.Kind == experiments.KindReport {
			if p, err := experiments.ParamsOf[experiments.ReportParams](s); err == nil { // drawn with by the report, too
				r.seed = p.Seed
			}
		}
	}
	return r
}

// nameRuns tells runs of one experiment apart by their fingerprints.
func nameRuns(runs []*comparedRun) {
	count := map[string]int{}
	for _, r := range runs {
		count[r.Name]++
	}
	for _, r := range runs {
		if count[r.Name] > 1 && r.ID != "" {
			r.Name = strings.TrimPrefix(r.ID, "run/")
		}
	}
}

// evaluate reads what the run's systems score: those that are named, or each
// paradigm's headline system. What is not computed is left out. With turns it
// reads every turn, for paired differences.
func (se *session) evaluate(ctx context.Context, r *comparedRun, wanted []string, turns bool) error {
	intervals := se.reportIntervals(ctx, r)
	for _, system := range systemsOf(r.Stages, wanted) {
		seeds := stagesOf(r.Stages, system)
		var e results.System
		err := error(artifacts.ErrNotFound)
		if turns || intervals[system] == nil {
			e, err = results.ReadSystem(ctx, se.node.Store, seeds)
		}
		values := map[string]compare.Value{}
		switch {
		case err == nil:
			r.evaluated[system] = &e
		case errors.Is(err, artifacts.ErrNotFound), errors.Is(err, artifacts.ErrDamaged):
			// Of a run that is under way or has failed: what there is.
			if e.Metrics, err = se.partial(ctx, seeds); err != nil {
				return err
			}
		default:
			return fmt.Errorf("system %s: %w", system, err)
		}
		of := intervals[system]
		if of == nil && r.evaluated[system] != nil {
			found, err := results.Intervals(ctx, e.Turns, r.seed)
			if err != nil {
				return fmt.Errorf("system %s: %w", system, err)
			}
			of = found
		}
		for _, c := range experiments.Table3() {
			if v, ok := e.Metrics[c.Name]; ok {
				values[c.Name] = compare.Value{Value: v}
			}
		}
		for _, i := range of {
			if v, ok := values[i.Column]; ok && i.Low == i.Low && i.High == i.High { // no NaN
				v.Low, v.High = &i.Low, &i.High
				values[i.Column] = v
			}
		}
		if len(values) > 0 {
			r.Systems = append(r.Systems, compare.System{Name: system, Values: values})
		}
	}
	return nil
}

// reportIntervals are those that the run's report has, by system; nil where it
// is not written.
func (se *session) reportIntervals(ctx context.Context, r *comparedRun) map[string][]results.Interval {
	for _, s := range r.Stages {
		if s.Kind != experiments.KindReport || s.Fingerprint == "" {
			continue
		}
		data, err := se.reportData(ctx, s.Fingerprint)
		if err != nil {
			return nil // they are computed from the turns then
		}
		intervals := map[string][]results.Interval{}
		for _, row := range data.Systems {
			for _, i := range row.Intervals {
				intervals[row.System()] = append(intervals[row.System()], results.Interval(i))
			}
		}
		return intervals
	}
	return nil
}

// partial gives the metrics of those evaluations that are done.
func (se *session) partial(ctx context.Context, seeds []results.EvaluationStages) (map[string]float64, error) {
	sums, counts := map[string]float64{}, map[string]float64{}
	for _, of := range seeds {
		for _, fingerprint := range []string{of.Score, of.Judge, of.Bias} {
			if fingerprint == "" {
				continue
			}
			m, err := se.node.Store.Lookup(ctx, fingerprint)
			if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for name, v := range m.Metrics {
				sums[name] += v
				counts[name]++
			}
		}
	}
	for name := range sums {
		sums[name] /= counts[name]
	}
	return sums, nil
}

// systemsOf lists the systems of a plan that are wanted, in its order.
func systemsOf(stages []experiments.Stage, wanted []string) []string {
	var names []string
	headlines := map[experiments.Paradigm]string{}
	for _, p := range experiments.Paradigms() {
		own := slices.DeleteFunc(slices.Clone(stages), func(s experiments.Stage) bool {
			sys, ok := experiments.SystemOf(s)
			return !ok || sys.Paradigm != p
		})
		if sys, ok := experiments.Headline(own); ok {
			headlines[p] = sys.Name()
		}
	}
	for _, s := range stages {
		sys, ok := experiments.SystemOf(s)
		if !ok || s.Kind != experiments.KindGenerate || slices.Contains(names, sys.Name()) {
			continue
		}
		if n := sys.Name(); slices.Contains(wanted, n) || slices.Contains(wanted, "all") || len(wanted) == 0 && headlines[sys.Paradigm] == n {
			names = append(names, n)
		}
	}
	return names
}

// stagesOf gives the stages that evaluate a system, of each of its seeds.
func stagesOf(stages []experiments.Stage, system string) []results.EvaluationStages {
	var order []string
	bySeed := map[string]*results.EvaluationStages{}
	corpus := ""
	for _, s := range stages {
		if s.Kind == experiments.KindCorpus {
			corpus = s.Fingerprint
		}
		sys, ok := experiments.SystemOf(s)
		if !ok || sys.Name() != system {
			continue
		}
		_, seed, _ := strings.Cut(s.Name, "@")
		of := bySeed[seed]
		switch s.Kind {
		case experiments.KindGenerate, experiments.KindScore, experiments.KindJudge, experiments.KindBias:
			if of == nil {
				of = &results.EvaluationStages{}
				bySeed[seed] = of
				order = append(order, seed)
			}
		}
		switch s.Kind {
		case experiments.KindGenerate:
			of.Generate = s.Fingerprint
		case experiments.KindScore:
			of.Score = s.Fingerprint
		case experiments.KindJudge:
			of.Judge = s.Fingerprint
		case experiments.KindBias:
			of.Bias = s.Fingerprint
		}
	}
	var out []results.EvaluationStages
	for _, seed := range order {
		bySeed[seed].Corpus = corpus
		out = append(out, *bySeed[seed])
	}
	return out
}
