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
)

// Files of the evaluation artifacts.
const (
	fileScores  = "scores.json"
	fileJudged  = "judged.jsonl"
	fileVerdict = "judge.json"
	fileBias    = "bias.json"
)

// runScore computes the automatic metrics of one system's predictions.
func runScore(ctx context.Context, t *attempt, _ experiments.ScoreParams) (output, error) {
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
	path, err := t.createJSON(fileScores, scores)
	if err != nil {
		return output{}, err
	}
	m := scores.Average
	return output{
		files: map[string]string{fileScores: path},
		metrics: map[string]float64{
			"distinct_1": m.Distinct1, "bleu_1": m.Bleu1, "f1": m.F1, "rouge_l": m.RougeL,
		},
	}, nil
}

// runBias computes the strategy metrics: preference bias, weighted and macro F1.
func runBias(ctx context.Context, t *attempt, _ experiments.BiasParams) (output, error) {
	predictions, err := t.predictions(ctx)
	if err != nil {
		return output{}, err
	}
	gold, predicted := make([]int, len(predictions)), make([]int, len(predictions))
	for i, p := range predictions {
		if gold[i], err = strategyIndex(p.GoldStrategy); err != nil {
			return output{}, badInput(fmt.Errorf("prediction %d: %w", i+1, err))
		}
		if predicted[i], err = strategyIndex(p.Strategy); err != nil {
			return output{}, badInput(fmt.Errorf("prediction %d: %w", i+1, err))
		}
	}
	bias, err := metrics.Strategy(gold, predicted, esc.NumStrategies)
	if err != nil {
		return output{}, badInput(err)
	}
	path, err := t.createJSON(fileBias, bias)
	if err != nil {
		return output{}, err
	}
	return output{
		files: map[string]string{fileBias: path},
		metrics: map[string]float64{
			"preference_bias": bias.PreferenceBias, "weighted_f1": bias.WeightedF1, "macro_f1": bias.MacroF1,
		},
	}, nil
}

// strategyIndex is a strategy's class; metrics.Unparsed for "".
func strategyIndex(name string) (int, error) {
	if name == "" {
		return metrics.Unparsed, nil
	}
	s, err := esc.ParseStrategy(name)
	return int(s), err
}

// judged is one reply with what the judge says of it.
type judged struct {
	Dialogue int             `json:"dialogue"`
	Turn     int             `json:"turn"`
	Findings []judge.Finding `json:"findings"`
	Scores   judge.Scores    `json:"scores"`
	// Problem says why the judge gave no verdict; such a reply counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// verdict sums the judged replies up.
type verdict struct {
	Judge   string               `json:"judge"`
	Samples int                  `json:"samples"`
	Scores  judge.Scores         `json:"scores"` // means
	Errors  map[esc.PsyError]int `json:"errors"`
	// Unjudged counts the replies without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// runJudge scores one system's replies and labels their psychological errors. The
// gold strategy is not shown to the judge: whether a reply has it is what the
// strategy metrics measure.
func runJudge(ctx context.Context, t *attempt, params experiments.JudgeParams) (output, error) {
	predictions, err := t.predictions(ctx)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, fileTest)
	if err != nil {
		return output{}, err
	}
	byPlace := placed(predictions)
	var turns []esc.Turn
	for _, turn := range esc.AllTurns(corpus[fileTest]) {
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
	all, err := decodeRows[judged](rows)
	if err != nil {
		return output{}, err
	}
	sum, example := summed(j.Name(), all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "replies", example); err != nil {
		// Another attempt asks about these replies again; the others' verdicts
		// are in the cache.
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	return t.judgedOutput(rows, sum)
}

// judgeReply judges one reply. One that the judge has no verdict on gives a row
// that says so.
func judgeReply(ctx context.Context, j judge.Judge, turn esc.Turn, p prediction) (judged, error) {
	row := judged{Dialogue: turn.Dialogue, Turn: turn.Index}
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
		return judged{Dialogue: turn.Dialogue, Turn: turn.Index, Problem: err.Error()}, nil
	}
	return row, err
}

// summed sums the verdicts up; example is the first reply without one.
func summed(name string, all []judged) (sum verdict, example string) {
	sum = verdict{Judge: name, Errors: map[esc.PsyError]int{}}
	for _, one := range all {
		if one.Problem != "" {
			if sum.Unjudged++; sum.Unjudged == 1 {
				example = fmt.Sprintf("dialogue %d, turn %d: %s", one.Dialogue, one.Turn, one.Problem)
			}
		}
	}
	n := len(all) - sum.Unjudged
	for _, one := range all {
		if one.Problem != "" {
			continue
		}
		sum.Samples++
		for _, f := range one.Findings {
			sum.Errors[f.Error]++
		}
		addShare(&sum.Scores, one.Scores, n)
	}
	return sum, example
}

// addShare adds a score's share of a mean over n.
func addShare(mean *judge.Scores, s judge.Scores, n int) {
	mean.Fluency += s.Fluency / float64(n)
	mean.Professionalism += s.Professionalism / float64(n)
	mean.Empathy += s.Empathy / float64(n)
	mean.Helpfulness += s.Helpfulness / float64(n)
}

func (t *attempt) judgedOutput(rows []byte, sum verdict) (output, error) {
	var err error
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"fluency": sum.Scores.Fluency, "professionalism": sum.Scores.Professionalism,
		"empathy": sum.Scores.Empathy, "helpfulness": sum.Scores.Helpfulness, "judged": float64(sum.Samples),
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[fileJudged], err = t.create(fileJudged, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	if out.files[fileVerdict], err = t.createJSON(fileVerdict, sum); err != nil {
		return output{}, err
	}
	return out, nil
}

// predictions loads the input that is a generation.
func (t *attempt) predictions(ctx context.Context) ([]prediction, error) {
	return t.predictionsOf(ctx, "generate")
}

// placed finds predictions by dialogue and turn.
func placed(predictions []prediction) map[esc.Place]prediction {
	at := make(map[esc.Place]prediction, len(predictions))
	for _, p := range predictions {
		at[esc.Place{Dialogue: p.Dialogue, Turn: p.Turn}] = p
	}
	return at
}

func (t *attempt) predictionsOf(ctx context.Context, input string) ([]prediction, error) {
	dir, err := t.input(ctx, input)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, filePredictions))
	if err != nil {
		return nil, err
	}
	rows, err := decodeRows[prediction](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filePredictions, err)
	}
	return rows, nil
}
