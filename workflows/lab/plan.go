package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// NotInStore is why most stages run.
const NotInStore = "not in the store"

// Decide says of each stage, by its name, what a run would do with it today.
func (c *Client) Decide(ctx context.Context, stages []experiments.Stage) (map[string]experiments.Decision, error) {
	decisions := make(map[string]experiments.Decision, len(stages))
	layout := Layout{Stages: stages}
	for _, s := range stages {
		d := experiments.Decision{Action: experiments.ActionRun, Reason: NotInStore}
		if s.Fingerprint == "" {
			d.Reason = "a source file is missing"
		} else if err := c.present(ctx, layout, s); err == nil {
			d = experiments.Decision{Action: experiments.ActionReuse, Reason: "in the store, whole"}
		} else if errors.Is(err, artifacts.ErrDamaged) {
			d.Reason = err.Error()
		} else if !errors.Is(err, artifacts.ErrNotFound) {
			return nil, unreachable("%w", err)
		} else if c, _, err := c.Store.LatestCheckpoint(ctx, s.Fingerprint); err == nil {
			d.Reason = fmt.Sprintf("unfinished: continues at step %d", c.Step)
		}
		decisions[s.Name] = d
	}
	return decisions, nil
}

// present looks a stage's artifact up. Errors are those of Store.Lookup; one that
// is not the stage's counts as damaged.
func (c *Client) present(ctx context.Context, l Layout, s experiments.Stage) error {
	m, err := c.Store.Lookup(ctx, s.Fingerprint)
	if err != nil {
		return err
	}
	content, err := s.Content()
	if err != nil {
		return err
	}
	return CheckOrigin(ctx, c.Store, m, content, l.Inputs(s))
}

// SweepForecast is what a sweep would do today: its stages, which of them cells
// have in common and which are in the store, and about how long the rest takes.
type SweepForecast struct {
	Sweep    string                    `json:"sweep"`
	ID       string                    `json:"id"`
	Base     string                    `json:"base"`
	Parallel int                       `json:"parallel"`
	Varied   []string                  `json:"varied"`
	Cells    []CellForecast            `json:"cells"`
	Kinds    []KindForecast            `json:"kinds"`
	Stages   StageCounts               `json:"stages"`
	Estimate experiments.SweepEstimate `json:"estimate"`
	Wall     float64                   `json:"wall_seconds"`
}

// CellForecast counts the stages of a cell.
type CellForecast struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
	Stages int      `json:"stages"`
	Own    int      `json:"own"` // that no other cell has
	Cached int      `json:"cached"`
	// New counts the stages to run that no cell before it has.
	New int `json:"new"`
}

// KindForecast counts the stages of a kind.
type KindForecast struct {
	Kind     experiments.Kind `json:"kind"`
	InCells  int              `json:"in_cells"`
	Distinct int              `json:"distinct"`
	Cached   int              `json:"cached"`
	ToRun    int              `json:"to_run"`
	Seconds  float64          `json:"seconds"` // of those that can be estimated
	Unknown  int              `json:"unknown"`
	Past     int              `json:"past"` // the most finished stages that a guess rests on
	Differ   int              `json:"differ"`
}

// StageCounts counts stages: those of all cells, the different ones among
// them, and of these the finished ones.
type StageCounts struct {
	InCells  int `json:"in_cells"`
	Distinct int `json:"distinct"`
	Cached   int `json:"cached"`
	Blocked  int `json:"blocked"` // source files are missing
}

// Forecast compares a sweep with the store.
func (c *Client) Forecast(ctx context.Context, p experiments.PreparedSweep) (SweepForecast, error) {
	uses := map[string]int{}
	var distinct []experiments.Stage
	for cell := range p.Plan.Cells {
		_, stages, err := p.Plan.Stages(cell)
		if err != nil {
			return SweepForecast{}, err
		}
		for _, s := range stages {
			if uses[s.Fingerprint]++; uses[s.Fingerprint] == 1 {
				distinct = append(distinct, s)
			}
		}
	}
	cached, err := c.cached(ctx, distinct)
	if err != nil {
		return SweepForecast{}, unreachable("%w", err)
	}
	past, err := c.PastStages(ctx)
	if err != nil {
		return SweepForecast{}, unreachable("%w", err)
	}
	return forecast(p, uses, cached, experiments.NewEstimator(past))
}

// forecaster adds up a forecast, cell by cell.
type forecaster struct {
	SweepForecast
	uses      map[string]int // cells that have a stage, by fingerprint
	cached    map[string]bool
	seen      map[string]bool
	kinds     map[experiments.Kind]*KindForecast
	estimator *experiments.Estimator
}

