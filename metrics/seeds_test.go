package metrics

import (
	"math"
	"testing"
)

// TestBootstrapsOverCountsBothSources: dialogues and seeds vary independently;
// the interval of the mean of a two-way layout has the width that its two
// variances give.
func TestBootstrapsOverCountsBothSources(t *testing.T) {
	mean := func(v []float64) []float64 { return []float64{average(v)} }
	layout := func(seeds, dialogues []float64) [][][]float64 {
		runs := make([][][]float64, len(seeds))
		for k, a := range seeds {
			for _, b := range dialogues {
				runs[k] = append(runs[k], []float64{a + b})
			}
		}
		return runs
	}
	var spread []float64 // 64 dialogues at -1 and 1: the mean's deviation is 1/8
	for i := range 64 {
		spread = append(spread, float64(2*(i%2)-1))
	}
	seeds := []float64{-3, -1, 0, 1, 3, 0, -3, 3} // variance 38/7, that of the mean 0.679
	for _, c := range []struct {
		name string
		runs [][][]float64
		want float64 // half the interval
	}{
		{"dialogues alone", layout([]float64{0, 0, 0, 0}, spread), 1.96 / 8},
		{"seeds alone", layout(seeds, make([]float64, 64)), 2.3646 * math.Sqrt(38./7/8)},
		{"both", layout(seeds, spread), math.Hypot(2.3646*math.Sqrt(38./7/8), 1.96/8)},
	} {
		got, err := BootstrapsOver(t.Context(), c.runs, mean, 4000, 5)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got[0].Estimate) > 1e-12 || math.Abs(got[0].High-c.want) > 0.12*c.want+0.01 || math.Abs(got[0].Low+c.want) > 0.12*c.want+0.01 {
			t.Errorf("%s: %v … %v, want about ±%v", c.name, got[0].Low, got[0].High, c.want)
		}
	}
}

// TestOneRunIsTheBootstrap: with one seed nothing is drawn but dialogues.
func TestOneRunIsTheBootstrap(t *testing.T) {
	groups := [][]float64{{1, 2}, {5}, {3, 3, 4}, {9}}
	mean := func(v []float64) []float64 { return []float64{average(v)} }
	one, err := Bootstrap(t.Context(), groups, average, 200, 7)
	if err != nil {
		t.Fatal(err)
	}
	over, err := BootstrapsOver(t.Context(), [][][]float64{groups}, mean, 200, 7)
	if err != nil || over[0] != one {
		t.Errorf("%+v over one run, %+v (%v)", over[0], one, err)
	}
	twice, err := BootstrapsOver(t.Context(), [][][]float64{groups, groups}, mean, 200, 7)
	if err != nil || math.Abs(twice[0].Low-one.Low)+math.Abs(twice[0].High-one.High) > 1e-9 {
		t.Errorf("%+v over a run and its copy, %+v (%v)", twice[0], one, err)
	}
	if _, err := BootstrapsOver(t.Context(), [][][]float64{groups, groups[1:]}, mean, 10, 1); err == nil {
		t.Error("other dialogues in the second run: no error")
	}
	if _, err := BootstrapsOver(t.Context(), [][][]float64{}, mean, 10, 1); err == nil {
		t.Error("no run: no error")
	}
}

// TestPermutationOverSwapsAllRuns: a dialogue's systems change places in all
// runs at once, so that more seeds of the same models prove nothing more.
func TestPermutationOverSwapsAllRuns(t *testing.T) {
	swap := func(v float64) float64 { return -v }
	mean := func(v []float64) []float64 { return []float64{average(v)} }
	groups := [][]float64{{1}, {1}, {1}, {1}} // p is 1/8, see TestPermutationOnCountedCases
	p, err := PermutationOver(t.Context(), [][][]float64{groups, groups, groups}, swap, mean, 8000, 3)
	if err != nil || math.Abs(p[0]-1./8) > 4*math.Sqrt(0.25/8000) {
		t.Errorf("p = %v, want 1/8 (%v)", p, err)
	}
}
