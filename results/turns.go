package results

import (
	"fmt"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
)

// ScoredTurn is a test turn with everything that one system got on it.
type ScoredTurn struct {
	esc.Place
	Gold, Predicted int // strategies; Predicted may be metrics.Unparsed
	Automatic       metrics.Scores
	Judged          bool // Scores and Clean are set
	Scores          judge.Scores
	Clean           bool // without a psychological error
}

// Turns joins a system's predictions with their automatic scores, which are in
// the same order, unless it has none, and with what the judge says of some of
// them.
func (e Evaluation) Turns() ([]ScoredTurn, error) {
	automatic := e.Scores.PerSample
	if automatic == nil {
		automatic = make([]metrics.Scores, len(e.Predictions))
	}
	if len(e.Predictions) != len(automatic) {
		return nil, fmt.Errorf("%d predictions but %d scores in %s: run the score stage again", len(e.Predictions), len(automatic), FileScores)
	}
	byPlace := make(map[esc.Place]Judged, len(e.Judged))
	for _, v := range e.Judged {
		byPlace[v.Place] = v
	}
	turns := make([]ScoredTurn, len(e.Predictions))
	for i, p := range e.Predictions {
		one := ScoredTurn{Place: p.Place, Automatic: automatic[i]}
		var err error
		if one.Gold, one.Predicted, err = p.Classes(); err != nil {
			return nil, fmt.Errorf("prediction %d: %w", i+1, err)
		}
		if v, ok := byPlace[p.Place]; ok {
			one.Judged, one.Scores, one.Clean = v.Problem == "", v.Scores, v.Problem == "" && len(v.Findings) == 0
		}
		turns[i] = one
	}
	return turns, nil
}

// JudgedMean averages what value gives for the turns that the judge has a
// verdict on; NaN where there is none.
func JudgedMean(turns []ScoredTurn, value func(ScoredTurn) float64) float64 {
	sum, n := 0.0, 0
	for _, t := range turns {
		if t.Judged {
			sum += value(t)
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// TurnPair is one turn as two systems replied to it.
type TurnPair struct{ System, Against ScoredTurn }

// PairTurns keeps the turns that both systems have.
func PairTurns(system, against []ScoredTurn) []TurnPair {
	byPlace := make(map[esc.Place]ScoredTurn, len(against))
	for _, t := range against {
		byPlace[t.Place] = t
	}
	var pairs []TurnPair
	for _, t := range system {
		if other, ok := byPlace[t.Place]; ok {
			pairs = append(pairs, TurnPair{t, other})
		}
	}
	return pairs
}
