package activities

import (
	"context"
	"fmt"
	"os"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Generate replies to the test turns with one system of Table 3 or 4.
func (a *Activities) Generate(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.generate)
}

func (a *Activities) generate(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.GenerateParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTest)
	if err != nil {
		return output{}, err
	}
	system, err := t.system(ctx, k, params)
	if err != nil {
		return output{}, err
	}
	defer system.close()

	turns := drawTurns(esc.AllTurns(corpus[results.FileTest]), params.MaxTurns, params.Seed)
	if len(turns) == 0 {
		return output{}, badInput(fmt.Errorf("the test split has no supporter turn"))
	}
	rows, err := t.predict(ctx, system, turns)
	if err != nil {
		return output{}, err
	}
	path, err := t.create(results.FilePredictions, func(f *os.File) error { _, err := f.Write(rows); return err })
	if err != nil {
		return output{}, err
	}
	predictions, err := results.DecodeRows[results.Prediction](rows)
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
