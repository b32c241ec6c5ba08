package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Score computes the automatic metrics of one system's predictions.
func (a *Activities) Score(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, func(ctx context.Context, t *attempt) (output, error) {
		predictions, err := t.predictions(ctx)
		if err != nil {
			return output{}, err
		}
		tok, err := metrics.NewTokenizer()
		if err != nil {
			return output{}, err
		}
		samples := make([]metrics.Sample, len(predictions))
		for i, p := range predictions {
			samples[i] = metrics.Sample{Gold: p.GoldResponse, Response: p.Response}
		}
		scores, err := metrics.Automatic(tok, samples)
		if err != nil {
			return output{}, badInput(err)
		}
		path, err := t.createJSON(results.FileScores, scores)
		if err != nil {
			return output{}, err
		}
		m := scores.Average
		return output{
			files: map[string]string{results.FileScores: path},
			metrics: map[string]float64{
				"distinct_1": m.Distinct1, "bleu_1": m.Bleu1, "f1": m.F1, "rouge_l": m.RougeL,
			},
		}, nil
	})
}

// Bias computes the strategy metrics: preference bias, weighted and macro F1.
func (a *Activities) Bias(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, func(ctx context.Context, t *attempt) (output, error) {
		predictions, err := t.predictions(ctx)
		if err != nil {
			return output{}, err
		}
		gold, predicted := make([]int, len(predictions)), make([]int, len(predictions))
		for i, p := range predictions {
			if gold[i], predicted[i], err = p.Classes(); err != nil {
				return output{}, badInput(fmt.Errorf("prediction %d: %w", i+1, err))
			}
		}
		bias, err := metrics.Strategy(gold, predicted, esc.NumStrategies)
		if err != nil {
			return output{}, badInput(err)
		}
		path, err := t.createJSON(results.FileBias, bias)
		if err != nil {
			return output{}, err
		}
		return output{
			files: map[string]string{results.FileBias: path},
			metrics: map[string]float64{
				"preference_bias": bias.PreferenceBias, "weighted_f1": bias.WeightedF1, "macro_f1": bias.MacroF1,
			},
		}, nil
	})
}

// Judge scores one system's replies and labels their psychological errors. The
// gold strategy is not shown to the judge: whether a reply has it is what the
// strategy metrics measure.
func (a *Activities) Judge(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.judge)
}

func (a *Activities) judge(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.JudgeParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	predictions, err := t.predictions(ctx)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTest)
	if err != nil {
		return output{}, err
	}
	byPlace := placed(predictions)
	var turns []esc.Turn
	for _, turn := range esc.AllTurns(corpus[results.FileTest]) {
		if _, ok := byPlace[turn.Place()]; ok {
			turns = append(turns, turn)
		}
	}
	j, err := t.judge(ctx, params.JudgeModel)
	if err != nil {
		return output{}, err
	}
	rows, err := t.judgedRows(ctx, "judge", drawTurns(turns, params.Samples, params.Seed), func(ctx context.Context, turn esc.Turn) ([]any, error) {
		row, err := judgeReply(ctx, j, turn, byPlace[turn.Place()])
		return []any{row}, err
	})
	if err != nil {
		return output{}, err
	}
	all, err := results.DecodeRows[results.Judged](rows)
	if err != nil {
		return output{}, err
	}
	sum, example := results.SumJudged(j.Name(), all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "replies", example); err != nil {
		// Another attempt asks about these replies again; the others' verdicts
		// are in the cache.
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	return t.judgedOutput(rows, sum)
}

// judgeReply judges one reply. One that the judge has no verdict on gives a row
// that says so.
func judgeReply(ctx context.Context, j judge.Judge, turn esc.Turn, p results.Prediction) (results.Judged, error) {
	row := results.Judged{Place: turn.Place()}
	strategy := esc.NoStrategy
	if p.Strategy != "" {
		var err error
		if strategy, err = esc.ParseStrategy(p.Strategy); err != nil {
			return row, badInput(err)
		}
	}
	r := judge.Request{Context: turn.Context, Gold: esc.NoStrategy, Strategy: strategy, Response: p.Response}
	v, err := j.Label(ctx, r)
	if err == nil {
		row.Scores, err = j.Score(ctx, r)
		row.Findings = v.Findings
	}
	if errors.Is(err, judge.ErrUnusable) {
		return results.Judged{Place: turn.Place(), Problem: err.Error()}, nil
	}
	return row, err
}

func (t *attempt) judgedOutput(rows []byte, sum results.Verdict) (output, error) {
	var err error
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"fluency": sum.Scores.Fluency, "professionalism": sum.Scores.Professionalism,
		"empathy": sum.Scores.Empathy, "helpfulness": sum.Scores.Helpfulness, "judged": float64(sum.Samples),
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[results.FileJudged], err = t.create(results.FileJudged, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	if out.files[results.FileVerdict], err = t.createJSON(results.FileVerdict, sum); err != nil {
		return output{}, err
	}
	return out, nil
}

// predictions loads the input that is a generation.
func (t *attempt) predictions(ctx context.Context) ([]results.Prediction, error) {
	return t.predictionsOf(ctx, "generate")
}

// placed finds predictions by dialogue and turn.
func placed(predictions []results.Prediction) map[esc.Place]results.Prediction {
	at := make(map[esc.Place]results.Prediction, len(predictions))
	for _, p := range predictions {
		at[p.Place] = p
	}
	return at
}

func (t *attempt) predictionsOf(ctx context.Context, input string) ([]results.Prediction, error) {
	dir, err := t.input(ctx, input)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, results.FilePredictions))
	if err != nil {
		return nil, err
	}
	rows, err := results.DecodeRows[results.Prediction](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", results.FilePredictions, err)
	}
	return rows, nil
}
