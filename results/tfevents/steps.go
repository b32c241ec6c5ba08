package tfevents

import (
	"math"

	"github.com/esclab/esclab/results"
)

// Of gives the numbers of a training's step under the names that transformers' and
// TRL's trainers give them: train/… and, of a validation after it, eval/…. What is
// not a number is left out.
func Of(s results.Step) []Scalar {
	all := []Scalar{
		{"train/epoch", s.Epoch}, {"train/grad_norm", s.GradNorm}, {"train/learning_rate", s.LearningRate}, {"train/loss", s.Loss},
		{"train/samples", float64(s.Samples)}, {"train/labels", float64(s.Labels)},
		{"train/tokens", float64(s.Tokens)}, {"train/tokens_unpacked", float64(s.TokensUnpacked)},
	}
	all = appendRewards(all, "train", s.Rewards)
	if v := s.Validation; v != nil {
		all = append(all, Scalar{"eval/loss", v.Loss}, Scalar{"eval/samples", float64(v.Samples)})
		all = appendRewards(all, "eval", v.Rewards)
	}
	var numbers []Scalar
	for _, v := range all {
		if !math.IsNaN(v.Value) {
			numbers = append(numbers, v)
		}
	}
	return numbers
}

func appendRewards(all []Scalar, of string, r *results.Rewards) []Scalar {
	if r == nil {
		return all
	}
	all = append(all,
		Scalar{of + "/rewards/chosen", r.Chosen}, Scalar{of + "/rewards/rejected", r.Rejected},
		Scalar{of + "/rewards/accuracies", r.Accuracy}, Scalar{of + "/rewards/margins", r.Margin},
		Scalar{of + "/logps/chosen", r.LogProbs}, Scalar{of + "/logps/rejected", r.LogProbsR})
	if r.KLChosen != nil {
		all = append(all, Scalar{of + "/kl/chosen", *r.KLChosen})
	}
	if r.KLRejected != nil {
		all = append(all, Scalar{of + "/kl/rejected", *r.KLRejected})
	}
	return all
}
