package judge

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
)

// TestKnownGroups: on dialogues that nothing is fitted to, the mean quality of
// the answers that were given is above that of answers of other dialogues, and
// this above that of canned answers, with words of the chat put in or not.
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
			s := scoresOf(t, judge, Request{turns[i].Context, esc.NoStrategy, esc.NoStrategy, reply(i)})
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
	everywhere, below := 0.0, 0
	for _, canned := range cannedUnseen {
		q := quality(canned, 5, func(int) string { return canned })
		everywhere += q / float64(len(cannedUnseen))
		below += int(when(q < other-0.1, 1))
		if q > gold-0.05 {
			t.Errorf("canned everywhere, %q has %.2f, gold %.2f", canned, q, gold)
		}
	}
	t.Logf("%.2f  canned, mean of %d", everywhere, len(cannedUnseen))
	if everywhere > other-0.1 || below < 9 {
		t.Errorf("canned answers have %.2f, gold of another dialogue %.2f; %d of %d are clearly below it, want 9",
			everywhere, other, below, len(cannedUnseen))
	}
	for kind, echo := range echoes {
		q := quality("canned with echoes of kind "+string(rune('1'+kind)), 1, func(i int) string {
			return echo(cannedUnseen[i%len(cannedUnseen)], lastOf(turns[i].Context))
		})
		if q > other-0.1 {
			t.Errorf("canned answers with echoes of kind %d have %.2f, gold of another dialogue %.2f", kind+1, q, other)
		}
	}
}
