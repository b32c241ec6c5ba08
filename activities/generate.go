package activities

import (
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
)

// runGenerate replies to the test turns with one system of Table 3 or 4.
func runGenerate(ctx context.Context, t *attempt, params experiments.GenerateParams) (output, error) {
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTest)
	if err != nil {
		return output{}, err
	}
	system, err := loadSystem(ctx, t, b, params)
	if err != nil {
		return output{}, err
	}
	defer system.close()

	turns := drawTurns(esc.AllTurns(corpus[results.FileTest]), params.MaxTurns, params.Seed)
	if len(turns) == 0 {
		return output{}, badInput(fmt.Errorf("the test split has no supporter turn"))
	}
	rows, err := predictTurns(ctx, t, system, turns)
	if err != nil {
		return output{}, err
	}
	path, err := t.create(results.FilePredictions, rows.write)
	if err != nil {
		return output{}, err
	}
	predictions, unparsed, cut := rows.all, 0, 0
	for _, p := range predictions {
		if p.Strategy == "" {
			unparsed++
		}
		if p.Cut {
			cut++
		}
	}
	out := output{
		files:   map[string]string{results.FilePredictions: path},
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

// predictTurns gives the lines of predictions.jsonl.
func predictTurns(ctx context.Context, t *attempt, s system, turns []esc.Turn) (*rowFile[results.Prediction], error) {
	return makeRows(ctx, t, "generate", s.texts(), turns, func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]results.Prediction, error) {
		replies, err := s.reply(ctx, turns, tokens)
		if err != nil {
			return nil, err
		}
		rows := make([]results.Prediction, len(turns))
		for i, turn := range turns {
			rows[i] = predict(turn, replies[i])
		}
		return rows, nil
	})
}

func predict(turn esc.Turn, reply reply) results.Prediction {
	p := results.Prediction{
		Place: turn.Place(), GoldStrategy: turn.Strategy.String(), GoldResponse: turn.Response,
		Response: reply.Response, Problem: reply.Reason, Cut: reply.cut,
		Draft: reply.draft, Feedback: reply.feedback, Emotion: reply.emotion,
	}
	if reply.Strategy.Valid() {
		p.Strategy = reply.Strategy.String()
	}
	return p
}
