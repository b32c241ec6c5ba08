package metrics

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// confusion is what the strategy metrics are computed from: counts by predicted
// and gold class.
type confusion struct {
	of [][]float64 // [predicted][gold]: w_ij of equation 7
	// missed counts by gold class the predictions that name no class and
	// are counted as wrong.
	missed []float64
}

func newConfusion(classes int) confusion {
	c := confusion{make([][]float64, classes), make([]float64, classes)}
	for i := range c.of {
		c.of[i] = make([]float64, classes)
	}
	return c
}

// f1 gives the F1 scores in percent: by class, and their weighted and plain mean
// over the classes that occur in gold or predictions.
func (c confusion) f1() (by []float64, weighted, macro float64) {
	by = make([]float64, len(c.of))
	present, total := 0, 0.0
	for i := range by {
		inGold, inPredicted := c.missed[i], 0.0
		for k := range by {
			inGold += c.of[k][i]
			inPredicted += c.of[i][k]
		}
		if inGold+inPredicted == 0 {
			continue
		}
		present++
		total += inGold
		by[i] = 100 * 2 * c.of[i][i] / (inGold + inPredicted)
		macro += by[i]
		weighted += by[i] * inGold
	}
	if present > 0 {
		macro /= float64(present)
		weighted /= total
	}
	return by, weighted, macro
}

// preferences are those of equation 7. Where it has no solution the error says
// why, and they are those with pseudoCount added to every wrong prediction. A
// prediction of no class counts as an equal share of every wrong one: it is wrong
// and prefers none.
func (c confusion) preferences() ([]float64, error) {
	w := c.of
	if n := len(w); n > 1 && slices.ContainsFunc(c.missed, func(v float64) bool { return v > 0 }) {
		w = newConfusion(n).of
		for i := range w {
			copy(w[i], c.of[i])
			for j := range w {
				if i != j {
					w[i][j] += c.missed[j] / float64(n-1)
				}
			}
		}
	}
	p, err := preferences(w, 0)
	if err != nil {
		p, _ = preferences(w, pseudoCount) // no count is 0, so there is a solution
	}
	return p, err
}

// StrategyNumbers are B of equation 8 and the weighted and macro F1 in percent.
type StrategyNumbers struct {
	PreferenceBias float64 `json:"preference_bias"`
	WeightedF1     float64 `json:"weighted_f1"`
	MacroF1        float64 `json:"macro_f1"`
}

func (c confusion) numbers() StrategyNumbers {
	p, _ := c.preferences()
	_, weighted, macro := c.f1()
	return StrategyNumbers{deviation(p), weighted, macro}
}

// StrategyCountingAll are the numbers of Strategy with Unparsed predictions
// counted as wrong: for F1 they are predictions of no class, for B an equal share
// of every wrong class.
func StrategyCountingAll(gold, predicted []int, classes int) (StrategyNumbers, error) {
	counts, err := tallyOf(gold, predicted, classes)
	if err != nil {
		return StrategyNumbers{}, err
	}
	return counts.countingAll(), nil
}

// StrategyDrawn are the numbers of a predictor that is known by its probabilities
// [turn][class]: the mean over rounds of drawing a class for every turn. They are
// what such predictions score on average, the noise of a draw and the pseudo-count
// of equation 7 included. (B of the expected confusion would be another thing: it
// knows no count of 0, and rests on the smallest probabilities.)
//
// Draw k of round r depends on (seed, r, k) alone.
func StrategyDrawn(ctx context.Context, gold []int, probabilities [][]float64, classes, rounds int, seed uint64) (StrategyNumbers, error) {
	var mean StrategyNumbers
	if len(gold) != len(probabilities) {
		return mean, fmt.Errorf("%d gold strategies but probabilities for %d", len(gold), len(probabilities))
	}
	for k, g := range gold {
		if g < 0 || g >= classes || len(probabilities[k]) != classes {
			return mean, fmt.Errorf("turn %d: gold strategy %d and %d probabilities, want one in [0, %d) and %d", k, g, len(probabilities[k]), classes, classes)
		}
	}
	for r := range rounds {
		if err := ctx.Err(); err != nil {
			return mean, fmt.Errorf("metrics: drawn strategies: %w", err)
		}
		c := newConfusion(classes)
		for k, g := range gold {
			u, drawn := float64(draw(seed, uint64(r), uint64(k), fine))/fine, 0
			for p := probabilities[k]; drawn < classes-1 && u >= p[drawn]; drawn++ {
				u -= p[drawn]
			}
			c.of[drawn][g]++
		}
		one := c.numbers()
		mean.PreferenceBias += one.PreferenceBias / float64(rounds)
		mean.WeightedF1 += one.WeightedF1 / float64(rounds)
		mean.MacroF1 += one.MacroF1 / float64(rounds)
	}
	return mean, nil
}

// fine is the number of steps in which probabilities are drawn.
const fine = 1 << 30

// BiasFloor simulates the B of predictors without a preference that are right as
// often as those of runs, whose strategies are gold[run] and predicted[run]: the
// mean over the runs, its mean over the rounds and their 95th percentile. What
// names no class is left out, as in Strategy.
//
// Such a predictor gives the gold class with a fixed probability, else the gold
// class of a turn drawn at random. It takes class i for j as often as j for i,
// which is what all preferences being equal means in equation 7. One that is
// right more seldom than the second part alone is simulated by that part.
//
// Draw k of round r depends on (seed, r, k) alone.
func BiasFloor(ctx context.Context, gold, predicted [][]int, classes, rounds int, seed uint64) (mean, high float64, err error) {
	type run struct {
		gold []int
		copy float64 // the fixed probability
	}
	var runs []run
	for k := range gold {
		r, err := Strategy(gold[k], predicted[k], classes)
		if err != nil {
			return 0, 0, err
		}
		if r.Pairs == 0 {
			return 0, 0, ErrNoSamples
		}
		one, right := run{}, 0.0
		share := make([]float64, classes)
		for i, g := range gold[k] {
			if predicted[k][i] != Unparsed {
				one.gold = append(one.gold, g)
				share[g] += 1 / float64(r.Pairs)
				if predicted[k][i] == g {
					right += 1 / float64(r.Pairs)
				}
			}
		}
		chance := 0.0
		for _, s := range share {
			chance += s * s
		}
		if chance < 1 {
			one.copy = max(0, (right-chance)/(1-chance))
		}
		runs = append(runs, one)
	}
	found := make([]float64, rounds)
	for r := range found {
		if err := ctx.Err(); err != nil {
			return 0, 0, fmt.Errorf("metrics: floor of the preference bias: %w", err)
		}
		counter := uint64(0)
		for _, one := range runs {
			c := newConfusion(classes)
			for _, g := range one.gold {
				drawn := g
				if draw(seed, uint64(r), counter, fine) >= int(math.Round(one.copy*fine)) {
					drawn = one.gold[draw(seed, uint64(r), counter+1, len(one.gold))]
				}
				c.of[drawn][g]++
				counter += 2
			}
			p, _ := c.preferences()
			found[r] += deviation(p) / float64(len(runs))
		}
		mean += found[r] / float64(rounds)
	}
	slices.Sort(found)
	return mean, quantile(found, 0.95), nil
}
