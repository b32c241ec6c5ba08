package lm

import (
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/lm/cpu"
)

func TestSamplerNucleus(t *testing.T) {
	// Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1, out of order.
	logits := []float32{float32(math.Log(0.1)), float32(math.Log(0.4)), float32(math.Log(0.2)), float32(math.Log(0.3))}
	for _, c := range []struct {
		topP float64
		want []int32
	}{{0.3, []int32{1}}, {0.41, []int32{1, 3}}, {0.65, []int32{1, 3}}, {0.75, []int32{1, 2, 3}}, {0.95, []int32{0, 1, 2, 3}}, {1, []int32{0, 1, 2, 3}}} {
		s := sampler{temperature: 1, topP: c.topP}
		counts := map[int32]int{}
		const n = 4000
		for i := range n {
			counts[s.draw(logits, (float64(i)+0.5)/n)]++
		}
		var got []int32
		mass := 0.0
		for id := range counts {
			got = append(got, id)
			mass += math.Exp(float64(logits[id]))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("top-p %v draws %v, want %v", c.topP, got, c.want)
		}
		for id, count := range counts {
			if want := math.Exp(float64(logits[id])) / mass; math.Abs(float64(count)/n-want) > 2.0/n*10 {
				t.Errorf("top-p %v draws %d in %v of cases, want %v", c.topP, id, float64(count)/n, want)
			}
		}
	}
}

// TestSamplerTopK: the k most likely tokens and those as likely as the last of them, before the nucleus, which is one of
// what they hold.
func TestSamplerTopK(t *testing.T) {
	// Probabilities 0.1, 0.4, 0.2, 0.2, 0.1.
	var logits []float32
	for _, p := range []float64{0.1, 0.4, 0.2, 0.2, 0.1} {
		logits = append(logits, float32(math.Log(p)))
	}
	for _, c := range []struct {
		topK int
		topP float64
		want []int32
	}{{1, 1, []int32{1}}, {2, 1, []int32{1, 2, 3}}, {3, 1, []int32{1, 2, 3}}, {4, 1, []int32{0, 1, 2, 3, 4}}, {9, 1, []int32{0, 1, 2, 3, 4}},
		{3, 0.49, []int32{1}}, {0, 0.49, []int32{1, 2}}} { // 0.4 is half of the three's 0.8
		s := sampler{temperature: 1, topP: c.topP, topK: c.topK}
		drawn := map[int32]bool{}
		const n = 1000
		for i := range n {
			drawn[s.draw(logits, (float64(i)+0.5)/n)] = true
		}
		if got := slices.Sorted(maps.Keys(drawn)); !slices.Equal(got, c.want) {
			t.Errorf("top-k %d, top-p %v draws %v, want %v", c.topK, c.topP, got, c.want)
		}
	}
}

// TestPenalise: logits above 0 of tokens seen are divided, those below multiplied, each once; the given ones stay.
func TestPenalise(t *testing.T) {
	logits := []float32{2, -2, 1, 0, 3}
	s := sampler{penalty: 1.25}
	for range 2 { // nothing is left over from the time before
		if got, want := s.penalise(logits, []int32{0, 1, 0}, []int32{3, 1}), []float32{1.6, -2.5, 1, 0, 3}; !slices.Equal(got, want) {
			t.Errorf("penalised %v, want %v", got, want)
		}
	}
	if want := []float32{2, -2, 1, 0, 3}; !slices.Equal(logits, want) {
		t.Errorf("the given logits are %v now, want %v", logits, want)
	}
}

// TestSamplerAsTransformers compares how often each token is drawn with what the installed transformers' logits
// processors leave of its probability.
func TestSamplerAsTransformers(t *testing.T) {
	type samplingCase struct {
		Logits                     []float32
		Tokens                     []int32
		Temperature, TopP, Penalty float64
		TopK                       int
	}
	var cases []samplingCase
	s := newStream(31)
	for _, temperature := range []float64{0.7, 1.3} {
		for _, topP := range []float64{0.6, 0.95, 1} {
			for _, topK := range []int{0, 1, 7, 100} {
				for _, penalty := range []float64{1, 1.05, 1.6} {
					c := samplingCase{Temperature: temperature, TopP: topP, TopK: topK, Penalty: penalty}
					for range 40 {
						c.Logits = append(c.Logits, float32(2*s.normal()))
						c.Tokens = append(c.Tokens, int32(s.next()%40))
					}
					cases = append(cases, c)
				}
			}
		}
	}
	data, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	want := reference.Python[[][]float64](t, "torch transformers", filepath.Join("testdata", "sample_with_transformers.py"), data)
	for i, c := range cases {
		s := sampler{temperature: c.Temperature, topP: c.TopP, topK: c.TopK, penalty: c.Penalty}
		counts := make([]float64, len(c.Logits))
		scores := s.penalise(c.Logits, c.Tokens[:20], c.Tokens[20:])
		const n = 20000
		for k := range n {
			counts[s.draw(scores, (float64(k)+0.5)/n)]++
		}
		for id, count := range counts {
			if got := count / n; math.Abs(got-want[i][id]) > 1.5/n+1e-6 || (count == 0) != (want[i][id] == 0) && want[i][id] > 1.5/n {
				t.Errorf("temperature %v, top-p %v, top-k %d, penalty %v: token %d is drawn with %v, transformers gives it %v",
					c.Temperature, c.TopP, c.TopK, c.Penalty, id, got, want[i][id])
			}
		}
	}
}

