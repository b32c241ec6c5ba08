// Package sweeptable makes the table of a sweep from what the store has of its
// cells: for the activity that ends a sweep, and for whoever looks at one that
// still runs.
package sweeptable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// shownRows is how much of the table the web UI shows.
const shownRows = 100

// lookups bounds the cells that are read at the same time.
const lookups = 16

// ErrPlan is wrapped where a cell of the plan cannot be laid out.
var ErrPlan = errors.New("the sweep's plan cannot be used")

// Write makes the table and keeps it with the sweep's plan; it says where, and
// shows the beginning.
func Write(ctx context.Context, store *artifacts.Store, plan experiments.SweepPlan, in workflows.TableInput) (workflows.SweepTable, error) {
	var out workflows.SweepTable
	table, err := tabulate(ctx, store, plan, in.Marks, in.Ends)
	if err != nil {
		return out, err
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{results.FileSweepMarkdown, func(w io.Writer) error { return report.SweepMarkdown(w, table) }},
		{results.FileSweepCSV, func(w io.Writer) error { return report.SweepCSV(w, table) }},
		{results.FileSweepJSON, func(w io.Writer) error { return report.SweepJSON(w, table) }},
	} {
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return out, fmt.Errorf("%s of %s: %w", f.name, in.Plan.Sweep, err)
		}
		if _, err := store.PutRunFile(ctx, in.Plan.Sweep, f.name, b.Bytes()); err != nil {
			return out, fmt.Errorf("store %s of %s: %w", f.name, in.Plan.Sweep, err)
		}
		out.Files = append(out.Files, f.name)
	}
	var shown bytes.Buffer
	err = report.SweepPage(&shown, table, shownRows)
	out.Markdown = shown.String()
	return out, err
}

// tabulate reads the cells' figures from the store: whatever is there, so that
// a cell that has failed keeps those of the stages that were done.
func tabulate(ctx context.Context, store *artifacts.Store, plan experiments.SweepPlan, marks workflows.CellMarks, ends []workflows.CellEnd) (report.Sweep, error) {
	table := report.Sweep{Name: plan.Name, Varied: plan.Varied, Heads: plan.ShortNames(), Rows: []report.SweepRow{}, Notes: []string{}}
	reasons := map[int]workflows.CellEnd{}
	for _, e := range ends {
		reasons[e.Cell] = e
	}
	cells := make([]cellFigures, len(marks))
	read := newFigures(store)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for cell := range cells {
		g.Go(func() (err error) {
			cells[cell], err = read.cell(gctx, plan, cell)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return table, err
	}

	// What is the same in every cell is shown once.
	same := map[string]int{}
	for _, c := range cells {
		for _, s := range c.systems {
			same[s.identity]++
		}
	}
	once := map[string]bool{}
	for cell, c := range cells {
		state, reason := marks.At(cell), ""
		if e, ended := reasons[cell]; ended && (state == workflows.CellFailed || state == workflows.CellCancelled || state == workflows.CellStopped) {
			reason = e.Reason
		}
		if state == workflows.CellReused {
			state = workflows.CellDone // the same table, however it came about
		}
		row := report.SweepRow{Cell: plan.Cells[cell].Name, Values: plan.Values(cell), State: state.String(), Reason: reason}
		own := 0
		for _, s := range c.systems {
			if len(cells) > 1 && same[s.identity] == len(cells) {
				if !once[s.identity] {
					once[s.identity] = true
					table.Rows = append(table.Rows, report.SweepRow{State: workflows.CellDone.String(), Values: []string{}, System: s.name, Columns: report.ColumnsOf(s.columns)})
				}
				continue
			}
			if len(s.columns) == 0 && state != workflows.CellDone {
				continue
			}
			r := row
			r.System, r.Columns = s.name, report.ColumnsOf(s.columns)
			if own++; own == 1 {
				r.Training = c.training
			}
			table.Rows = append(table.Rows, r)
		}
		if own == 0 {
			row.Training = c.training
			table.Rows = append(table.Rows, row)
		}
		table.Judge = string(c.judge)
	}
	if n := marks.Count(workflows.CellStopped); n > 0 {
		table.Notes = append(table.Notes, fmt.Sprintf("%d cells were stopped early (%s by %s of %s): which ones depends on how far the others were at that time.",
			n, plan.EarlyStopping.Rule, plan.EarlyStopping.Metric, plan.EarlyStopping.Stage))
	}
	return table, nil
}

// cellFigures is what the store has of one cell.
type cellFigures struct {
	systems  []systemFigures
	training map[string]map[string]float64
	judge    experiments.JudgeKind
}

type systemFigures struct {
	name     string
	identity string // the same for the same replies, judged by the same judge
	columns  map[string]float64
}

// figures reads manifests, each once.
type figures struct {
	store *artifacts.Store
	mu    sync.Mutex
	cache map[string]map[string]float64 // by fingerprint
}

func newFigures(store *artifacts.Store) *figures {
	return &figures{store: store, cache: map[string]map[string]float64{}}
}

// metrics gives the figures of a stage; nil where it has not been done.
func (f *figures) metrics(ctx context.Context, fingerprint string) (map[string]float64, error) {
	f.mu.Lock()
	m, known := f.cache[fingerprint]
	f.mu.Unlock()
	if known || fingerprint == "" {
		return m, nil
	}
	manifest, err := f.store.Manifest(ctx, fingerprint)
	switch {
	case err == nil:
		m = manifest.Metrics
	case !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrDamaged):
		return nil, err
	}
	f.mu.Lock()
	f.cache[fingerprint] = m
	f.mu.Unlock()
	return m, nil
}

func (f *figures) cell(ctx context.Context, plan experiments.SweepPlan, cell int) (cellFigures, error) {
	exp, stages, err := plan.Stages(cell)
	if err != nil {
		return cellFigures{}, fmt.Errorf("%w: cell %d: %w", ErrPlan, cell, err)
	}
	out := cellFigures{training: map[string]map[string]float64{}, judge: exp.Judge.Kind}
	rows := map[string]int{}
	for _, s := range stages {
		switch s.Kind {
		case experiments.KindScore, experiments.KindJudge, experiments.KindBias:
			if _, ok := experiments.SystemOf(s); !ok {
				continue // an anchor
			}
			_, name, _ := strings.Cut(s.Name, "/")
			at, there := rows[name]
			if !there {
				at = len(out.systems)
				rows[name] = at
				out.systems = append(out.systems, systemFigures{name: name, columns: map[string]float64{}})
			}
			row := &out.systems[at]
			row.identity += s.Fingerprint
			m, err := f.metrics(ctx, s.Fingerprint)
			if err != nil {
				return out, err
			}
			maps.Copy(row.columns, m)
		case experiments.KindSFT, experiments.KindDPO:
			m, err := f.metrics(ctx, s.Fingerprint)
			if err != nil {
				return out, err
			}
			if m != nil {
				out.training[s.Name] = m
			}
		}
	}
	return out, nil
}
