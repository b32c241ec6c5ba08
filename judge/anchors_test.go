package judge

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
)

// TestKnownGroups: on dialogues that nothing is fitted to, the mean quality of
// the answers that were given is clearly above that of answers of other dialogues
// and of canned answers, with words of the chat put in or not. Canned answers are
// not clearly below answers of other dialogues: see docs/judge.md.
func TestKnownGroups(t *testing.T) {
	corpus := readCorpus(t)
	judge := NewOffline(FitUsage(corpus.Train))
	turns := esc.AllTurns(slices.Concat(corpus.Valid, corpus.Test))
	rng := rand.New(rand.NewPCG(15, 0))
	shuffled := make([]string, len(turns))
	for i := range turns {
		for shuffled[i] == "" {
			if other := turns[rng.IntN(len(turns))]; other.Dialogue != turns[i].Dialogue {
				shuffled[i] = other.Response
			}
		}
	}
	quality := func(name string, every int, reply func(i int) string) float64 {
		sum, n := 0.0, 0.0
		for i := 0; i < len(turns); i += every {
			s := scoresOf(t, judge, requestOf(turns[i].Context, esc.NoStrategy, esc.NoStrategy, reply(i)))
			sum += (s.Fluency + s.Professionalism + s.Empathy + s.Helpfulness) / 4
			n++
		}
		t.Logf("%.2f  %s", sum/n, name)
		return sum / n
	}
	gold := quality("gold", 1, func(i int) string { return turns[i].Response })
	other := quality("gold of another dialogue", 1, func(i int) string { return shuffled[i] })
	if gold < other+0.3 {
		t.Errorf("gold %.2f is not clearly above gold of another dialogue, %.2f", gold, other)
	}
	for name, canned := range map[string][]string{"seen while tuning": cannedTuned, "fresh": cannedFresh} {
		everywhere := 0.0
		for _, text := range canned {
			everywhere += quality(text, 5, func(int) string { return text }) / float64(len(canned))
		}
		groups := []float64{everywhere}
		t.Logf("%.2f  canned, %s, mean of %d", everywhere, name, len(canned))
		for kind, echo := range echoes {
			groups = append(groups, quality("canned, "+name+", with echoes of kind "+string(rune('1'+kind)), 1, func(i int) string {
				return echo(canned[i%len(canned)], lastOf(turns[i].Context))
			}))
		}
		for _, q := range groups {
			if q > gold-0.2 {
				t.Errorf("canned answers (%s) have %.2f, gold %.2f: want it clearly above", name, q, gold)
			}
		}
	}
}
