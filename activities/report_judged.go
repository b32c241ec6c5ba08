package activities

import (
	"context"
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// given reads Table 4's rows: the generator given the gold strategy.
func (r *reporter) given(ctx context.Context) error {
	for _, system := range r.shown {
		if system.Paradigm != experiments.Gold {
			continue
		}
		row := r.row(system)
		scored, err := r.system(ctx, &row)
		if err == nil {
			row.Intervals, err = r.intervals(ctx, scored)
		}
		if err != nil {
			return fmt.Errorf("system %s: %w", row.System(), err)
		}
		row.Intervals = row.Shown() // it did not choose its strategies
		r.data.Given = append(r.data.Given, row)
	}
	return nil
}

// quality reads the scores of both sides of the pairs (Table 2).
func (r *reporter) quality(ctx context.Context) (err error) {
	r.data.Quality, err = r.qualityBy(ctx, "")
	return err
}

// qualityBy reads the scores by a judge of judge.also, with "" by the experiment's own:
// means over the pairs of all seeds.
func (r *reporter) qualityBy(ctx context.Context, by string) ([]report.Quality, error) {
	var found []report.Quality
	for _, role := range esc.Roles() {
		var sum results.Quality
		for _, seed := range r.seeds {
			name, ok := r.at(experiments.JudgedBy(experiments.KindQuality, by, string(role)), seed)
			if !ok {
				continue
			}
			dir, err := r.input(ctx, name)
			if err != nil {
				return nil, err
			}
			var one results.Quality
			if err := results.ReadJSON(results.Dir(dir), results.FileQuality, &one); err != nil {
				return nil, fmt.Errorf("input %s: %w", name, err)
			}
			sum.Judge = one.Judge
			sum.Samples += one.Samples
			n := float64(one.Samples) // divided by all of them below
			for i, v := range one.Chosen.Fields() {
				*sum.Chosen.Fields()[i] += n * *v
			}
			for i, v := range one.Rejected.Fields() {
				*sum.Rejected.Fields()[i] += n * *v
			}
		}
		if sum.Samples == 0 {
			continue
		}
		mean := func(s judge.Scores) report.Scores {
			n := float64(sum.Samples)
			return report.Scores{Fluency: s.Fluency / n, Professionalism: s.Professionalism / n, Empathy: s.Empathy / n, Helpfulness: s.Helpfulness / n}
		}
		found = append(found, report.Quality{
			Role: role, Judge: sum.Judge, Samples: sum.Samples, Chosen: mean(sum.Chosen), Rejected: mean(sum.Rejected),
		})
	}
	return found, nil
}

// wins reads whose replies the judge prefers (Figure 6).
func (r *reporter) wins(ctx context.Context) (err error) {
	r.data.Wins, err = r.winsBy(ctx, "")
	return err
}

// winsBy reads the comparisons by a judge of judge.also, with "" by the experiment's own.
func (r *reporter) winsBy(ctx context.Context, by string) ([]report.Wins, error) {
	var found []report.Wins
	for _, first := range r.params.Systems() {
		for _, second := range r.params.Systems() {
			name := experiments.JudgedBy(experiments.KindPrefer, by, experiments.Against(first.Name(), second.Name()))
			if _, ok := r.at(name, r.seeds[0]); !ok {
				continue
			}
			w, err := r.comparison(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("input %s: %w", name, err)
			}
			found = append(found, w)
		}
	}
	return found, nil
}

// comparison reads one comparison under every seed.
func (r *reporter) comparison(ctx context.Context, name string) (report.Wins, error) {
	var w report.Wins
	runs := make([][]results.Compared, len(r.seeds))
	answers := 0
	for i, seed := range r.seeds {
		input, _ := r.at(name, seed)
		dir, err := r.input(ctx, input)
		if err != nil {
			return w, err
		}
		var sum results.Preference
		if err := results.ReadJSON(results.Dir(dir), results.FilePreference, &sum); err != nil {
			return w, err
		}
		w.By, w.Systems = sum.Judge, [2]string{sum.First, sum.Second}
		all, err := results.ReadRows[results.Compared](results.Dir(dir), results.FileCompared)
		if err != nil {
			return w, err
		}
		for _, one := range all {
			if one.Problem == "" {
				runs[i] = append(runs[i], one)
			}
		}
		answers += len(runs[i])
		w.Samples = max(w.Samples, len(runs[i]))
	}
	w.Notes = append(w.Notes, "The judge is asked in both orders of the two replies; it prefers one if it does so on the average of the two, else it is a tie.")
	win := report.Win{Question: "reply as a whole", Answers: answers}
	if answers > 0 {
		wins, ties, losses, err := results.Outcomes(ctx, runs, r.params.Seed)
		if err != nil {
			return w, err
		}
		share := func(i metrics.Interval) *report.Share {
			return &report.Share{Value: i.Estimate, Low: i.Low, High: i.High}
		}
		win.Win, win.Tie, win.Loss = share(wins), share(ties), share(losses)
	}
	if len(r.seeds) > 1 {
		w.Notes = append(w.Notes, fmt.Sprintf("Means over the seeds %s.", strings.Trim(fmt.Sprint(r.seeds), "[]")))
	}
	w.Questions = []report.Win{win}
	return w, nil
}
