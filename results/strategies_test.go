package results

import (
	"math"
	"testing"

	"github.com/esclab/esclab/esc"
)

// named are the tokens of eight names of which three begin alike, and their
// log-probabilities: of the three 0.2, 0.2 and 0.1, of the other five 0.1 each.
func named() (StrategyNames, StrategyScores) {
	var n StrategyNames
	s := StrategyScores{GoldStrategy: esc.Question.String()}
	for i := range n.Tokens {
		if i < 3 {
			n.Tokens[i] = []int32{100, int32(i)}
			s.LogProbabilities[i] = []float32{float32(math.Log(0.5)), float32(math.Log([]float64{0.4, 0.4, 0.2}[i]))}
		} else {
			n.Tokens[i] = []int32{int32(100 + i)}
			s.LogProbabilities[i] = []float32{float32(math.Log(0.1))}
		}
	}
	return n, s
}

func TestProbabilitiesAtTemperatures(t *testing.T) {
	n, s := named()
	if m := s.Mass(); math.Abs(m-1) > 1e-6 {
		t.Errorf("mass %v, want 1", m)
	}
	for _, c := range []struct {
		temperature float64
		want        [3]float64 // of a name of the three, the last of them, one of the five
	}{
		{1, [3]float64{0.2, 0.1, 0.1}},
		{0, [3]float64{1, 0, 0}},
		// 25 : 1 : 1 : 1 : 1 : 1, then 4 : 4 : 1.
		{0.5, [3]float64{25. / 30 * 4 / 9, 25. / 30 / 9, 1. / 30}},
	} {
		got := n.Probabilities(s, c.temperature)
		total := 0.0
		for _, p := range got {
			total += p
		}
		for i, at := range []int{0, 2, 7} {
			if math.Abs(got[at]-c.want[i]) > 1e-6 {
				t.Errorf("temperature %g: strategy %d has %v, want %v", c.temperature, at, got[at], c.want[i])
			}
		}
		if math.Abs(total-1) > 1e-9 {
			t.Errorf("temperature %g: the probabilities sum to %v, want 1", c.temperature, total)
		}
	}
}

func TestStrategyCurve(t *testing.T) {
	n, s := named()
	numbers, mass, err := StrategyCurve(t.Context(), n, []StrategyScores{s, s}, 1)
	if err != nil || len(numbers) != len(Temperatures()) || math.Abs(mass-1) > 1e-6 {
		t.Fatalf("%d temperatures, mass %v, %v: want one number each and mass 1", len(numbers), mass, err)
	}
	if numbers[0].WeightedF1 != 100 || numbers[4].WeightedF1 >= numbers[3].WeightedF1 {
		t.Errorf("weighted F1 %v greedy, %v at 0.7, %v at 1, want 100 and falling", numbers[0].WeightedF1, numbers[3].WeightedF1, numbers[4].WeightedF1)
	}
	s.LogProbabilities[0] = s.LogProbabilities[0][:1]
	if _, _, err := StrategyCurve(t.Context(), n, []StrategyScores{s}, 1); err == nil {
		t.Error("a name without its last token is taken")
	}
}
