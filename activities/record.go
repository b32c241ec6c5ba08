package activities

import (
	"io"
	"math"
	"slices"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
)

// rewardsOf is nil where the loss takes no pairs.
func rewardsOf(p *lm.PreferenceMetrics) *results.Rewards {
	if p == nil {
		return nil
	}
	r := &results.Rewards{
		Chosen: p.ChosenReward, Rejected: p.RejectedReward, Accuracy: p.Accuracy, Margin: p.Margin,
		LogProbs: p.ChosenLogProb, LogProbsR: p.RejectedLogProb,
	}
	if p.KL != nil {
		r.KLChosen, r.KLRejected = &p.KL.Chosen, &p.KL.Rejected
	}
	return r
}

// trainingRecord is what the steps of a training did, in order.
type trainingRecord struct{ steps []results.Step }

func (r *trainingRecord) add(m lm.StepMetrics) {
	r.steps = append(r.steps, results.Step{
		Step: m.Step, Epoch: m.Epoch, Loss: m.Loss, LearningRate: m.LearningRate, GradNorm: m.GradNorm,
		Samples: m.Samples, Labels: m.Labels, Tokens: m.Tokens, TokensUnpacked: m.TokensUnpacked,
		Rewards: rewardsOf(m.Preference),
	})
}

// sparkColumns is how wide a sparkline is.
const sparkColumns = 12

// sparkline draws the loss so far from its smallest value to its largest, as means
// over equal spans of the steps; "" before the second step: one point is no curve.
func (r *trainingRecord) sparkline() string {
	n := min(len(r.steps), sparkColumns)
	if n < 2 {
		return ""
	}
	points := make([]float64, n)
	for i := range points {
		span := r.steps[i*len(r.steps)/n : (i+1)*len(r.steps)/n]
		for _, s := range span {
			points[i] += s.Loss / float64(len(span))
		}
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	low, high := slices.Min(points), slices.Max(points)
	drawn := make([]rune, n)
	for i, v := range points {
		at := 0
		if high > low {
			at = int((v - low) / (high - low) * float64(len(levels)-1))
		}
		drawn[i] = levels[min(max(at, 0), len(levels)-1)]
	}
	return string(drawn)
}

// last is the newest step; nil before the first.
func (r *trainingRecord) last() *results.Step {
	if len(r.steps) == 0 {
		return nil
	}
	return &r.steps[len(r.steps)-1]
}

// lacksValidation reports whether the newest step ended an epoch, or all total
// steps, and is not validated yet. A function of the record alone, so that an
// interrupted training validates where an unbroken one does.
func (r *trainingRecord) lacksValidation(total int) bool {
	last := r.last()
	return last != nil && last.Validation == nil && (last.Epoch == math.Trunc(last.Epoch) || last.Step == total)
}

// validated notes a validation after the newest step.
func (r *trainingRecord) validated(v lm.ValidationMetrics) {
	r.last().Validation = &results.Validation{Loss: v.Loss, Samples: v.Samples, Rewards: rewardsOf(v.Preference)}
}

// write writes one line of JSON a step.
func (r *trainingRecord) write(w io.Writer) error {
	return results.WriteRows(w, r.steps)
}
