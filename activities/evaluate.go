package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/results"
)

// runScore computes the automatic metrics of one system's predictions.
func runScore(ctx context.Context, t *attempt, _ experiments.ScoreParams) (output, error) {
	predictions, err := readPredictions(ctx, t, "generate")
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
	return output{files: map[string]string{results.FileScores: path}, metrics: results.AutomaticColumns(scores.Average)}, nil
}

// runBias computes the strategy metrics: preference bias, weighted and macro F1.
func runBias(ctx context.Context, t *attempt, _ experiments.BiasParams) (output, error) {
	predictions, err := readPredictions(ctx, t, "generate")
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
	return output{files: map[string]string{results.FileBias: path}, metrics: results.StrategyColumns(bias)}, nil
}

// runJudge scores one system's replies and labels their psychological errors. The
// gold strategy is not shown to the judge: whether a reply has it is what the
// strategy metrics measure.
func runJudge(ctx context.Context, t *attempt, params experiments.JudgeParams) (output, error) {
	predictions, err := readPredictions(ctx, t, "generate")
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTest)
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
	j, err := openJudge(ctx, t, params.JudgeModel)
	if err != nil {
		return output{}, err
	}
	rows, err := judgedRows(ctx, t, "judge", drawTurns(turns, params.Samples, params.Seed), func(ctx context.Context, turn esc.Turn) ([]results.Judged, error) {
		row, err := judgeReply(ctx, j, turn, byPlace[turn.Place()])
		return []results.Judged{row}, err
	})
	if err != nil {
		return output{}, err
	}
	sum, example := results.SumJudged(j.Name(), rows.all)
	if params.Judge == experiments.JudgeOpenAI {
		sum.Protocol = string(cmp.Or(params.Protocol, experiments.ProtocolJoint))
	}
	if err := tooFewVerdicts(t, sum.Unjudged, len(rows.all), "replies", example); err != nil {
		// Another attempt asks about these replies again; the others' verdicts
		// are in the cache.
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	return judgedOutput(t, rows, sum)
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
	r := judge.Request{Context: turn.Context, Gold: esc.NoStrategy, Strategy: strategy, Response: p.Response, Reference: turn.Response}
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

func judgedOutput(t *attempt, rows *rowFile[results.Judged], sum results.Verdict) (output, error) {
	var err error
	out := output{files: map[string]string{}, metrics: map[string]float64{"judged": float64(sum.Samples)}}
	if sum.Samples > 0 {
		maps.Copy(out.metrics, results.JudgedColumns(sum.Scores))
	}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[results.FileJudged], err = t.create(results.FileJudged, rows.write); err != nil {
		return output{}, err
	}
	if out.files[results.FileVerdict], err = t.createJSON(results.FileVerdict, sum); err != nil {
		return output{}, err
	}
	return out, nil
}

// placed finds predictions by dialogue and turn.
func placed(predictions []results.Prediction) map[esc.Place]results.Prediction {
	at := make(map[esc.Place]results.Prediction, len(predictions))
	for _, p := range predictions {
		at[p.Place] = p
	}
	return at
}

func readPredictions(ctx context.Context, t *attempt, input string) ([]results.Prediction, error) {
	dir, err := t.input(ctx, input)
	if err != nil {
		return nil, err
	}
	return results.ReadRows[results.Prediction](results.Dir(dir), results.FilePredictions)
}
