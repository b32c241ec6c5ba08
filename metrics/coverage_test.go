package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestStudentQuantile(t *testing.T) {
	for degrees, want := range map[int]float64{1: 12.7062, 2: 4.3027, 4: 2.7764, 9: 2.2622, 30: 2.0423} {
		if got := studentQuantile(degrees); math.Abs(got-want) > 1e-4 {
			t.Errorf("%d degrees of freedom: %.4f, want %.4f", degrees, got, want)
		}
	}
}

// TestCoverage: of normal seeds crossed with normal dialogues, the 95 % interval
// holds the true mean, 0, at least as often as it says, up to what 40 dialogues
// cost the percentiles and 400 simulations leave to chance.
func TestCoverage(t *testing.T) {
	const simulations, dialogues = 400, 40
	mean := func(v []float64) []float64 { return []float64{average(v)} }
	for _, seeds := range []int{2, 3, 5, 10} {
		for _, spread := range []float64{0, 0.16, 1} { // of seeds; a mean over the dialogues has 0.16
			random := rand.New(rand.NewPCG(7, uint64(seeds)))
			covered := 0
			for s := range simulations {
				runs := make([][][]float64, seeds)
				common := make([]float64, dialogues)
				for g := range common {
					common[g] = random.NormFloat64()
				}
				for k := range runs {
					own := spread * random.NormFloat64()
					for g := range common {
						runs[k] = append(runs[k], []float64{own + common[g] + 0.5*random.NormFloat64()})
					}
				}
				got, err := BootstrapsOver(t.Context(), runs, mean, 200, uint64(s))
				if err != nil {
					t.Fatal(err)
				}
				if got[0].Low <= 0 && got[0].High >= 0 {
					covered++
				}
			}
			share := 100 * float64(covered) / simulations
			t.Logf("%d seeds, spread %.2f: %.1f %%", seeds, spread, share)
			if share < 91.5 {
				t.Errorf("%d seeds, spread %.2f: a 95 %% interval covers %.1f %%, want at least 91.5", seeds, spread, share)
			}
		}
	}
}
