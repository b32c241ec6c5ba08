package activities

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// scoredSystem makes ten dialogues of two turns. The first turn of each is judged
// with the given score on all four dimensions, and clean in the first `clean`
// dialogues.
func scoredSystem(score float64, clean int, predicted func(gold int) int) []results.ScoredTurn {
	var turns []results.ScoredTurn
	for d := range 10 {
		for k := range 2 {
			gold := (2*d + k) % esc.NumStrategies
			turn := results.ScoredTurn{Place: esc.Place{Dialogue: d, Turn: k}, Gold: gold, Predicted: predicted(gold),
				Automatic: metrics.Scores{Bleu1: float64(10 * d), F1: 7}}
			if k == 0 {
				turn.Judged, turn.Clean = true, d < clean
				turn.Scores = judge.Scores{Fluency: score, Professionalism: score, Empathy: score, Helpfulness: score}
			}
			turns = append(turns, turn)
		}
	}
	return turns
}

func always(int) int     { return 0 }
func right(gold int) int { return gold }

func TestIntervalsStandAroundTheColumns(t *testing.T) {
	got, err := results.Intervals(t.Context(), [][]results.ScoredTurn{scoredSystem(3, 10, right)}, 17)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]results.Interval{}
	for _, i := range got {
		by[i.Column] = i
	}
	if len(by) != 11 {
		t.Fatalf("%d columns, want Table 3's eleven", len(by))
	}
	// The same in every dialogue: no resample differs.
	for column, want := range map[string]float64{"f1": 7, "fluency": 3, "weighted_f1": 100, "macro_f1": 100} {
		if i := by[column]; math.Abs(i.Low-want) > 1e-9 || math.Abs(i.High-want) > 1e-9 {
			t.Errorf("%s: %v … %v, want %v", column, i.Low, i.High, want)
		}
	}
	// The dialogues' means are 0, 10, … 90: mean 45, deviation √825; that of
	// the mean of ten is √82.5 = 9.08, and 1.96 times that 17.8. Twenty turns
	// taken for independent would give 12.6.
	if i := by["bleu_1"]; math.Abs(45-i.Low-17.8) > 2 || math.Abs(i.High-45-17.8) > 2 {
		t.Errorf("bleu_1: %v … %v, want about 27.2 … 62.8", i.Low, i.High)
	}
}

func TestAnswersOnHandCheckedSystems(t *testing.T) {
	systems := map[string][][]results.ScoredTurn{
		"vanilla/sft":   {scoredSystem(2, 0, always)},
		"vanilla/dpo":   {scoredSystem(2.5, 0, always)},
		"decoupled/sft": {scoredSystem(2.5, 5, right)},
		"decoupled/dpo": {scoredSystem(2, 10, right)},
	}
	got, err := answers(t.Context(), systems, []uint64{17}, 17)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d questions", len(got))
	}
	check := func(e report.Effect, difference, low, high float64, significant bool, turns int) {
		t.Helper()
		for _, v := range []struct {
			name      string
			got, want float64
		}{{"difference", *e.Difference, difference}, {"low", *e.Low, low}, {"high", *e.High, high}} {
			if math.Abs(v.got-v.want) > 1e-9 {
				t.Errorf("%+v: %s %v, want %v", e.Contrast, v.name, v.got, v.want)
			}
		}
		if (*e.P < 0.05) != significant {
			t.Errorf("%+v: p = %v", e.Contrast, *e.P)
		}
		if e.Dialogues != 10 || e.Turns != turns {
			t.Errorf("%+v: %d turns of %d dialogues", e.Contrast, e.Turns, e.Dialogues)
		}
	}
	// RQ1: the same strategies, half a point more quality in every dialogue:
	// two of the 1024 ways to swap are as far from 0.
	check(got[0].Effects[0], 0, 0, 0, false, 20)
	check(got[0].Effects[1], 0.5, 0.5, 0.5, true, 10)
	// RQ3: the quality falls by half a point.
	check(got[2].Effects[1], -0.5, -0.5, -0.5, true, 10)
	// RQ4: no reply without an error against all.
	check(got[3].Effects[0], 100, 100, 100, true, 10)
	// RQ2: a planner that is always right has no bias; one that always says
	// the first strategy has.
	if e := got[1].Effects[0]; !(*e.Difference < 0) {
		t.Errorf("bias of the decoupled system: %v above the vanilla one's", *e.Difference)
	}
	// The headline is the claim between the most trained systems of both paradigms.
	claim, err := effects(t.Context(), report.Headline(slices.Collect(maps.Keys(systems))), systems, []uint64{17}, 17)
	if err != nil || len(claim) != 3 || claim[0].System != "decoupled/dpo" || claim[0].Against != "vanilla/dpo" {
		t.Fatalf("headline: %+v, %v; want three effects of decoupled/dpo against vanilla/dpo", claim, err)
	}
	if claim[0].Measure != report.MeasureBias || *claim[0].Difference != *got[1].Effects[2].Difference {
		t.Errorf("headline: %+v, want RQ2's bias", claim[0])
	}
	constant, _ := results.StrategyOf(systems["vanilla/dpo"][0])
	if d := *claim[1].Difference; claim[1].Measure != report.MeasureStrategy || math.Abs(d-(100-constant.WeightedF1)) > 1e-9 || claim[1].Turns != 20 {
		t.Errorf("headline: %+v, want all of 100 %% less the constant planner's %v", claim[1], constant.WeightedF1)
	}
	check(claim[2], -0.5, -0.5, -0.5, true, 10)
	delete(systems, "decoupled/dpo")
	if claim, err = effects(t.Context(), report.Headline(slices.Collect(maps.Keys(systems))), systems, []uint64{17}, 17); err != nil || claim[0].System != "decoupled/sft" || claim[0].Against != "vanilla/sft" {
		t.Errorf("headline without decoupled/dpo: %+v, %v; want decoupled/sft against vanilla/sft", claim, err)
	}
	systems["decoupled/dpo"] = [][]results.ScoredTurn{scoredSystem(2, 10, right)}
	again, err := answers(t.Context(), systems, []uint64{17}, 17)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		for k, e := range got[i].Effects {
			if a := again[i].Effects[k]; *a.Low != *e.Low || *a.P != *e.P {
				t.Errorf("%s: another answer to the same data", got[i].Name)
			}
		}
	}
}

