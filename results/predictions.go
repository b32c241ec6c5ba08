package results

import (
	"context"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/metrics"
)

// Prediction is one system's reply to a test turn.
type Prediction struct {
	esc.Place
	GoldStrategy string `json:"gold_strategy"`
	GoldResponse string `json:"gold_response"`
	// Strategy is "" where the model's text names none.
	Strategy string `json:"strategy"`
	Response string `json:"response"`
	// Problem says why the model's text could not be read.
	Problem string `json:"problem,omitempty"`
	// Cut tells that a text of the reply reached the limit of new tokens before
	// the model ended it.
	Cut bool `json:"cut,omitempty"`
	// What the prompt baselines wrote on the way: the reply that direct-refine
	// and self-refine revise, self-refine's feedback on it, emotion-cot's
	// thoughts about the seeker's emotion.
	Draft    string `json:"draft,omitempty"`
	Feedback string `json:"feedback,omitempty"`
	Emotion  string `json:"emotion,omitempty"`
}

// Classes are the strategies as metrics.Strategy takes them: metrics.Unparsed
// for one that is "".
func (p Prediction) Classes() (gold, predicted int, err error) {
	if gold, err = class(p.GoldStrategy); err != nil {
		return 0, 0, err
	}
	predicted, err = class(p.Strategy)
	return gold, predicted, err
}

func class(name string) (int, error) {
	if name == "" {
		return metrics.Unparsed, nil
	}
	s, err := esc.ParseStrategy(name)
	return int(s), err
}

// ReadPredictions reads what a finished generate stage left.
func ReadPredictions(ctx context.Context, store *artifacts.Store, fingerprint string) ([]Prediction, error) {
	return ReadRows[Prediction](ctx, store, fingerprint, FilePredictions)
}
