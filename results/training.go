package results

import (
	"math"
	"slices"
)

// Step is one line of a training's record: what a step did, without anything
// that differs between two executions.
type Step struct {
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
	Rewards *Rewards `json:"rewards,omitempty"`
	// Validation is of the weights after this step, at the end of an epoch and
	// of the training, where there is data for it.
	Validation *Validation `json:"validation,omitempty"`
}

// sparkColumns is how wide a sparkline is.
const sparkColumns = 12

// Sparkline draws the loss of a training's steps from its smallest value to its largest,
// as means over equal spans of them; "" before the second step: one point is no curve.
func Sparkline(steps []Step) string {
	n := min(len(steps), sparkColumns)
	if n < 2 {
		return ""
	}
	points := make([]float64, n)
	for i := range points {
		span := steps[i*len(steps)/n : (i+1)*len(steps)/n]
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

// Validation is what a training's model got on the validation data.
type Validation struct {
	Loss    float64  `json:"loss"` // mean over labelled tokens or pairs
	Samples int      `json:"samples"`
	Rewards *Rewards `json:"rewards,omitempty"`
}

// Rewards are the implicit rewards of preference training: means over pairs.
type Rewards struct {
	Chosen    float64 `json:"chosen"`
	Rejected  float64 `json:"rejected"`
	Accuracy  float64 `json:"accuracy"`
	Margin    float64 `json:"margin"`
	LogProbs  float64 `json:"logps_chosen"`
	LogProbsR float64 `json:"logps_rejected"`
	// Losses kto and kto_pair alone; kto has one estimate for both.
	KLChosen   *float64 `json:"kl_chosen,omitempty"`
	KLRejected *float64 `json:"kl_rejected,omitempty"`
}

// Summary is what a training stage says about itself in its artifact.
type Summary struct {
	Steps          int       `json:"steps"`
	Tokens         int       `json:"tokens"`          // that the kernel computed
	TokensUnpacked int       `json:"tokens_unpacked"` // that plain sequences would have had
	Samples        int       `json:"samples"`
	Loss           float64   `json:"loss"` // mean of the last tenth of the steps
	FirstLoss      float64   `json:"first_loss"`
	ValidationLoss *float64  `json:"validation_loss,omitempty"`
	Data           DataNotes `json:"data"`
	Shapes         int       `json:"shapes"` // graphs the data needs
}

// DataNotes say what became of a training's examples.
type DataNotes struct {
	Examples int `json:"examples"`
	Trimmed  int `json:"trimmed,omitempty"`
	Skipped  int `json:"skipped,omitempty"`
}

// Summarize sums a training's record up, all but Shapes.
func Summarize(steps []Step, data DataNotes) Summary {
	s := Summary{Data: data, Steps: len(steps)}
	for _, m := range steps {
		s.Tokens += m.Tokens
		s.TokensUnpacked += m.TokensUnpacked
		s.Samples += m.Samples
	}
	if len(steps) == 0 {
		return s
	}
	s.FirstLoss = steps[0].Loss
	tail := steps[len(steps)-int(math.Ceil(float64(len(steps))/10)):]
	for _, m := range tail {
		s.Loss += m.Loss / float64(len(tail))
	}
	if last := steps[len(steps)-1]; last.Validation != nil {
		s.ValidationLoss = &last.Validation.Loss
	}
	return s
}
