package tfidf

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/metrics"
)

func TestPlanFollowsTheWords(t *testing.T) {
	var turns []esc.Turn
	said := map[esc.Strategy]string{esc.Question: "i do not know", esc.Suggestions: "what should i do", esc.Others: "thank you bye"}
	for i := range 12 {
		for strategy, text := range said {
			turns = append(turns, esc.Turn{Dialogue: i, Context: []esc.Message{{Role: esc.UserRole, Content: text}}, Strategy: strategy})
		}
	}
	p := Fit(turns)
	for strategy, text := range said {
		if got := p.Plan([]esc.Message{{Role: esc.UserRole, Content: text + "!"}}); got != strategy {
			t.Errorf("after %q: %s, want %s", text, got, strategy)
		}
	}
	if got := p.Plan([]esc.Message{{Role: esc.UserRole, Content: "?"}}); !got.Valid() {
		t.Errorf("without a word: %s, want a strategy", got)
	}
}

// TestESConv: above the share of the most frequent strategy, by as much as words
// give.
func TestESConv(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "esconv")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("reference data %s is absent: put the project's shared data beside the repository to run this test", dir)
	}
	corpus, err := esc.ReadCorpus(esc.Source{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := Fit(esc.AllTurns(corpus.Train))
	right, counts, test := 0, [esc.NumStrategies]int{}, esc.AllTurns(corpus.Test)
	most := 0
	var gold, planned []int
	for _, turn := range test {
		plan := p.Plan(turn.Context)
		if plan == turn.Strategy {
			right++
		}
		gold, planned = append(gold, int(turn.Strategy)), append(planned, int(plan))
		counts[turn.Strategy]++
		most = max(most, counts[turn.Strategy])
	}
	share := func(n int) float64 { return math.Round(1000*float64(n)/float64(len(test))) / 10 }
	measured, err := metrics.Strategy(gold, planned, esc.NumStrategies)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("right in %.1f %%; the most frequent strategy has %.1f %%", share(right), share(most))
	t.Logf("Qw %.2f, Q %.2f, B %.2f", measured.WeightedF1, measured.MacroF1, measured.PreferenceBias)
	if share(right) < share(most)+5 {
		t.Errorf("right in %.1f %%, want at least 5 points above the most frequent strategy's %.1f %%", share(right), share(most))
	}
}
