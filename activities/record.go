package activities

import (
	"encoding/json"
	"io"
	"math"

	"github.com/esclab/esclab/lm"
)

// stepRecord is one line of a training's record: what a step did, without
// anything that differs between two executions.
type stepRecord struct {
	Step           int     `json:"step"`
	Epoch          float64 `json:"epoch"`
	Loss           float64 `json:"loss"`
	LearningRate   float64 `json:"learning_rate"`
	GradNorm       float64 `json:"grad_norm"`
	Samples        int     `json:"samples"`
	Labels         int     `json:"labels"`
	Tokens         int     `json:"tokens"`
	TokensUnpacked int     `json:"tokens_unpacked"`
	// DPO alone, as TRL names them.
	Rewards *rewards `json:"rewards,omitempty"`
	// Validation is of the weights after this step, at the end of an epoch and
	// of the training, where there is data for it.
	Validation *validationRecord `json:"validation,omitempty"`
}

type validationRecord struct {
	Loss    float64  `json:"loss"` // mean over labelled tokens or pairs
	Samples int      `json:"samples"`
	Rewards *rewards `json:"rewards,omitempty"`
}

type rewards struct {
	Chosen    float64 `json:"chosen"`
	Rejected  float64 `json:"rejected"`
	Accuracy  float64 `json:"accuracy"`
	Margin    float64 `json:"margin"`
	LogProbs  float64 `json:"logps_chosen"`
	LogProbsR float64 `json:"logps_rejected"`
	// Loss kto alone.
	KLChosen   *float64 `json:"kl_chosen,omitempty"`
	KLRejected *float64 `json:"kl_rejected,omitempty"`
}

// rewardsOf is nil where the loss takes no pairs.
func rewardsOf(p *lm.PreferenceMetrics) *rewards {
	if p == nil {
		return nil
	}
	r := &rewards{
		Chosen: p.ChosenReward, Rejected: p.RejectedReward, Accuracy: p.Accuracy, Margin: p.Margin,
		LogProbs: p.ChosenLogProb, LogProbsR: p.RejectedLogProb,
	}
	if p.KL != nil {
		r.KLChosen, r.KLRejected = &p.KL.Chosen, &p.KL.Rejected
	}
	return r
}

// trainingRecord is what the steps of a training did, in order.
type trainingRecord struct{ steps []stepRecord }

func (r *trainingRecord) add(m lm.StepMetrics) {
	r.steps = append(r.steps, stepRecord{
		Step: m.Step, Epoch: m.Epoch, Loss: m.Loss, LearningRate: m.LearningRate, GradNorm: m.GradNorm,
		Samples: m.Samples, Labels: m.Labels, Tokens: m.Tokens, TokensUnpacked: m.TokensUnpacked,
		Rewards: rewardsOf(m.Preference),
	})
}

// last is the newest step; nil before the first.
func (r *trainingRecord) last() *stepRecord {
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
	r.last().Validation = &validationRecord{Loss: v.Loss, Samples: v.Samples, Rewards: rewardsOf(v.Preference)}
}

// write writes one line of JSON a step.
func (r *trainingRecord) write(w io.Writer) error {
	e := json.NewEncoder(w)
	for _, s := range r.steps {
		if err := e.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// summary sums the record up.
func (r *trainingRecord) summary(notes dataNotes) summary {
	s := summary{Data: notes, Steps: len(r.steps)}
	for _, m := range r.steps {
		s.Tokens += m.Tokens
		s.TokensUnpacked += m.TokensUnpacked
		s.Samples += m.Samples
	}
	last := r.last()
	if last == nil {
		return s
	}
	s.FirstLoss = r.steps[0].Loss
	tail := r.steps[len(r.steps)-int(math.Ceil(float64(len(r.steps))/10)):]
	for _, m := range tail {
		s.Loss += m.Loss / float64(len(tail))
	}
	if last.Validation != nil {
		s.ValidationLoss = &last.Validation.Loss
	}
	return s
}
