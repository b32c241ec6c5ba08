package metrics

import (
	"math"
	"testing"
)

// Four dialogues, each with the difference 1: of the sixteen ways to swap,
// two (none, all) are as far from 0, so that p is 1/8. With the differences
// 3, 1, 1, -1 the sum is 4; sums of ±3±1±1±1 with |sum| >= 4: 6, 4, 4, 4 and
// their negatives, 8 of 16: p is 1/2.
func TestPermutationOnCountedCases(t *testing.T) {
	swap := func(v float64) float64 { return -v }
	for _, c := range []struct {
		groups [][]float64
		want   float64
	}{
		{[][]float64{{1}, {1}, {1}, {1}}, 1. / 8},
		{[][]float64{{3}, {1}, {1}, {-1}}, 1. / 2},
		{[][]float64{{0}, {0}, {0}}, 1},
		// One dialogue of many turns is one observation, not many.
		{[][]float64{{1, 1, 1, 1, 1, 1, 1, 1}}, 1},
	} {
		p, err := PermutationOver(t.Context(), [][][]float64{c.groups}, swap, func(v []float64) []float64 { return []float64{average(v), math.NaN()} }, 8000, 3)
		if err != nil {
			t.Fatal(err)
		}
		// Four standard errors of a share of 8000.
		if math.Abs(p[0]-c.want) > 4*math.Sqrt(0.25/8000) {
			t.Errorf("%v: p = %v, want %v", c.groups, p[0], c.want)
		}
		if !math.IsNaN(p[1]) {
			t.Errorf("p of an undefined statistic is %v", p[1])
		}
	}
	if _, err := PermutationOver(t.Context(), [][][]float64{nil}, swap, func([]float64) []float64 { return nil }, 1, 1); err == nil {
		t.Error("no groups: no error")
	}
	if _, err := PermutationOver(t.Context(), [][][]float64{{{1}}}, swap, func([]float64) []float64 { return nil }, 0, 1); err == nil {
		t.Error("no rounds: no error")
	}
}

func TestBootstrapsAgreesWithBootstrap(t *testing.T) {
	groups := [][]float64{{1, 2}, {5}, {3, 3, 4}, {9}}
	one, err := Bootstrap(t.Context(), groups, average, 200, 7)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Bootstraps(t.Context(), groups, func(v []float64) []float64 { return []float64{math.NaN(), average(v)} }, 200, 7)
	if err != nil {
		t.Fatal(err)
	}
	if all[1] != one {
		t.Errorf("%+v together, %+v alone", all[1], one)
	}
	if all[0].Undefined != 200 || !math.IsNaN(all[0].Low) {
		t.Errorf("an undefined statistic: %+v", all[0])
	}
}
