package activities

import (
	"io"
	"math"

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
