package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
)

// classesFor gives n gold classes in unequal shares and predictions that are
// right in the given share, else drawn by the gold classes' shares.
func classesFor(n int, right float64) (gold, predicted []int) {
	random := rand.New(rand.NewPCG(3, 0))
	class := func() int { return []int{0, 0, 0, 0, 1, 1, 2, 3}[random.IntN(8)] }
	for range n {
		gold = append(gold, class())
		if random.Float64() < right {
			predicted = append(predicted, gold[len(gold)-1])
		} else {
			predicted = append(predicted, class())
		}
	}
	return gold, predicted
}

func TestBiasFloor(t *testing.T) {
	floor := func(gold, predicted []int) (mean, high float64) {
		t.Helper()
		mean, high, err := BiasFloor(t.Context(), [][]int{gold}, [][]int{predicted}, 4, 200, 1)
		if err != nil {
			t.Fatal(err)
		}
		return mean, high
	}
	gold, predicted := classesFor(400, 0.2)
	few, high := floor(gold, predicted)
	r, err := Strategy(gold, predicted, 4)
	if err != nil {
		t.Fatal(err)
	}
	if few <= 0.02 || r.PreferenceBias > high || high <= few {
		t.Errorf("a predictor without a preference has B %.3f; floor %.3f, 95th percentile %.3f, want it below", r.PreferenceBias, few, high)
	}
	many, _ := floor(classesFor(40000, 0.2))
	if many > few/5 {
		t.Errorf("floor %.4f with 400 turns, %.4f with 40000, want a tenth of it", few, many)
	}
	for i := range predicted {
		if predicted[i] == 1 {
			predicted[i] = 0
		}
	}
	if r, err = Strategy(gold, predicted, 4); err != nil {
		t.Fatal(err)
	}
	if _, high := floor(gold, predicted); r.PreferenceBias <= high {
		t.Errorf("a predictor that prefers a class has B %.3f, want it above the 95th percentile %.3f of those that prefer none", r.PreferenceBias, high)
	}
	if _, _, err := BiasFloor(t.Context(), [][]int{{1}}, [][]int{{Unparsed}}, 4, 10, 1); err == nil {
		t.Error("no prediction has a floor")
	}
}

// TestBiasFloorOfESConv: what the gold strategies of the authors' test turns
// allow, by how often a predictor is right.
func TestBiasFloorOfESConv(t *testing.T) {
	var inputs []goldenInput
	golden(t, "inputs.json", &inputs)
	var gold []int
	index := map[string]int{}
	for _, in := range inputs {
		if _, known := index[in.GoldStrategy]; !known {
			index[in.GoldStrategy] = len(index)
		}
		gold = append(gold, index[in.GoldStrategy])
	}
	for _, every := range []int{4, 3, 2} { // right in a share of 1/every
		predicted := make([]int, len(gold))
		for i := range gold {
			if predicted[i] = gold[i]; i%every > 0 {
				predicted[i] = (gold[i] + 1) % len(index)
			}
		}
		mean, high, err := BiasFloor(t.Context(), [][]int{gold}, [][]int{predicted}, len(index), 300, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d turns, right in 1/%d: floor %.3f, 95th percentile %.3f", len(gold), every, mean, high)
		if mean < 0.05 || mean > 0.2 || high < mean {
			t.Errorf("right in 1/%d: floor %.3f, 95th percentile %.3f, want about 0.1", every, mean, high)
		}
	}
}

func TestStrategyCountingAll(t *testing.T) {
	gold, predicted := classesFor(400, 0.5)
	without, err := Strategy(gold, predicted, 4)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, got StrategyNumbers) {
		t.Helper()
		if want := (StrategyNumbers{without.PreferenceBias, without.WeightedF1, without.MacroF1}); got != want {
			t.Errorf("%s: %+v, want %+v as of Strategy", what, got, want)
		}
	}
	all, err := StrategyCountingAll(gold, predicted, 4)
	if err != nil {
		t.Fatal(err)
	}
	same("all of them named", all)

	sure := make([][]float64, len(gold))
	for i, p := range predicted {
		sure[i] = make([]float64, 4)
		sure[i][p] = 1
	}
	drawn, err := StrategyDrawn(t.Context(), gold, sure, 4, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	same("sure of what it predicts", drawn)

	// 4 turns of two classes; one prediction is right, one wrong, two name nothing.
	all, err = StrategyCountingAll([]int{0, 0, 1, 1}, []int{0, Unparsed, 0, Unparsed}, 2)
	if err != nil {
		t.Fatal(err)
	}
	// Class 0: 1 right of 2 gold and 2 predicted, F1 2/4; class 1: none right.
	if math.Abs(all.MacroF1-25) > 1e-9 || math.Abs(all.WeightedF1-25) > 1e-9 {
		t.Errorf("two of four name nothing: %+v, want F1 25", all)
	}
	// 0 is given for 1 by 1 + 1, 1 for 0 by 1: preferences 4/3 and 2/3.
	if math.Abs(all.PreferenceBias-1./3) > 1e-9 {
		t.Errorf("two of four name nothing: B %v, want 1/3", all.PreferenceBias)
	}
}

// TestStrategyDrawn: probabilities that are alike on every turn prefer what is
// seldom gold.
func TestStrategyDrawn(t *testing.T) {
	var gold []int
	var even [][]float64
	for k := range 4000 {
		gold, even = append(gold, []int{0, 0, 0, 1}[k%4]), append(even, []float64{0.5, 0.5})
	}
	got, err := StrategyDrawn(t.Context(), gold, even, 2, 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	// 1 is given for 0 three times as often as 0 for 1: preferences 3/2 and 1/2.
	if math.Abs(got.PreferenceBias-0.5) > 0.01 {
		t.Errorf("B %v, want about 1/2", got.PreferenceBias)
	}
	// In a quarter of the turns class 0 has 1.5 right of 3 gold and 2 predicted;
	// class 1 has 0.5 of 1 and 2.
	if want := 100 * (0.75*3/5 + 0.25/3); math.Abs(got.WeightedF1-want) > 0.5 {
		t.Errorf("weighted F1 %v, want about %v", got.WeightedF1, want)
	}
	if _, err := StrategyDrawn(t.Context(), gold, even[:3], 2, 1, 1); err == nil {
		t.Error("probabilities for three of four thousand turns are taken")
	}
}
