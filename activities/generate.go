package activities

import (
	"context"
	"fmt"
	"os"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// filePredictions has one line per test turn, in the layout that `esclab
// score` reads.
const filePredictions = "predictions.jsonl"

// prediction is one system's reply to a test turn.
type prediction struct {
	Dialogue     int    `json:"dialogue"`
	Turn         int    `json:"turn"`
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

// runGenerate replies to the test turns with one system of Table 3 or 4.
func runGenerate(ctx context.Context, t *attempt, params experiments.GenerateParams) (output, error) {
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, fileTest)
	if err != nil {
		return output{}, err
	}
	system, err := t.system(ctx, k, params)
	if err != nil {
		return output{}, err
	}
	defer system.close()

	turns := drawTurns(esc.AllTurns(corpus[fileTest]), params.MaxTurns, params.Seed)
	if len(turns) == 0 {
		return output{}, badInput(fmt.Errorf("the test split has no supporter turn"))
	}
	rows, err := t.predict(ctx, system, turns)
	if err != nil {
		return output{}, err
	}
	path, err := t.create(filePredictions, func(f *os.File) error { _, err := f.Write(rows); return err })
	if err != nil {
		return output{}, err
	}
	predictions, err := decodeRows[prediction](rows)
	if err != nil {
		return output{}, err
	}
	unparsed, cut := 0, 0
	for _, p := range predictions {
		if p.Strategy == "" {
			unparsed++
		}
		if p.Cut {
			cut++
		}
	}
	out := output{
		files:   map[string]string{filePredictions: path},
		metrics: map[string]float64{"turns": float64(len(predictions)), "unparsed": float64(unparsed), "cut": float64(cut)},
	}
	texts := make([]string, len(predictions))
	for i, p := range predictions {
		texts[i] = p.Strategy + "\n" + p.Response
	}
	if cut == len(predictions) {
		t.suspicious(out.metrics, "cut", cut, "every reply was cut at generation.max_new_tokens: the model does not know where a turn ends")
	}
	if identical(texts) {
		t.suspicious(out.metrics, "identical", len(texts), "all replies are the same: the model has collapsed")
	}
	return out, nil
}

// predict gives the lines of predictions.jsonl.
func (t *attempt) predict(ctx context.Context, s system, turns []esc.Turn) ([]byte, error) {
	return t.rows(ctx, "generate", s.texts(), turns, func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]any, error) {
		replies, err := s.reply(ctx, turns, tokens)
		if err != nil {
			return nil, err
		}
		rows := make([]any, len(turns))
		for i, turn := range turns {
			rows[i] = predict(turn, replies[i])
		}
		return rows, nil
	})
}

func predict(turn esc.Turn, reply reply) prediction {
	p := prediction{
		Dialogue: turn.Dialogue, Turn: turn.Index,
		GoldStrategy: turn.Strategy.String(), GoldResponse: turn.Response,
		Response: reply.Response, Problem: reply.Reason, Cut: reply.cut,
		Draft: reply.draft, Feedback: reply.feedback, Emotion: reply.emotion,
	}
	if reply.Strategy.Valid() {
		p.Strategy = reply.Strategy.String()
	}
	return p
}
