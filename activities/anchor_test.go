package activities

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/results"
)

// TestShuffled: every turn's reply is used once, in another dialogue, and the
// seed decides where.
func TestShuffled(t *testing.T) {
	var turns []esc.Turn
	for d, n := range []int{3, 7, 1, 4, 5} {
		for k := range n {
			turns = append(turns, esc.Turn{Dialogue: d, Index: k, Response: fmt.Sprint(d, k)})
		}
	}
	got, used := shuffled(turns, 17), map[string]int{}
	for i, other := range got {
		used[other.Response]++
		if other.Dialogue == turns[i].Dialogue {
			t.Errorf("%+v has the reply of its own dialogue, %q", turns[i].Place(), other.Response)
		}
	}
	if len(used) != len(turns) {
		t.Errorf("%d replies are used, want all %d", len(used), len(turns))
	}
	if !reflect.DeepEqual(got, shuffled(turns, 17)) {
		t.Error("the same seed shuffles otherwise")
	}
	if reflect.DeepEqual(got, shuffled(turns, 18)) {
		t.Error("another seed shuffles alike")
	}
}

// TestAnchorStages: every anchor answers every test turn; what is scored after it
// reads it as a generation.
func TestAnchorStages(t *testing.T) {
	l := newLab(t, chattest.New(t))
	read := func(method experiments.Method) []results.Prediction {
		t.Helper()
		name := "anchor/" + string(method)
		if _, err := l.run(name); err != nil {
			t.Fatal(err)
		}
		return decoded[results.Prediction](t, l.read(t, name, results.FilePredictions))
	}
	gold, other, canned, planned := read(experiments.MethodGold), read(experiments.MethodShuffled), read(experiments.MethodCanned), read(experiments.MethodTFIDF)
	if len(gold) == 0 || len(other) != len(gold) || len(canned) != len(gold) || len(planned) != len(gold) {
		t.Fatalf("%d, %d, %d and %d replies, want as many of each", len(gold), len(other), len(canned), len(planned))
	}
	right, same := 0, 0
	for i, p := range gold {
		if p.Response != p.GoldResponse || p.Strategy != p.GoldStrategy {
			t.Errorf("gold, %+v: %q, want the gold reply", p.Place, p.Response)
		}
		if other[i].Response == p.Response {
			same++
		}
		if canned[i].Response != experiments.CannedReply {
			t.Errorf("canned, %+v: %q, want the canned reply", p.Place, canned[i].Response)
		}
		if planned[i].Strategy == p.GoldStrategy {
			right++
		}
	}
	if same > len(gold)/10 || right < len(gold)/3 {
		t.Errorf("of %d turns %d have their own reply after shuffling, and %d the planner's right strategy: want hardly one, and a third at least", len(gold), same, right)
	}
	for _, name := range []string{"score/anchor/gold", "score/anchor/shuffled", "bias/anchor/tfidf"} {
		result, err := l.run(name)
		if err != nil {
			t.Fatal(err)
		}
		if f1, ok := result.Metrics["f1"]; ok && (f1 == 100) != (name == "score/anchor/gold") {
			t.Errorf("%s: F1 %v, want 100 of the gold replies alone", name, f1)
		}
	}
}

// TestStrategiesStage: probabilities for every test turn, the same bytes when it
// runs again.
func TestStrategiesStage(t *testing.T) {
	l := promptedLab(t, shortCorpus(t))
	const name = "strategies/vanilla/base"
	read := func() []byte {
		t.Helper()
		if _, err := l.run(name); err != nil {
			t.Fatal(err)
		}
		return l.read(t, name, results.FileStrategyScores)
	}
	whole := read()
	var names results.StrategyNames
	if err := json.Unmarshal(l.read(t, name, results.FileStrategyNames), &names); err != nil {
		t.Fatal(err)
	}
	rows := decoded[results.StrategyScores](t, whole)
	if numbers, mass, err := results.StrategyCurve(t.Context(), names, rows, 1); err != nil || len(numbers) == 0 || mass <= 0 || mass >= 1 {
		t.Fatalf("%d temperatures, mass %v (%v): want a curve, and a mass between 0 and 1", len(numbers), mass, err)
	}
	for i, s := range rows {
		total := 0.0
		for _, p := range names.Probabilities(s, 1) {
			total += p
		}
		if math.Abs(total-1) > 1e-9 {
			t.Errorf("turn %d: the probabilities add up to %v, want 1", i, total)
		}
	}
	l.forgetStage(t, name)
	if again := read(); !bytes.Equal(whole, again) {
		t.Error("the stage gives other bytes when it runs again")
	}
}
