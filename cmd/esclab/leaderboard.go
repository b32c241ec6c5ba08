package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"go.temporal.io/api/enums/v1"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// standing is how a run stands among all runs.
type standing struct {
	Run        string    `json:"run"`
	Experiment string    `json:"experiment"`
	Status     string    `json:"status"`
	Started    time.Time `json:"started"`
	Done       int       `json:"stages_done"`
	Stages     int       `json:"stages"`
	// System is the one that the run's numbers are of, Metrics Table 3's columns as
	// far as they are computed.
	System  string             `json:"system,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Differs are the parameters in which the experiment's runs differ.
	Differs []differing `json:"differs,omitempty"`

	stages []experiments.Stage
}

type differing struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// leaderColumns are those of Table 3 that the leaderboard shows.
func leaderColumns() []experiments.Column {
	var columns []experiments.Column
	for _, head := range []string{"B", "Qw", "Q", "R-L"} {
		c, _ := experiments.FindColumn(head)
		columns = append(columns, c)
	}
	return columns
}

// standings says how all runs stand, the newest first; a run that was started
// several times stands once.
func (se *session) standings(ctx context.Context) ([]*standing, error) {
	var all []*standing
	seen := map[string]bool{}
	reading, gctx := errgroup.WithContext(ctx)
	reading.SetLimit(8)
	for e, err := range se.lab.Runs(ctx, false) {
		if err != nil {
			return nil, err
		}
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		s := &standing{Run: runName(e.ID), Status: workflows.StatusWord(e.Status), Started: e.Started}
		all = append(all, s)
		reading.Go(func() error { return se.stand(gctx, e, s) })
	}
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	byExperiment := map[string][]*standing{}
	for _, s := range all {
		byExperiment[s.Experiment] = append(byExperiment[s.Experiment], s)
	}
	for _, alike := range byExperiment {
		runs := make([]compare.Run, len(alike))
		for i, s := range alike {
			runs[i] = compare.Run{Name: s.Run, Stages: s.stages}
		}
		for _, p := range compare.Parameters(runs) {
			for i, s := range alike {
				if p.Values[i] != "" && !p.OfCode() {
					s.Differs = append(s.Differs, differing{p.Name, p.Values[i]})
				}
			}
		}
	}
	return all, nil
}

// stand reads how far a run is and what its headline system scores.
func (se *session) stand(ctx context.Context, e lab.Execution, s *standing) error {
	in, err := se.lab.RunInput(ctx, e)
	if err != nil {
		return err
	}
	s.Experiment, s.stages, s.Stages, s.Done = in.Experiment, in.Stages, len(in.Stages), len(in.Stages)
	if e.Status != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		v, err := se.lab.StoredRun(ctx, e)
		if len(v.Stages) < s.Stages { // else the error is what the run has failed of
			return err
		}
		s.Done = 0
		for _, stage := range v.Stages {
			if over(stage.Status) {
				s.Done++
			}
		}
	}
	sys, ok := experiments.Headline(in.Stages)
	if !ok {
		return nil
	}
	s.System = sys.Name()
	if s.Metrics, err = se.partial(ctx, stagesOf(in.Stages, s.System)); err != nil {
		return failed(fmt.Errorf("run %s: %w", s.Run, err))
	}
	return nil
}

// sortStandings sorts by one of Table 3's columns, the best first and what has no
// number last; "" leaves the newest first.
func sortStandings(all []*standing, by string) error {
	if by == "" {
		return nil
	}
	c, ok := experiments.FindColumn(by)
	if !ok {
		return fmt.Errorf("--sort %s: use B, Qw, Q, R-L or another of Table 3's columns", by)
	}
	slices.SortStableFunc(all, func(a, b *standing) int {
		x, okA := a.Metrics[c.Name]
		y, okB := b.Metrics[c.Name]
		switch {
		case !okA || !okB:
			return cmp.Compare(btoi(!okA), btoi(!okB))
		case c.Smaller:
			return cmp.Compare(x, y)
		}
		return cmp.Compare(y, x)
	})
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// printStandings writes the leaderboard: a line for each run, and below it the
// parameters in which it differs from the experiment's other runs.
func printStandings(out io.Writer, all []*standing) {
	s := newScreen(out)
	columns := leaderColumns()
	name, state := len("run"), 0
	for _, r := range all {
		name, state = max(name, len(r.Run)), max(state, len(r.Status))
	}
	const number = 8
	done := len("999/999")
	name = max(min(name, s.width-1-(1+done)-(1+state)-number*len(columns)), len("run"))
	head := fmt.Sprintf("%-*s %*s %-*s", name, "run", done, "stages", state, "")
	for _, c := range columns {
		head += fmt.Sprintf("%*s ", number-1, c.Head)
	}
	fmt.Fprintln(out, s.paint(text.Colors{text.Bold}, strings.TrimRight(head, " ")))
	for _, r := range all {
		line := fmt.Sprintf("%-*s %*s %-*s", name, cut(r.Run, name), done, fmt.Sprintf("%d/%d", r.Done, r.Stages), state, r.Status)
		for _, c := range columns {
			v, ok := r.Metrics[c.Name]
			switch {
			case !ok:
				line += fmt.Sprintf("%*s ", number-1, "–")
			case best(all, r, c):
				line += s.paint(text.Colors{text.Bold}, fmt.Sprintf("%*.2f", number-1, v)) + "*"
			default:
				line += fmt.Sprintf("%*.2f ", number-1, v)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
		var differs []string
		for _, d := range r.Differs {
			differs = append(differs, d.Name+" "+d.Value)
		}
		if len(differs) > 0 {
			fmt.Fprintln(out, cut("    "+oneLine(strings.Join(differs, ", ")), s.width-1))
		}
	}
	fmt.Fprintln(out, trimmed(text.WrapSoft("B, Qw, Q and R-L are those of each run's headline system (decoupled/dpo, where it has one); * best of the experiment's runs. One run: esclab status RUN.", s.width-1)))
}

// best says whether no other run of the experiment has a better number.
func best(all []*standing, r *standing, c experiments.Column) bool {
	others := 0
	for _, o := range all {
		v, ok := o.Metrics[c.Name]
		if !ok || o == r || o.Experiment != r.Experiment {
			continue
		}
		others++
		if c.Smaller && v < r.Metrics[c.Name] || !c.Smaller && v > r.Metrics[c.Name] {
			return false
		}
	}
	return others > 0
}

// runLeaderboard prints how all runs stand.
func (se *session) runLeaderboard(ctx context.Context, o statusOptions, out io.Writer) error {
	all, err := se.standings(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errNoRuns
	}
	if err := sortStandings(all, o.sort); err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	printStandings(out, all)
	return nil
}
