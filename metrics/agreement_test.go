package metrics

import (
	"math"
	"testing"
)

// ratings repeats (a, b) count times for each entry.
func ratings(table map[[2]int]int) (a, b []int) {
	for pair, count := range table {
		for range count {
			a, b = append(a, pair[0]), append(b, pair[1])
		}
	}
	return a, b
}

func TestCohenKappa(t *testing.T) {
	for _, c := range []struct {
		name  string
		table map[[2]int]int
		want  float64
		n     int
	}{
		// po = 35/50 = 0.7; pe = 0.5·0.6 + 0.5·0.4 = 0.5; 0.2/0.5.
		{"two categories", map[[2]int]int{{0, 0}: 20, {0, 1}: 5, {1, 0}: 10, {1, 1}: 15}, 0.4, 50},
		// po = 6/10; pe = 0.5·0.5 + 0.3·0.3 + 0.2·0.2 = 0.38; 0.22/0.62.
		{"three categories", map[[2]int]int{{0, 0}: 3, {0, 1}: 1, {0, 2}: 1, {1, 1}: 2, {1, 0}: 1, {2, 2}: 1, {2, 0}: 1}, 11.0 / 31, 10},
		{"never of one mind", map[[2]int]int{{0, 1}: 5, {1, 0}: 5}, -1, 10},
		{"whole agreement", map[[2]int]int{{0, 0}: 3, {2, 2}: 4}, 1, 7},
		{"one category", map[[2]int]int{{1, 1}: 9}, math.NaN(), 9},
		{"missing ones", map[[2]int]int{{0, 0}: 3, {2, 2}: 4, {Missing, 0}: 5, {1, Missing}: 2}, 1, 7},
		{"nothing", nil, math.NaN(), 0},
	} {
		a, b := ratings(c.table)
		got, n := CohenKappa(a, b)
		if !closeTo(got, c.want) || n != c.n {
			t.Errorf("%s: %v of %d, want %v of %d", c.name, got, n, c.want, c.n)
		}
	}
}

func closeTo(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12 }

func TestKrippendorffAlpha(t *testing.T) {
	const x = Missing
	raters := [][]int{ // Krippendorff 2011, section C: four observers, twelve units
		{1, 2, 3, 3, 2, 1, 4, 1, 2, x, x, x},
		{1, 2, 3, 3, 2, 2, 4, 1, 2, 5, x, 3},
		{x, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, x},
		{1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, x},
	}
	units := make([][]int, 12)
	for u := range units {
		for _, r := range raters {
			units[u] = append(units[u], r[u])
		}
	}
	// The paper prints 0.743; 40 of the 41 ratings have a partner in their unit.
	if alpha, n := KrippendorffAlpha(units); math.Abs(alpha-0.743) > 5e-4 || n != 40 {
		t.Errorf("alpha %.4f of %d ratings, the paper has 0.743 of 40", alpha, n)
	}
	// Two raters, three units: one of three disagrees. Do = 2/6 of the pairs;
	// totals 3 and 3, so De = 18/30 of all pairs: 1 - (1/3)/(3/5) = 4/9.
	if alpha, n := KrippendorffAlpha([][]int{{0, 0}, {1, 1}, {0, 1}}); !closeTo(alpha, 4.0/9) || n != 6 {
		t.Errorf("alpha %v of %d, want 4/9 of 6", alpha, n)
	}
	for name, units := range map[string][][]int{"one category": {{1, 1}, {1, 1}}, "single ratings": {{1}, {0, x}}, "nothing": nil} {
		if alpha, _ := KrippendorffAlpha(units); !math.IsNaN(alpha) {
			t.Errorf("%s: alpha %v", name, alpha)
		}
	}
}
