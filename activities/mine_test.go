package activities

import (
	"context"
	"maps"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// knowing is a judge that knows the errors of a few responses.
type knowing struct {
	judge.Judge
	errors map[string]esc.PsyError
}

func (k knowing) Label(_ context.Context, r judge.Request) (judge.Verdict, error) {
	if e, bad := k.errors[r.Response]; bad {
		return judge.Verdict{Findings: []judge.Finding{{Error: e, Reason: "because"}}}, nil
	}
	return judge.Verdict{}, nil
}

func labelOf(errors map[string]esc.PsyError) *labeller { return &labeller{knowing{errors: errors}} }

// A pair's chosen response has none of the errors, whatever the rejected side
// is rejected for: not even one that is counted alone.
func TestQualityFilter(t *testing.T) {
	label := labelOf(map[string]esc.PsyError{"Cheer up.": esc.EarlyEmotionShift, "Stock phrase.": esc.TemplateResponse, "You are glad.": esc.EmotionMisread})
	var turns []esc.Turn
	for d, gold := range []string{"That sounds hard.", "Stock phrase.", "You are glad."} {
		turns = append(turns, esc.Turn{Dialogue: d, Strategy: esc.Reflection, Response: gold, Context: []esc.Message{{Role: "user", Content: "x"}}})
	}
	for _, c := range []struct {
		role    esc.Role
		answers []string
		kept    map[int]int // pairs by dialogue
		dropped int
		misread int
	}{
		{esc.VM, []string{"[Reflection of feelings] Cheer up.", "[Question] Cheer up.", "[Question] Why?", "[Reflection of feelings] Really?"}, map[int]int{0: 3}, 6, 0},
		{esc.RG, []string{"Cheer up.", "You are glad.", "Really?"}, map[int]int{0: 1}, 2, 3},
		{esc.SP, []string{"[Question]", "[Reflection of feelings]"}, map[int]int{0: 1, 1: 1, 2: 1}, 0, 0},
	} {
		label := label
		if c.role == esc.SP {
			label = nil
		}
		faulty, err := faultyGold(t.Context(), turns, label)
		if err != nil {
			t.Fatal(err)
		}
		var samples []results.MinedSample
		for _, turn := range turns {
			for draw, text := range c.answers {
				row, err := readSample(t.Context(), c.role, turn, draw, models.Answer{Text: text}, label)
				if err != nil {
					t.Fatal(err)
				}
				samples = append(samples, row)
			}
		}
		pairs, found := makePairs(c.role, turns, samples, faulty, experiments.MineParams{})
		got := map[int]int{}
		for _, p := range pairs {
			got[p.Dialogue]++
			if len(p.Errors) == 0 || p.Reason == "" {
				t.Errorf("%s: a pair without label or reason: %+v", c.role, p)
			}
		}
		if !maps.Equal(got, c.kept) || found.FaultyChosen != c.dropped || found.Errors[esc.EmotionMisread] != c.misread {
			t.Errorf("%s: pairs %v, dropped %d, misread %d; want %v, %d, %d", c.role, got, found.FaultyChosen, found.Errors[esc.EmotionMisread], c.kept, c.dropped, c.misread)
		}
	}
}

// An answer that never ended makes no pair.
func TestCutAnswersMakeNoPair(t *testing.T) {
	turn := esc.Turn{Strategy: esc.Reflection, Response: "That sounds hard."}
	row, err := readSample(t.Context(), esc.VM, turn, 0, models.Answer{Text: "[Question] Why do you", Cut: true}, labelOf(nil))
	if err != nil {
		t.Fatal(err)
	}
	pairs, found := makePairs(esc.VM, []esc.Turn{turn}, []results.MinedSample{row}, nil, experiments.MineParams{})
	if len(pairs) != 0 || found.Unparsed != 1 {
		t.Errorf("%d pairs, %d unread", len(pairs), found.Unparsed)
	}
}
