package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Prefer asks the judge which of two systems' replies it prefers, in both
// orders, at the turns that the judge stages draw.
func (a *Activities) Prefer(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.prefer)
}

func (a *Activities) prefer(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.PreferParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	corpus, err := t.readCorpus(ctx, results.FileTest)
	if err != nil {
		return output{}, err
	}
	var replies [2]map[esc.Place]results.Prediction
	for i, name := range []string{"first", "second"} {
		predictions, err := t.predictionsOf(ctx, name)
		if err != nil {
			return output{}, err
		}
		replies[i] = placed(predictions)
	}
	var turns []esc.Turn
	for _, turn := range esc.AllTurns(corpus[results.FileTest]) {
		at := turn.Place()
		_, first := replies[0][at]
		_, second := replies[1][at]
		if first != second {
			return output{}, badInput(fmt.Errorf("dialogue %d, turn %d: only one of %s and %s replies to it", turn.Dialogue, turn.Index, params.First, params.Second))
		}
		if first {
			turns = append(turns, turn)
		}
	}
	j, err := t.judge(ctx, params.JudgeModel)
	if err != nil {
		return output{}, err
	}
	rows, err := t.judgedRows(ctx, "prefer", drawTurns(turns, params.Samples, params.Seed), func(ctx context.Context, turn esc.Turn) ([]any, error) {
		at := turn.Place()
		row, err := prefer(ctx, j, turn, replies[0][at].Response, replies[1][at].Response)
		return []any{row}, err
	})
	if err != nil {
		return output{}, err
	}
	all, err := results.DecodeRows[results.Compared](rows)
	if err != nil {
		return output{}, err
	}
	sum, example := results.SumCompared(j.Name(), params.First, params.Second, all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "comparisons", example); err != nil {
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"compared": float64(sum.Samples), "wins": float64(sum.Wins), "ties": float64(sum.Ties), "losses": float64(sum.Losses), "win_rate": sum.WinRate,
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[results.FileCompared], err = t.create(results.FileCompared, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	out.files[results.FilePreference], err = t.createJSON(results.FilePreference, sum)
	return out, err
}

// prefer compares the replies at one turn. Equal ones are a tie about which
// nobody is asked.
func prefer(ctx context.Context, j judge.Judge, turn esc.Turn, first, second string) (results.Compared, error) {
	row := results.Compared{Place: turn.Place()}
	if strings.TrimSpace(first) == strings.TrimSpace(second) {
		row.Preference = judge.Preference{First: 0.5, Reasons: [2]string{"the replies are equal", "the replies are equal"}}
		return row, nil
	}
	p, err := j.Prefer(ctx, judge.Comparison{Context: turn.Context, First: first, Second: second})
	if errors.Is(err, judge.ErrUnusable) {
		row.Problem = err.Error()
		return row, nil
	}
	row.Preference = p
	return row, err
}
