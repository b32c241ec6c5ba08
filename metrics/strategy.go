package metrics

import (
	"fmt"
	"math"
)

// Unparsed is the class of a prediction that names no known strategy.
const Unparsed = -1

// StrategyReport compares predicted with gold strategies.
type StrategyReport struct {
	// Pairs were compared; Dropped more had an Unparsed prediction and count
	// in none of the numbers, as in the paper's code. DroppedPercent is their
	// share of all.
	Pairs          int     `json:"pairs"`
	Dropped        int     `json:"dropped"`
	DroppedPercent float64 `json:"dropped_percent"`

	// PreferenceBias is B of equation 8, the standard deviation of Preference.
	PreferenceBias float64 `json:"preference_bias"`
	// BiasDefined is false where the paper's iteration divides by zero or never
	// settles; Note then says why, and what the numbers are instead.
	BiasDefined bool   `json:"bias_defined"`
	Note        string `json:"note,omitempty"`
	// Preference is p_i of equation 7 by strategy, with mean 1.
	Preference []float64 `json:"preference"`

	// WeightedF1 and MacroF1 are scikit-learn's, in percent: over the classes
	// that occur in gold or predictions. F1 is by strategy, in percent, 0 for
	// a class that does not occur.
	WeightedF1 float64   `json:"weighted_f1"`
	MacroF1    float64   `json:"macro_f1"`
	F1         []float64 `json:"strategy_f1"`

	// Confusion counts [predicted][gold]: w_ij of equation 7.
	Confusion [][]int `json:"confusion"`
}

// Strategy computes the strategy metrics over gold and predicted class
// indices in [0, classes); a predicted index may be Unparsed. With no pair
// left all numbers are 0 and BiasDefined is false.
func Strategy(gold, predicted []int, classes int) (StrategyReport, error) {
	counts, err := tallyOf(gold, predicted, classes)
	if err != nil {
		return StrategyReport{}, err
	}
	return counts.report(), nil
}

// tally counts gold and predicted classes: all that the strategy metrics need.
type tally struct {
	confusion [][]int // [predicted][gold]
	unparsed  []int   // by gold class
}

func newTally(classes int) (tally, error) {
	if classes < 1 {
		return tally{}, fmt.Errorf("%d strategies: at least one is needed", classes)
	}
	t := tally{make([][]int, classes), make([]int, classes)}
	for i := range t.confusion {
		t.confusion[i] = make([]int, classes)
	}
	return t, nil
}

func tallyOf(gold, predicted []int, classes int) (tally, error) {
	t, err := newTally(classes)
	if err == nil && len(gold) != len(predicted) {
		err = fmt.Errorf("%d gold strategies but %d predicted ones", len(gold), len(predicted))
	}
	for k := range gold {
		if err != nil {
			return t, err
		}
		if err = t.add(gold[k], predicted[k]); err != nil {
			err = fmt.Errorf("pair %d: %w", k, err)
		}
	}
	return t, err
}

func (t tally) add(gold, predicted int) error {
	classes := len(t.unparsed)
	switch {
	case gold < 0 || gold >= classes:
		return fmt.Errorf("gold strategy %d is not in [0, %d)", gold, classes)
	case predicted == Unparsed:
		t.unparsed[gold]++
	case predicted < 0 || predicted >= classes:
		return fmt.Errorf("predicted strategy %d is neither in [0, %d) nor Unparsed", predicted, classes)
	default:
		t.confusion[predicted][gold]++
	}
	return nil
}

// counts are those of the pairs.
func (t tally) counts() confusion {
	c := newConfusion(len(t.unparsed))
	for p, row := range t.confusion {
		for g, n := range row {
			c.of[p][g] = float64(n)
		}
	}
	return c
}

// countingAll has what is Unparsed as wrong predictions.
func (t tally) countingAll() StrategyNumbers {
	c := t.counts()
	for g, n := range t.unparsed {
		c.missed[g] = float64(n)
	}
	return c.numbers()
}