func forecast(p experiments.PreparedSweep, uses map[string]int, cached map[string]bool, estimator *experiments.Estimator) (SweepForecast, error) {
	f := &forecaster{uses: uses, cached: cached, seen: map[string]bool{}, kinds: map[experiments.Kind]*KindForecast{}, estimator: estimator}
	f.SweepForecast = SweepForecast{
		Sweep: p.Sweep.Name, ID: workflows.SweepWorkflowID(p.Plan), Base: p.Sweep.BaseName, Parallel: p.Sweep.Parallel, Varied: p.Plan.Varied,
	}
	for cell, planned := range p.Plan.Cells {
		_, stages, err := p.Plan.Stages(cell)
		if err != nil {
			return SweepForecast{}, err
		}
		line := CellForecast{Name: planned.Name, Values: p.Plan.Values(cell), Stages: len(stages)}
		for _, s := range stages {
			f.add(&line, s)
		}
		f.Estimate.Longest = max(f.Estimate.Longest, experiments.Chain(stages, f.seconds))
		f.Cells = append(f.Cells, line)
	}
	for _, kind := range experiments.Kinds() {
		if k := f.kinds[kind]; k != nil {
			f.Kinds = append(f.Kinds, *k)
		}
	}
	f.Wall = f.Estimate.Wall(p.Sweep.Parallel)
	return f.SweepForecast, nil
}

func (f *forecaster) seconds(s experiments.Stage) float64 {
	if f.cached[s.Fingerprint] {
		return 0
	}
	return f.estimator.Estimate(s).Seconds
}

// add counts a stage of a cell.
func (f *forecaster) add(cell *CellForecast, s experiments.Stage) {
	k := f.kinds[s.Kind]
	if k == nil {
		k = &KindForecast{Kind: s.Kind}
		f.kinds[s.Kind] = k
	}
	k.InCells++
	f.Stages.InCells++
	if s.Fingerprint == "" {
		f.Stages.Blocked++
		return
	}
	if f.uses[s.Fingerprint] == 1 {
		cell.Own++
	}
	if f.cached[s.Fingerprint] {
		cell.Cached++
	}
	if f.seen[s.Fingerprint] {
		return
	}
	f.seen[s.Fingerprint] = true
	k.Distinct++
	f.Stages.Distinct++
	if f.cached[s.Fingerprint] {
		k.Cached++
		f.Stages.Cached++
		return
	}
	cell.New++
	k.ToRun++
	guess := f.estimator.Estimate(s)
	if guess.Past == 0 {
		k.Unknown++
		f.Estimate.Unknown++
		return
	}
	k.Seconds += guess.Seconds
	k.Past, k.Differ = max(k.Past, guess.Past), max(k.Differ, guess.Differ)
	f.Estimate.Work += guess.Seconds
}

// requestLimit bounds the requests under way.
const requestLimit = 16

// cached says which stages have their artifact in the store.
func (c *Client) cached(ctx context.Context, stages []experiments.Stage) (map[string]bool, error) {
	var mu sync.Mutex
	found := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(requestLimit)
	for _, s := range stages {
		if s.Fingerprint == "" {
			continue
		}
		g.Go(func() error {
			_, err := c.Store.Lookup(ctx, s.Fingerprint)
			if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[s.Fingerprint] = true
			return nil
		})
	}
	return found, g.Wait()
}

// pastLimit bounds the finished stages that an estimate reads.
const pastLimit = 2000

// PastStages reads how long the finished stages in the store took.
func (c *Client) PastStages(ctx context.Context) ([]experiments.PastStage, error) {
	fingerprints, err := c.Store.ListStages(ctx)
	if err != nil {
		return nil, err
	}
	// Fingerprints are as good as random: the first of them are a fair sample.
	fingerprints = fingerprints[:min(len(fingerprints), pastLimit)]
	past := make([]experiments.PastStage, len(fingerprints))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(requestLimit)
	for i, fingerprint := range fingerprints {
		g.Go(func() error {
			m, err := c.Store.Manifest(ctx, fingerprint)
			if err != nil {
				return ignoreAbsent(err)
			}
			raw, err := c.Store.Provenance(ctx, fingerprint)
			if err != nil {
				return ignoreAbsent(err)
			}
			var made struct {
				Seconds float64 `json:"seconds"`
				Bytes   int64   `json:"peak_bytes"`
			}
			if json.Unmarshal(raw, &made) == nil { // another version's: it tells nothing
				past[i] = experiments.PastStage{Kind: experiments.Kind(m.Kind), Params: m.Params, Seconds: made.Seconds, Bytes: made.Bytes}
			}
			return nil
		})
	}
	err = g.Wait()
	return slices.DeleteFunc(past, func(p experiments.PastStage) bool { return p.Kind == "" }), err
}

// ignoreAbsent drops the error of what is unfinished or damaged.
func ignoreAbsent(err error) error {
	for _, absent := range []error{artifacts.ErrNotFound, artifacts.ErrDamaged, artifacts.ErrCorrupt} {
		if errors.Is(err, absent) {
			return nil
		}
	}
	return err
}