func TestSamplerTemperature(t *testing.T) {
	logits := []float32{0, 1}
	for _, temperature := range []float64{0.1, 0.7, 1, 2} {
		s := sampler{temperature: temperature, topP: 1}
		zero := 0
		const n = 10000
		for i := range n {
			if s.draw(logits, (float64(i)+0.5)/n) == 0 {
				zero++
			}
		}
		if want := 1 / (1 + math.Exp(1/temperature)); math.Abs(float64(zero)/n-want) > 1e-3 {
			t.Errorf("temperature %v: %v, want %v", temperature, float64(zero)/n, want)
		}
	}
}

func TestSamplerDegenerate(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, c := range map[string]struct {
		logits []float32
		want   int32
	}{
		"infinite":     {[]float32{0, inf, 1}, 1},
		"not a number": {[]float32{nan, -5, nan}, 1},
		"far apart":    {[]float32{-1e30, 1e30}, 1},
	} {
		for _, topP := range []float64{0.9, 1} {
			s := sampler{temperature: 0.7, topP: topP}
			if got := s.draw(c.logits, 0.999999); got != c.want {
				t.Errorf("%s: draws %d, want %d", name, got, c.want)
			}
		}
	}
}

// A sample's numbers depend on all of seed, prompt, index and position, and are spread evenly.
func TestSampleSeeds(t *testing.T) {
	seen := map[float64]bool{}
	sum, n := 0.0, 0
	for seed := range uint64(4) {
		for _, prompt := range [][]int32{{1}, {1, 2}, {2, 1}} {
			for sample := range 4 {
				for position := range 50 {
					u := uniformAt(sampleSeed(seed, prompt, sample), position)
					if u < 0 || u >= 1 || seen[u] {
						t.Fatalf("%v comes twice or is out of range", u)
					}
					seen[u] = true
					sum, n = sum+u, n+1
				}
			}
		}
	}
	if mean := sum / float64(n); math.Abs(mean-0.5) > 0.02 {
		t.Errorf("mean %v", mean)
	}
}

// The nucleus is what sorting all tokens gives.
func TestSamplerCut(t *testing.T) {
	random := newStream(1)
	for n := range 400 {
		s := sampler{topP: 0.05 + 0.9*random.uniform()}
		total := 0.0
		for range 1 + n {
			w := random.uniform()
			if n%3 == 0 {
				w = math.Ceil(4*w) / 4 // with ties
			}
			s.weights = append(s.weights, w)
			total += w
		}
		sorted := slices.Clone(s.weights)
		slices.Sort(sorted)
		slices.Reverse(sorted)
		want, mass := 0, 0.0
		for mass < s.topP*total {
			mass += sorted[want]
			want++
		}
		least, ties, got := s.cut(total)
		count := ties
		for _, w := range s.weights {
			if w > least {
				count++
			}
		}
		if count != want || math.Abs(got-mass) > 1e-9 {
			t.Fatalf("%d tokens of weight %v, want %d of %v", count, got, want, mass)
		}
	}
}

func TestExp(t *testing.T) {
	for x := 0.0; x > -699; x -= 0.37 {
		if got, want := exp(x), math.Exp(x); math.Abs(got-want) > 1e-15*want {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
	}
	if exp(0) != 1 || exp(-800) != 0 || exp(math.Inf(-1)) != 0 {
		t.Error("limits")
	}
}

// TestWeights: the kernel's weights and their sum have the bits of weigh's.
func TestWeights(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	lists := [][]float32{{0}, {-inf, -inf}, {nan, nan, 1}, {inf, 3, inf}, {1, nan, 1 - 1e-7, -800, -inf, 0.5, 1, -699.9, -700.1}}
	s := newStream(7)
	for n := range 40 {
		var list []float32
		for range 1 + 997*n {
			list = append(list, float32(4*s.normal()))
		}
		lists = append(lists, list)
	}
	compared := false
	for i, list := range lists {
		highest := -inf
		for _, l := range list {
			if l > highest {
				highest = l
			}
		}
		for _, temperature := range []float64{0.3, 0.7, 1, 1.7} {
			for _, kept := range []float32{-inf, highest - 3} {
				by, want := sampler{temperature: temperature, weights: make([]float64, len(list))}, make([]float64, len(list))
				total, ok := cpu.SampleWeights(list, highest, kept, temperature, want)
				if !ok {
					continue
				}
				compared = true
				if sum := by.weigh(list, highest, kept); sum != total || !slices.Equal(by.weights, want) {
					t.Fatalf("list %d of %d logits, temperature %v: the kernel's weights sum to %v, weigh's to %v", i, len(list), temperature, total, sum)
				}
			}
		}
	}
	if !compared {
		t.Skip("no kernel of weights here")
	}
}
