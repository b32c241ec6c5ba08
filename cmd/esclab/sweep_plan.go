package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
)

// sweepPlanJSON is what `esclab sweep FILE --plan --json` prints.
type sweepPlanJSON struct {
	Sweep    string                    `json:"sweep"`
	ID       string                    `json:"id"`
	Base     string                    `json:"base"`
	Parallel int                       `json:"parallel"`
	Varied   []string                  `json:"varied"`
	Cells    []cellPlanJSON            `json:"cells"`
	Kinds    []kindPlanJSON            `json:"kinds"`
	Stages   stageCounts               `json:"stages"`
	Estimate experiments.SweepEstimate `json:"estimate"`
	Wall     float64                   `json:"wall_seconds"`
}

type cellPlanJSON struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
	Stages int      `json:"stages"`
	Own    int      `json:"own"` // that no other cell has
	Cached int      `json:"cached"`
	// New counts the stages to run that no cell before it has.
	New int `json:"new"`
}

type kindPlanJSON struct {
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

// stageCounts counts stages: those of all cells, the different ones among
// them, and of these the finished ones.
type stageCounts struct {
	InCells  int `json:"in_cells"`
	Distinct int `json:"distinct"`
	Cached   int `json:"cached"`
	Blocked  int `json:"blocked"` // source files are missing
}

// planOfSweep compares a sweep with the store.
func (se *session) planOfSweep(ctx context.Context, p plannedSweep) (sweepPlanJSON, error) {
	out := sweepPlanJSON{Sweep: p.sweep.Name, ID: p.id(), Base: p.sweep.BaseName, Parallel: p.sweep.Parallel, Varied: p.plan.Varied}
	uses := map[string]int{}
	var distinct []experiments.Stage
	for cell := range p.plan.Cells {
		_, stages, err := p.plan.Stages(cell)
		if err != nil {
			return out, err
		}
		for _, s := range stages {
			if uses[s.Fingerprint]++; uses[s.Fingerprint] == 1 {
				distinct = append(distinct, s)
			}
		}
	}
	cached, err := se.cached(ctx, distinct)
	if err != nil {
		return out, unreachable(err)
	}
	past, err := se.pastStages(ctx)
	if err != nil {
		return out, unreachable(err)
	}
	estimator := experiments.NewEstimator(past)
	seconds := func(s experiments.Stage) float64 {
		if cached[s.Fingerprint] {
			return 0
		}
		return estimator.Estimate(s).Seconds
	}

	kinds := map[experiments.Kind]*kindPlanJSON{}
	for _, kind := range experiments.Kinds() {
		kinds[kind] = &kindPlanJSON{Kind: kind}
	}
	seen := map[string]bool{}
	for cell, c := range p.plan.Cells {
		_, stages, err := p.plan.Stages(cell)
		if err != nil {
			return out, err
		}
		line := cellPlanJSON{Name: c.Name, Values: p.plan.Values(cell), Stages: len(stages)}
		for _, s := range stages {
			k := kinds[s.Kind]
			k.InCells++
			out.Stages.InCells++
			if s.Fingerprint == "" {
				out.Stages.Blocked++
				continue
			}
			if uses[s.Fingerprint] == 1 {
				line.Own++
			}
			if cached[s.Fingerprint] {
				line.Cached++
			}
			if seen[s.Fingerprint] {
				continue
			}
			seen[s.Fingerprint] = true
			k.Distinct++
			out.Stages.Distinct++
			if cached[s.Fingerprint] {
				k.Cached++
				out.Stages.Cached++
				continue
			}
			line.New++
			k.ToRun++
			guess := estimator.Estimate(s)
			if guess.Past == 0 {
				k.Unknown++
				out.Estimate.Unknown++
				continue
			}
			k.Seconds += guess.Seconds
			k.Past, k.Differ = max(k.Past, guess.Past), max(k.Differ, guess.Differ)
			out.Estimate.Work += guess.Seconds
		}
		out.Estimate.Longest = max(out.Estimate.Longest, experiments.Chain(stages, seconds))
		out.Cells = append(out.Cells, line)
	}
	for _, kind := range experiments.Kinds() {
		if kinds[kind].InCells > 0 {
			out.Kinds = append(out.Kinds, *kinds[kind])
		}
	}
	out.Wall = out.Estimate.Wall(p.sweep.Parallel)
	return out, nil
}

// lookedUp bounds the requests under way.
const lookedUp = 16

// cached says which stages have their artifact in the store.
func (se *session) cached(ctx context.Context, stages []experiments.Stage) (map[string]bool, error) {
	var mu sync.Mutex
	found := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookedUp)
	for _, s := range stages {
		if s.Fingerprint == "" {
			continue
		}
		g.Go(func() error {
			_, err := se.node.Store.Lookup(ctx, s.Fingerprint)
			if err != nil {
				if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrDamaged) {
					return nil
				}
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

// pastStages reads how long the finished stages in the store took.
func (se *session) pastStages(ctx context.Context) ([]experiments.PastStage, error) {
	fingerprints, err := se.node.Store.ListStages(ctx)
	if err != nil {
		return nil, err
	}
	// Fingerprints are as good as random: the first of them are a fair sample.
	fingerprints = fingerprints[:min(len(fingerprints), pastLimit)]
	past := make([]experiments.PastStage, len(fingerprints))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookedUp)
	for i, fingerprint := range fingerprints {
		g.Go(func() error {
			m, err := se.node.Store.Manifest(ctx, fingerprint)
			if err != nil {
				return ignoreAbsent(err)
			}
			raw, err := se.node.Store.Provenance(ctx, fingerprint)
			if err != nil {
				return ignoreAbsent(err)
			}
			var made struct {
				Seconds float64 `json:"seconds"`
			}
			if json.Unmarshal(raw, &made) == nil { // another version's: it tells nothing
				past[i] = experiments.PastStage{Kind: experiments.Kind(m.Kind), Params: m.Params, Seconds: made.Seconds}
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

// printedCells bounds the cells that a plan lists on the terminal.
const printedCells = 100

func (se *session) printSweepPlan(ctx context.Context, p plannedSweep, asJSON bool, out io.Writer) error {
	plan, err := se.planOfSweep(ctx, p)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(plan)
	}
	cells := newTable(out, table.Row{"cell", "stages", "its own", "cached", "to run first here"})
	for i, c := range plan.Cells {
		if i == printedCells {
			cells.AppendRow(table.Row{fmt.Sprintf("… and %d more: --json lists them", len(plan.Cells)-i)})
			break
		}
		cells.AppendRow(table.Row{c.Name, c.Stages, c.Own, c.Cached, c.New})
	}
	cells.Render()
	kinds := newTable(out, table.Row{"kind", "in cells", "different", "cached", "to run", "about", "from"})
	for _, k := range plan.Kinds {
		about, from := "", ""
		switch {
		case k.ToRun == 0:
		case k.Unknown == k.ToRun:
			about, from = "?", "none of this kind has finished yet"
		default:
			about, from = duration(k.Seconds), fmt.Sprintf("%d finished, the nearest differ in up to %d values", k.Past, k.Differ)
			if k.Unknown > 0 {
				from += fmt.Sprintf("; %d unknown", k.Unknown)
			}
		}
		kinds.AppendRow(table.Row{k.Kind, k.InCells, k.Distinct, k.Cached, k.ToRun, about, from})
	}
	kinds.Render()
	s := plan.Stages
	fmt.Fprintf(out, "sweep %s: %d cells with %d stages, %d of them different (%d shared); %d in the store, %d to run\n",
		plan.Sweep, len(plan.Cells), s.InCells, s.Distinct, s.InCells-s.Distinct-s.Blocked, s.Cached, s.Distinct-s.Cached)
	if s.Blocked > 0 {
		fmt.Fprintf(out, "%d stages wait for source files that are missing\n", s.Blocked)
	}
	e := plan.Estimate
	switch {
	case s.Distinct == s.Cached && s.Blocked == 0:
		fmt.Fprintln(out, "nothing to do: every stage is in the store")
	case e.Work == 0:
		fmt.Fprintln(out, "time: unknown; no stage of these kinds has finished in this store yet")
	default:
		fmt.Fprintf(out, "time: about %s of work, about %s with %d stages at a time (the longest chain of one cell has %s)",
			duration(e.Work), duration(plan.Wall), plan.Parallel, duration(e.Longest))
		if e.Unknown > 0 {
			fmt.Fprintf(out, "; %d stages are not counted: none like them has finished", e.Unknown)
		}
		fmt.Fprintln(out)
	}
	return nil
}

func newTable(out io.Writer, head table.Row) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(head)
	return t
}

// duration is a number of seconds for people: 45s, 12m, 3h20m.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	}
	text := d.Round(time.Minute).String()
	return text[:len(text)-len("0s")]
}