func (t tally) report() StrategyReport {
	r := StrategyReport{Preference: make([]float64, len(t.unparsed)), Confusion: t.confusion}
	for g, n := range t.unparsed {
		r.Dropped += n
		for _, row := range t.confusion {
			r.Pairs += row[g]
		}
	}
	r.DroppedPercent = 100 * ratio(r.Dropped, r.Pairs+r.Dropped)
	counts := t.counts()
	r.F1, r.WeightedF1, r.MacroF1 = counts.f1()
	if r.Pairs == 0 {
		r.Note = "no prediction names a strategy: the strategy metrics are undefined and shown as 0"
		return r
	}
	var err error
	r.Preference, err = counts.preferences()
	if r.BiasDefined = err == nil; err != nil {
		r.Note = fmt.Sprintf("equation 7 has no solution (%v): computed with %g added to every count of a wrong prediction", err, pseudoCount)
	}
	r.PreferenceBias = deviation(r.Preference)
	return r
}

// pseudoCount is what every off-diagonal count is raised by where equation 7
// has no finite solution: the usual continuity correction. It keeps strategies
// that a small test set never confuses comparable.
const pseudoCount = 0.5

// Convergence of equation 7: the iteration stops when no preference moves by
// more than its last bits.
const (
	maxIterations = 20_000
	tolerance     = 1e-14
)

// preferences iterates equation 7,
//
//	p'_i = Σ_j w_ij p_j/(p_i+p_j) / Σ_j w_ji/(p_i+p_j),  j ≠ i,
//
// from p = 1 to its fixed point, rescaled to mean 1 in every round. It is the
// maximum-likelihood estimate of a Bradley-Terry model in which i beats j when
// i is predicted although j is gold. Each new p_i serves at once: updating all
// from the old values can oscillate for ever (Newman 2023). It fails where a
// denominator is or tends to zero.
func preferences(w [][]float64, extra float64) ([]float64, error) {
	n := len(w)
	p, old := make([]float64, n), make([]float64, n)
	for i := range p {
		p[i] = 1
	}
	if n == 1 {
		return p, nil
	}
	if extra == 0 {
		if err := estimable(w); err != nil {
			return nil, err
		}
	}
	for range maxIterations {
		copy(old, p)
		sum := 0.0
		for i := range p {
			above, below := 0.0, 0.0
			for j := range p {
				if i != j {
					above += (w[i][j] + extra) * p[j] / (p[i] + p[j])
					below += (w[j][i] + extra) / (p[i] + p[j])
				}
			}
			p[i] = above / below
			sum += p[i]
		}
		moved := 0.0
		for i := range p {
			p[i] *= float64(n) / sum
			moved = max(moved, math.Abs(p[i]-old[i]))
		}
		if moved <= tolerance*float64(n) {
			break
		}
	}
	return p, nil
}

// estimable says why equation 7 has no fixed point to go to. It has one where
// the strategies that are predicted by mistake form a strongly connected graph
// (i → j: i is predicted where j is gold). One further strategy may never be
// predicted by mistake: its preference is 0; with two, p_i+p_j is 0.
func estimable(w [][]float64) error {
	n := len(w)
	wins, losses := make([]float64, n), make([]float64, n)
	for i := range w {
		for j := range w {
			if i != j {
				wins[i] += w[i][j]
				losses[j] += w[i][j]
			}
		}
	}
	never, start := -1, -1
	for i := range w {
		switch {
		case losses[i] == 0:
			return fmt.Errorf("no other strategy is predicted where strategy %d is gold", i)
		case wins[i] > 0:
			start = i
		case never >= 0:
			return fmt.Errorf("strategies %d and %d are never predicted by mistake", never, i)
		default:
			never = i
		}
	}
	forward := reach(n, start, func(i, j int) bool { return w[i][j] > 0 })
	backward := reach(n, start, func(i, j int) bool { return w[j][i] > 0 })
	for i := range w {
		if i != never && !(forward[i] && backward[i]) {
			return fmt.Errorf("strategies %d and %d are mistaken for each other in one direction only", min(start, i), max(start, i))
		}
	}
	return nil
}

// reach marks what can be reached from start.
func reach(n, start int, edge func(i, j int) bool) []bool {
	seen := make([]bool, n)
	seen[start] = true
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		for j := range n {
			if !seen[j] && edge(queue[0], j) {
				seen[j] = true
				queue = append(queue, j)
			}
		}
	}
	return seen
}

// deviation is equation 8, the population standard deviation.
func deviation(p []float64) float64 {
	mean, sum := 0.0, 0.0
	for _, v := range p {
		mean += v / float64(len(p))
	}
	for _, v := range p {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(p)))
}
