package human

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/esclab/esclab/internal/inert"
	"github.com/esclab/esclab/metrics"
)

// Result is what the raters say of the first system against the second in one
// question, or in all of them together.
type Result struct {
	Question string `json:"question"` // "all" for the questions together
	Answers  int    `json:"answers"`  // given, of samples times raters
	// Shares of the answers given, 0 to 1, with 95 % bootstrap intervals over
	// samples: the raters of a sample stay together. nil without an answer.
	Win  *metrics.Interval `json:"win"`
	Tie  *metrics.Interval `json:"tie"`
	Loss *metrics.Interval `json:"loss"`
	// Agreement is that of the raters beyond chance: Cohen's kappa of two,
	// Krippendorff's alpha of more. nil where it is not defined: one rater, or
	// all answers the same.
	Agreement *float64 `json:"agreement"`
	// Rated is what the agreement rests on: samples that both answered (kappa),
	// answers with a fellow (alpha).
	Rated int `json:"rated"`
}

// Rater says how much of the sheet a rater filled.
type Rater struct {
	Name    string `json:"name"`
	Answers int    `json:"answers"` // of samples times questions
}

// Results are the figures of filled sheets: figure 6.
type Results struct {
	Systems   [2]System `json:"systems"` // wins are the first one's
	Samples   int       `json:"samples"`
	Raters    []Rater   `json:"raters"`
	Statistic string    `json:"agreement_statistic"` // "" for one rater
	Questions []Result  `json:"questions"`
	// Notes say what limits the figures.
	Notes []string `json:"notes"`
}

// All is the name of the questions together.
const All = "all"

// Resamples of the bootstrap.
const Resamples = 2000

// Evaluate makes the figures of one or more raters' sheets.
func Evaluate(ctx context.Context, key Key, sheets []Ratings, seed uint64) (Results, error) {
	out := Results{Systems: key.Systems, Samples: len(key.Samples)}
	if len(sheets) == 0 {
		return out, errors.New("no sheet to evaluate")
	}
	switch {
	case len(sheets) == 2:
		out.Statistic = "Cohen's kappa"
	case len(sheets) > 2:
		out.Statistic = "Krippendorff's alpha"
	}
	total := len(key.Samples) * len(key.Asked)
	for _, s := range sheets {
		given := 0
		for _, answers := range s.Answers {
			for _, a := range answers {
				if a != metrics.Missing {
					given++
				}
			}
		}
		out.Raters = append(out.Raters, Rater{s.Rater, given})
		if given < total {
			out.Notes = append(out.Notes, fmt.Sprintf("%s left %d of %d cells empty.", s.Rater, total-given, total))
		}
	}
	var together [][]int // units of all questions: [question·sample][rater]
	groups := make([][]int, len(key.Samples))
	for q, asked := range key.Asked {
		units := make([][]int, len(key.Samples))
		for i := range units {
			for _, s := range sheets {
				units[i] = append(units[i], s.Answers[q][i])
			}
			groups[i] = append(groups[i], units[i]...)
		}
		r, err := result(ctx, asked.Name, units, units, seed)
		if err != nil {
			return out, err
		}
		out.Questions = append(out.Questions, r)
		together = append(together, units...)
	}
	r, err := result(ctx, All, groups, together, seed)
	if err != nil {
		return out, err
	}
	out.Questions = append(out.Questions, r)
	if len(sheets) == 1 {
		out.Notes = append(out.Notes, "One rater: there is no agreement to measure.")
	}
	return out, nil
}

// result makes one question's figures: samples are the answers to be resampled
// together, units those that raters may agree on, [unit][rater].
func result(ctx context.Context, question string, samples, units [][]int, seed uint64) (Result, error) {
	r := Result{Question: question}
	var groups [][]int
	for _, answers := range samples {
		given := slices.DeleteFunc(slices.Clone(answers), func(a int) bool { return a == metrics.Missing })
		if len(given) > 0 {
			groups = append(groups, given)
		}
		r.Answers += len(given)
	}
	if r.Answers == 0 {
		return r, nil
	}
	for outcome, into := range []**metrics.Interval{Win: &r.Win, Tie: &r.Tie, Loss: &r.Loss} {
		interval, err := metrics.Bootstrap(ctx, groups, func(answers []int) float64 {
			n := 0
			for _, a := range answers {
				if a == outcome {
					n++
				}
			}
			return float64(n) / float64(len(answers))
		}, Resamples, seed)
		if err != nil {
			return r, err
		}
		*into = &interval
	}
	var agreement float64
	switch raters := len(units[0]); {
	case raters < 2:
		return r, nil
	case raters == 2:
		a, b := make([]int, len(units)), make([]int, len(units))
		for i, u := range units {
			a[i], b[i] = u[0], u[1]
		}
		agreement, r.Rated = metrics.CohenKappa(a, b)
	default:
		agreement, r.Rated = metrics.KrippendorffAlpha(units)
	}
	if !math.IsNaN(agreement) {
		r.Agreement = &agreement
	}
	return r, nil
}

// Markdown is the results as a table for a text.
func (r Results) Markdown() string {
	title := fmt.Sprintf("**%s** against **%s**: %d samples, %d raters. Win, tie and loss are the first system's, in %% of the answers, with 95 %% bootstrap intervals over samples.",
		inert.Markdown(r.Systems[0].Label(r.Systems)), inert.Markdown(r.Systems[1].Label(r.Systems)), r.Samples, len(r.Raters))
	text := title + "\n\n| Question | Answers | Win | Tie | Loss | " + r.agreementHead() + " |\n|---|---:|---:|---:|---:|---:|\n"
	for _, q := range r.Questions {
		c := q.Cells()
		text += fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", inert.Markdown(c[0]), c[1], c[2], c[3], c[4], c[5])
	}
	for _, note := range r.Notes {
		text += "\n- " + inert.Markdown(note)
	}
	if len(r.Notes) > 0 {
		text += "\n"
	}
	return text
}

func (r Results) agreementHead() string {
	if r.Statistic == "" {
		return "Agreement"
	}
	return r.Statistic
}

// Head names the columns of Cells.
func (r Results) Head() [6]string {
	return [6]string{"Question", "Answers", "Win %", "Tie %", "Loss %", r.agreementHead()}
}

// Cells are the result as texts: question, answers, win, tie, loss, agreement.
func (q Result) Cells() [6]string {
	share := func(i *metrics.Interval) string {
		if i == nil {
			return "–"
		}
		return fmt.Sprintf("%.1f [%.1f, %.1f]", 100*i.Estimate, 100*i.Low, 100*i.High)
	}
	agreement := "–"
	if q.Agreement != nil {
		agreement = fmt.Sprintf("%.2f", *q.Agreement)
	}
	return [6]string{q.Question, fmt.Sprint(q.Answers), share(q.Win), share(q.Tie), share(q.Loss), agreement}
}

// Label names a system, with its run where the two are of different runs.
func (s System) Label(both [2]System) string {
	if both[0].Run == both[1].Run {
		return s.Name
	}
	return s.Run + " " + s.Name
}
