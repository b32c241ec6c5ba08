package judge

import (
	"math"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/logistic"
)

// plainKappas cross-validates what the judge must not fall behind: logistic
// regression on TF-IDF of the words and word pairs of the answer and of the
// message answered, and on the strategy, in the same folds.
func plainKappas(t testing.TB, folds func(dialogue int) int) (kappas [esc.NumPsyErrors]float64) {
	t.Helper()
	all := failedESConv(t)
	terms := func(l labelled) [][]string {
		texts := [][]string{{"strategy " + l.request.Strategy.String()}}
		for side, text := range []string{l.request.Response, lastOf(l.request.Context)} {
			list, found := words(text), []string{}
			for _, g := range append(grams(list, 1), grams(list, 2)...) {
				found = append(found, string(rune('a'+side))+" "+g)
			}
			texts = append(texts, found)
		}
		return texts
	}
	var tables [esc.NumPsyErrors]table
	for fold := range 5 {
		index, df, n := map[string]int{}, []float64{0}, 0.0
		for _, l := range all {
			if folds(l.dialogue) == fold {
				continue
			}
			n++
			seen := map[string]bool{}
			for _, text := range terms(l) {
				for _, term := range text {
					if index[term] == 0 {
						index[term] = len(df)
						df = append(df, 0)
					}
					if !seen[term] {
						seen[term] = true
						df[index[term]]++
					}
				}
			}
		}
		vector := func(l labelled) logistic.Example {
			e := logistic.Example{At: []int{0}, Value: []float64{1}}
			for kind, text := range terms(l) {
				start, squares, place := len(e.At), 0.0, map[int]int{}
				for _, term := range text {
					i := index[term]
					if i == 0 || kind > 0 && df[i] < 2 {
						continue
					}
					if _, seen := place[i]; !seen {
						place[i] = len(e.At)
						e.At, e.Value = append(e.At, i), append(e.Value, 0)
					}
					e.Value[place[i]]++
				}
				for k := start; k < len(e.At); k++ {
					e.Value[k] = (1 + math.Log(e.Value[k])) * (1 + math.Log((1+n)/(1+df[e.At[k]])))
					squares += e.Value[k] * e.Value[k]
				}
				for k := start; k < len(e.At); k++ {
					e.Value[k] /= math.Sqrt(squares)
				}
			}
			return e
		}
		vectors := make([]logistic.Example, len(all))
		for i, l := range all {
			vectors[i] = vector(l)
		}
		for _, class := range esc.PsyErrors() {
			var in []logistic.Example
			for i, l := range all {
				if folds(l.dialogue) != fold {
					e := vectors[i]
					e.Y = !l.clean && l.class == class
					in = append(in, e)
				}
			}
			w := logistic.Fit(in, len(df), 1, balanced(in, 1))
			for i, l := range all {
				if folds(l.dialogue) == fold {
					tables[class].count(vectors[i].Dot(w) >= 0, !l.clean && l.class == class)
				}
			}
		}
	}
	for class := range kappas {
		kappas[class] = tables[class].kappa()
	}
	return kappas
}
