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
)

// Files of a comparison of two systems.
const (
	fileCompared   = "compared.jsonl"
	filePreference = "preference.json"
)

// compared is one turn at which two systems' replies were compared.
type compared struct {
	Dialogue int `json:"dialogue"`
	Turn     int `json:"turn"`
	judge.Preference
	// Problem says why the judge gave no verdict; such a turn counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// preference sums a comparison up.
type preference struct {
	Judge  string `json:"judge"`
	First  string `json:"first"` // the systems' names
	Second string `json:"second"`
	// Samples are the turns with a verdict: Wins of the first system, Ties,
	// where the two orders do not agree on one, and Losses.
	Samples int `json:"samples"`
	Wins    int `json:"wins"`
	Ties    int `json:"ties"`
	Losses  int `json:"losses"`
	// WinRate is the mean share of the first system over the turns and the two
	// orders, 0 to 1; a tie counts half.
	WinRate float64 `json:"win_rate"`
	// Unjudged counts the turns without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// runPrefer asks the judge which of two systems' replies it prefers, in both
// orders, at the turns that the judge stages draw.
func runPrefer(ctx context.Context, t *attempt, params experiments.PreferParams) (output, error) {
	corpus, err := t.readCorpus(ctx, fileTest)
	if err != nil {
		return output{}, err
	}
	var replies [2]map[esc.Place]prediction
	for i, name := range []string{"first", "second"} {
		predictions, err := t.predictionsOf(ctx, name)
		if err != nil {
			return output{}, err
		}
		replies[i] = placed(predictions)
	}
	var turns []esc.Turn
	for _, turn := range esc.AllTurns(corpus[fileTest]) {
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
	all, err := decodeRows[compared](rows)
	if err != nil {
		return output{}, err
	}
	sum := preference{Judge: j.Name(), First: params.First, Second: params.Second}
	example := sum.count(all)
	if err := t.tooFewVerdicts(sum.Unjudged, len(all), "comparisons", example); err != nil {
		return output{}, errors.Join(err, t.lease.DropCheckpoints(ctx))
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"compared": float64(sum.Samples), "wins": float64(sum.Wins), "ties": float64(sum.Ties), "losses": float64(sum.Losses), "win_rate": sum.WinRate,
	}}
	if sum.Unjudged > 0 {
		out.metrics["unjudged"] = float64(sum.Unjudged)
	}
	if out.files[fileCompared], err = t.create(fileCompared, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	out.files[filePreference], err = t.createJSON(filePreference, sum)
	return out, err
}

// prefer compares the replies at one turn. Equal ones are a tie about which
// nobody is asked.
func prefer(ctx context.Context, j judge.Judge, turn esc.Turn, first, second string) (compared, error) {
	row := compared{Dialogue: turn.Dialogue, Turn: turn.Index}
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

// count counts the turns; example is the first one without a verdict.
func (p *preference) count(all []compared) (example string) {
	shares := 0.0
	for _, one := range all {
		if one.Problem != "" {
			if p.Unjudged++; p.Unjudged == 1 {
				example = fmt.Sprintf("dialogue %d, turn %d: %s", one.Dialogue, one.Turn, one.Problem)
			}
			continue
		}
		p.Samples++
		shares += one.First
		switch {
		case one.First > 0.5:
			p.Wins++
		case one.First < 0.5:
			p.Losses++
		default:
			p.Ties++
		}
	}
	if p.Samples > 0 {
		p.WinRate = shares / float64(p.Samples)
	}
	return example
}
