package models

import (
	"math"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/models/modelstest"
)

// Turns that are scored together have the scores that each has by itself.
func TestStrategiesOfADialogueAtOnce(t *testing.T) {
	s, _, _ := speaker(t, experiments.Decoupled, SpeakerOptions{Seed: 1})
	turns := esc.AllTurns(modelstest.Dialogues(t)[:2])[:9]
	together, err := s.planner.Score(t.Context(), turns)
	if err != nil {
		t.Fatal(err)
	}
	for i, turn := range turns {
		alone, err := s.planner.Score(t.Context(), []esc.Turn{turn})
		if err != nil {
			t.Fatal(err)
		}
		for j := range alone[0] {
			if math.Abs(together[i][j]-alone[0][j]) > 1e-4 {
				t.Errorf("turn %d: %s has log-probability %v among others, %v alone", i, esc.Strategy(j), together[i][j], alone[0][j])
			}
		}
	}
	if together[0] == together[1] {
		t.Error("two contexts have the same scores, to the bit")
	}
}

// Probabilities at temperature T are proportional to p^(1/T); at 0 the earliest
// of the likeliest has all.
func TestStrategyProbabilities(t *testing.T) {
	scores := StrategyScores{-4, -2, -2, -3, -700, -9, -9, -9}
	for _, temperature := range []float64{0.5, 1, 2} {
		p := scores.Probabilities(temperature)
		sum := 0.0
		for _, one := range p {
			sum += one
		}
		if want := math.Exp(1 / temperature); math.Abs(sum-1) > 1e-12 || math.Abs(p[1]/p[3]-want) > 1e-9*want || p[1] != p[2] {
			t.Errorf("at %v: %v, want a sum of 1 and the second %v times the fourth", temperature, p, want)
		}
	}
	if p := scores.Probabilities(0); p != [esc.NumStrategies]float64{1: 1} {
		t.Errorf("at 0: %v, want all on the earlier of the two likeliest", p)
	}
	if want := math.Exp(-4) + 2*math.Exp(-2) + math.Exp(-3) + 3*math.Exp(-9); math.Abs(scores.Mass()-want) > 1e-12 {
		t.Errorf("mass %v, want %v", scores.Mass(), want)
	}
}
