package activities

import (
	"context"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
)

// labelOf is a labeller that knows the errors of a few responses.
func labelOf(errors map[string]esc.PsyError) labelFunc {
	return func(_ context.Context, _ esc.Turn, _ esc.Strategy, response string) (judge.Verdict, error) {
		if e, bad := errors[response]; bad {
			return judge.Verdict{Findings: []judge.Finding{{Error: e, Reason: "because"}}}, nil
		}
		return judge.Verdict{}, nil
	}
}

// A pair whose rejected response is punished for an error needs a chosen one
// without; a pair about the strategy alone does not.
func TestQualityFilter(t *testing.T) {
	label := labelOf(map[string]esc.PsyError{"Cheer up.": esc.EarlyEmotionShift, "Stock phrase.": esc.TemplateResponse})
	turns := []esc.Turn{
		{Dialogue: 1, Strategy: esc.Reflection, Response: "That sounds hard.", Context: []esc.Message{{Role: "user", Content: "x"}}},
		{Dialogue: 2, Strategy: esc.Reflection, Response: "Stock phrase.", Context: []esc.Message{{Role: "user", Content: "x"}}},
	}
	faulty, err := faultyGold(t.Context(), turns, label)
	if err != nil {
		t.Fatal(err)
	}
	var samples []minedSample
	for _, turn := range turns {
		for draw, text := range []string{"[Reflection of feelings] Cheer up.", "[Question] Cheer up.", "[Question] Why?"} {
			row, err := readSample(t.Context(), esc.VM, turn, draw, answerText{text: text}, label)
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, row)
		}
	}
	pairs, found := makePairs(esc.VM, turns, samples, faulty, experiments.MineParams{})
	got := map[int][]esc.Kind{}
	for _, p := range pairs {
		got[p.Dialogue] = append(got[p.Dialogue], p.Kind)
	}
	if len(got[1]) != 3 || len(got[2]) != 1 || got[2][0] != esc.NsPr || found.FaultyChosen != 2 {
		t.Errorf("pairs %v, dropped %d", got, found.FaultyChosen)
	}
}

// An answer that never ended makes no pair.
func TestCutAnswersMakeNoPair(t *testing.T) {
	turn := esc.Turn{Strategy: esc.Reflection, Response: "That sounds hard."}
	row, err := readSample(t.Context(), esc.VM, turn, 0, answerText{text: "[Question] Why do you", cut: true}, labelOf(nil))
	if err != nil {
		t.Fatal(err)
	}
	pairs, found := makePairs(esc.VM, []esc.Turn{turn}, []minedSample{row}, nil, experiments.MineParams{})
	if len(pairs) != 0 || found.Unparsed != 1 {
		t.Errorf("%d pairs, %d unread", len(pairs), found.Unparsed)
	}
}
