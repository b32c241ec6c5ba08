package results

import (
	"context"
	"fmt"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/metrics"
)

// StrategyScores are a model's log-probabilities of the eight strategies at a
// test turn.
type StrategyScores struct {
	esc.Place
	GoldStrategy string `json:"gold_strategy"`
	// LogProbabilities are those of the names' tokens, [strategy][token].
	LogProbabilities [esc.NumStrategies][]float32 `json:"log_probabilities"`
}

// StrategyNames are the strategies' tokens, which tell where names part.
type StrategyNames struct {
	Tokens [esc.NumStrategies][]int32 `json:"tokens"`
}

// Temperatures are those at which strategy metrics are shown; 0 is greedy.
func Temperatures() []float64 { return []float64{0, 0.25, 0.5, 0.7, 1, 1.5, 2} }

// Mass is the probability that the model names any of the eight.
func (s StrategyScores) Mass() float64 {
	mass := 0.0
	for _, name := range s.LogProbabilities {
		mass += math.Exp(sum(name))
	}
	return mass
}

func sum(tokens []float32) float64 {
	total := 0.0
	for _, p := range tokens {
		total += float64(p)
	}
	return total
}

// Probabilities are those of the strategies drawn at a temperature token by token,
// as replies are, among the tokens that go on one of the eight names; at 0 the
// likeliest token is taken, the first of equals.
func (n StrategyNames) Probabilities(s StrategyScores, temperature float64) []float64 {
	out := make([]float64, esc.NumStrategies)
	var walk func(names []int, depth int, p float64)
	walk = func(names []int, depth int, p float64) {
		if len(names) == 1 {
			out[names[0]] = p
			return
		}
		// The names by their next token; one that is over goes on with none.
		var order []int32
		branches := map[int32][]int{}
		logs := map[int32]float64{}
		for _, name := range names {
			token, log := int32(-1), 0.0
			if depth < len(n.Tokens[name]) {
				token, log = n.Tokens[name][depth], float64(s.LogProbabilities[name][depth])
			}
			if branches[token] == nil {
				order = append(order, token)
			}
			branches[token], logs[token] = append(branches[token], name), log
		}
		best := order[0]
		for _, token := range order {
			if logs[token] > logs[best] {
				best = token
			}
		}
		if temperature == 0 {
			walk(branches[best], depth+1, p)
			return
		}
		total := 0.0
		for _, token := range order {
			total += math.Exp((logs[token] - logs[best]) / temperature)
		}
		for _, token := range order {
			walk(branches[token], depth+1, p*math.Exp((logs[token]-logs[best])/temperature)/total)
		}
	}
	all := make([]int, esc.NumStrategies)
	for i := range all {
		all[i] = i
	}
	walk(all, 0, 1)
	return out
}

// Check reports scores that do not fit the names.
func (n StrategyNames) Check(s StrategyScores) error {
	for i, tokens := range n.Tokens {
		if got := len(s.LogProbabilities[i]); got != len(tokens) || got == 0 {
			return fmt.Errorf("dialogue %d, turn %d: %d log-probabilities of %s, which has %d tokens", s.Dialogue, s.Turn, got, esc.Strategy(i), len(tokens))
		}
	}
	return nil
}

// draws is how often strategies are drawn for a point of StrategyCurve.
const draws = 200

// StrategyCurve are the strategy metrics of a model at the Temperatures: means over
// draws from its exact probabilities, the same draws at each temperature. mass is
// the mean probability that it names a strategy at all.
func StrategyCurve(ctx context.Context, names StrategyNames, scores []StrategyScores, seed uint64) (numbers []metrics.StrategyNumbers, mass float64, err error) {
	gold := make([]int, len(scores))
	for i, s := range scores {
		strategy, err := esc.ParseStrategy(s.GoldStrategy)
		if err == nil {
			err = names.Check(s)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s: line %d: %w", FileStrategyScores, i+1, err)
		}
		gold[i] = int(strategy)
		mass += s.Mass() / float64(len(scores))
	}
	for _, temperature := range Temperatures() {
		probabilities := make([][]float64, len(scores))
		for i, s := range scores {
			probabilities[i] = names.Probabilities(s, temperature)
		}
		rounds := draws
		if temperature == 0 {
			rounds = 1 // nothing is left to chance
		}
		one, err := metrics.StrategyDrawn(ctx, gold, probabilities, esc.NumStrategies, rounds, seed)
		if err != nil {
			return nil, 0, err
		}
		numbers = append(numbers, one)
	}
	return numbers, mass, nil
}
