package activities

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// given reads Table 4's rows: the generator given the gold strategy.
func (r *reporter) given(ctx context.Context) error {
	for _, system := range r.params.Systems() {
		if system.Paradigm != experiments.Gold {
			continue
		}
		row := r.row(system)
		scored, err := r.system(ctx, &row)
		if err == nil {
			row.Intervals, err = intervals(ctx, scored, r.params.Seed)
		}
		if err != nil {
			return fmt.Errorf("system %s: %w", row.System(), err)
		}
		row.Intervals = row.Shown() // it did not choose its strategies
		r.data.Given = append(r.data.Given, row)
	}
	return nil
}

// quality reads the scores of both sides of the pairs (Table 2): means over the
// pairs of all seeds.
func (r *reporter) quality(ctx context.Context) error {
	for _, role := range experiments.Roles() {
		var sum results.Quality
		for _, seed := range r.seeds {
			name, ok := r.at(string(experiments.KindQuality)+"/"+string(role), seed)
			if !ok {
				continue
			}
			dir, err := r.input(ctx, name)
			if err != nil {
				return err
			}
			var one results.Quality
			if err := readJSON(filepath.Join(dir, results.FileQuality), &one); err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
			sum.Judge = one.Judge
			sum.Samples += one.Samples
			for _, side := range []struct {
				into *judge.Scores
				of   judge.Scores
			}{{&sum.Chosen, one.Chosen}, {&sum.Rejected, one.Rejected}} {
				n := float64(one.Samples) // divided by all of them below
				side.into.Fluency += n * side.of.Fluency
				side.into.Professionalism += n * side.of.Professionalism
				side.into.Empathy += n * side.of.Empathy
				side.into.Helpfulness += n * side.of.Helpfulness
			}
		}
		if sum.Samples == 0 {
			continue
		}
		mean := func(s judge.Scores) report.Scores {
			n := float64(sum.Samples)
			return report.Scores{Fluency: s.Fluency / n, Professionalism: s.Professionalism / n, Empathy: s.Empathy / n, Helpfulness: s.Helpfulness / n}
		}
		r.data.Quality = append(r.data.Quality, report.Quality{
			Role: role, Judge: sum.Judge, Samples: sum.Samples, Chosen: mean(sum.Chosen), Rejected: mean(sum.Rejected),
		})
	}
	return nil
}

// wins reads whose replies the judge prefers (Figure 6).
func (r *reporter) wins(ctx context.Context) error {
	done := map[string]bool{}
	for _, input := range r.names(experiments.KindPrefer) {
		name := experiments.WithoutSeed(input)
		if done[name] {
			continue
		}
		done[name] = true
		w, err := r.comparison(ctx, name)
		if err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
		r.data.Wins = append(r.data.Wins, w)
	}
	return nil
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
		if err := readJSON(filepath.Join(dir, results.FilePreference), &sum); err != nil {
			return w, err
		}
		w.By, w.Systems = sum.Judge, [2]string{sum.First, sum.Second}
		raw, err := os.ReadFile(filepath.Join(dir, results.FileCompared))
		if err != nil {
			return w, err
		}
		all, err := results.DecodeRows[results.Compared](raw)
		if err != nil {
			return w, fmt.Errorf("%s: %w", results.FileCompared, err)
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
		found, err := metrics.BootstrapsOver(ctx, byDialogue(runs, func(c results.Compared) int { return c.Dialogue }), outcomes, reportResamples, r.params.Seed)
		if err != nil {
			return w, err
		}
		for i, into := range []**report.Share{&win.Win, &win.Tie, &win.Loss} {
			*into = &report.Share{Value: found[i].Estimate, Low: found[i].Low, High: found[i].High}
		}
	}
	if len(r.seeds) > 1 {
		w.Notes = append(w.Notes, fmt.Sprintf("Means over the seeds %s.", strings.Trim(fmt.Sprint(r.seeds), "[]")))
	}
	w.Questions = []report.Win{win}
	return w, nil
}

// outcomes are the shares of wins, ties and losses of the first system.
func outcomes(all []results.Compared) []float64 {
	var n [3]float64
	for _, one := range all {
		switch {
		case one.First > 0.5:
			n[0]++
		case one.First < 0.5:
			n[2]++
		default:
			n[1]++
		}
	}
	total := float64(len(all)) // 0 of a resample without an answer: NaN, left out
	return []float64{n[0] / total, n[1] / total, n[2] / total}
}