func TestAnswersWithoutTheSystems(t *testing.T) {
	got, err := answers(t.Context(), map[string][][]results.ScoredTurn{"vanilla/sft": {scoredSystem(2, 0, right)}}, []uint64{1}, 1)
	if err != nil || len(got) != 0 {
		t.Errorf("one system: %d questions, %v", len(got), err)
	}
	got, err = answers(t.Context(), map[string][][]results.ScoredTurn{
		"vanilla/sft": {scoredSystem(2, 0, right)}, "decoupled/sft": {scoredSystem(2, 0, right)}}, []uint64{1}, 1)
	if err != nil || len(got) != 1 || got[0].Name != "RQ2" || got[0].Effects[2].Difference != nil {
		t.Errorf("no DPO: %+v, %v", got, err)
	}
}

// TestAnswersOverSeeds: the effect is the mean over the seeds, the interval
// covers them, and more seeds of one and the same model prove nothing more.
func TestAnswersOverSeeds(t *testing.T) {
	at := func(scores ...float64) (runs [][]results.ScoredTurn) {
		for _, s := range scores {
			runs = append(runs, scoredSystem(s, 0, right))
		}
		return runs
	}
	seeds := []uint64{4, 5, 6}
	quality := func(against [][]results.ScoredTurn) report.Effect {
		t.Helper()
		got, err := answers(t.Context(), map[string][][]results.ScoredTurn{"vanilla/sft": at(2, 2, 2), "vanilla/dpo": against}, seeds, 17)
		if err != nil || len(got) != 1 || got[0].Name != "RQ1" {
			t.Fatalf("%+v, %v", got, err)
		}
		return got[0].Effects[1]
	}
	same := quality(at(2.5, 2.5, 2.5))
	if math.Abs(*same.Difference-0.5) > 1e-9 || math.Abs(*same.Low-0.5) > 1e-9 || *same.P > 0.05 || same.Turns != 10 || same.Dialogues != 10 {
		t.Errorf("three equal seeds: %+v", same)
	}
	// 0.5 on average, and -0.1, 0.6 and 1: their standard deviation is √0.31, and
	// Student's t of two degrees of freedom 4.3027.
	apart := quality(at(1.9, 2.6, 3))
	if half := 4.3027 * math.Sqrt(0.31/3); math.Abs(*apart.Difference-0.5) > 1e-9 || math.Abs(*apart.Low-0.5+half) > 1e-4 || math.Abs(*apart.High-0.5-half) > 1e-4 {
		t.Errorf("three unlike seeds: %v (%v … %v)", *apart.Difference, *apart.Low, *apart.High)
	}
	if len(apart.Seeds) != 3 || apart.Seeds[1].Seed != 5 || math.Abs(*apart.Seeds[1].Difference-0.6) > 1e-9 {
		t.Errorf("by seed: %+v", apart.Seeds)
	}
}
