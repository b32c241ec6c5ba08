package results

import (
	"context"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/metrics"
)

// resamples is the number of bootstrap resamples and of permutations that
// intervals and tests take.
const resamples = 1000

// byDialogue groups each run's items by their dialogue: [run][dialogue][item],
// the same dialogues in every run, in the order of appearance. Runs are those of
// several seeds; one that has nothing of a dialogue has an empty group.
func byDialogue[T any](runs [][]T, place func(T) esc.Place) [][][]T {
	index := map[int]int{}
	for _, items := range runs {
		for _, item := range items {
			d := place(item).Dialogue
			if _, known := index[d]; !known {
				index[d] = len(index)
			}
		}
	}
	grouped := make([][][]T, len(runs))
	for k, items := range runs {
		grouped[k] = make([][]T, len(index))
		for _, item := range items {
			g := index[place(item).Dialogue]
			grouped[k][g] = append(grouped[k][g], item)
		}
	}
	return grouped
}

// Interval is a 95 % interval of a column of Table 3; NaN where the column has no
// value.
type Interval struct {
	Column    string // its name
	Low, High float64
}

// Intervals are those of a system's columns: of the dialogues by bootstrap and,
// where its turns come from several seeds' models, of these by Student's t. None
// reaches beyond its column's range.
func Intervals(ctx context.Context, runs [][]ScoredTurn, seed uint64) ([]Interval, error) {
	found, err := metrics.BootstrapsOver(ctx, byDialogue(runs, func(t ScoredTurn) esc.Place { return t.Place }), columnsOf, resamples, seed)
	if err != nil {
		return nil, err
	}
	out := make([]Interval, len(found))
	for i, c := range experiments.Table3() {
		out[i] = Interval{Column: c.Name, Low: max(found[i].Low, 0), High: min(found[i].High, c.Most)}
	}
	return out, nil
}

// Outcomes are the shares of wins, ties and losses of the first of two systems
// at compared turns, by seed, with 95 % intervals as of Intervals.
func Outcomes(ctx context.Context, runs [][]Compared, seed uint64) (win, tie, loss metrics.Interval, err error) {
	shares := func(all []Compared) []float64 {
		var n [3]float64
		for _, one := range all {
			switch {
			case one.First > 0.5:
				n[0]++
			case one.First < 0.5:
				n[2]++
			default:
				n[1]++
			}
		}
		total := float64(len(all)) // 0 of a resample without an answer: NaN, left out
		return []float64{n[0] / total, n[1] / total, n[2] / total}
	}
	found, err := metrics.BootstrapsOver(ctx, byDialogue(runs, func(c Compared) esc.Place { return c.Place }), shares, resamples, seed)
	if err != nil {
		return win, tie, loss, err
	}
	for i := range found {
		found[i].Low, found[i].High = max(found[i].Low, 0), min(found[i].High, 1)
	}
	return found[0], found[1], found[2], nil
}

// Difference is that of one value of two systems, with its 95 % interval and
// two-sided p-value; NaN where it has none.
type Difference struct{ Value, Low, High, P float64 }

// Differences are those of several values of two systems.
type Differences struct {
	Values []Difference
	// Seeds holds the values' differences of each seed on its own.
	Seeds [][]float64
	// Turns and Dialogues count what was paired, over all seeds.
	Turns, Dialogues int
}

// Differ measures how values of turns differ between the two systems of pairs,
// which are by seed: an interval as of Intervals, by paired bootstrap, and a
// permutation test over dialogues that takes the trained models as given.
// Where there is no pair there is no value.
func Differ(ctx context.Context, pairs [][]TurnPair, values func([]ScoredTurn) []float64, seed uint64) (Differences, error) {
	var out Differences
	places, dialogues := map[esc.Place]bool{}, map[int]bool{}
	for _, of := range pairs {
		for _, p := range of {
			places[p.System.Place], dialogues[p.System.Dialogue] = true, true
		}
	}
	out.Turns, out.Dialogues = len(places), len(dialogues)
	if out.Turns == 0 {
		return out, nil
	}
	difference := func(pairs []TurnPair) []float64 {
		system, against := make([]ScoredTurn, len(pairs)), make([]ScoredTurn, len(pairs))
		for i, p := range pairs {
			system[i], against[i] = p.System, p.Against
		}
		of, and := values(system), values(against)
		for i := range of {
			of[i] -= and[i]
		}
		return of
	}
	groups := byDialogue(pairs, func(p TurnPair) esc.Place { return p.System.Place })
	found, err := metrics.BootstrapsOver(ctx, groups, difference, resamples, seed)
	if err != nil {
		return out, err
	}
	swap := func(p TurnPair) TurnPair { return TurnPair{p.Against, p.System} }
	p, err := metrics.PermutationOver(ctx, groups, swap, difference, resamples, seed)
	if err != nil {
		return out, err
	}
	for i, f := range found {
		out.Values = append(out.Values, Difference{Value: f.Estimate, Low: f.Low, High: f.High, P: p[i]})
	}
	for _, of := range pairs {
		out.Seeds = append(out.Seeds, difference(of))
	}
	return out, nil
}

// Defined reports whether the difference, its interval and its p-value are
// numbers.
func (d Difference) Defined() bool {
	return !math.IsNaN(d.Value) && !math.IsNaN(d.Low) && !math.IsNaN(d.P)
}

// Chosen is what a system's strategy metrics rest on.
type Chosen struct {
	// Accuracy is the share of right strategies among those that were named.
	Accuracy float64
	// Floor and FloorHigh are the mean and the 95th percentile of B of predictors
	// without a preference that are right as often (metrics.BiasFloor).
	Floor, FloorHigh float64
	// All are the metrics with replies that name no strategy counted as wrong.
	All metrics.StrategyNumbers
}

// ChosenOf measures a system's strategies, by seed: means over the seeds. ok is
// false where a seed's models name no strategy at all.
func ChosenOf(ctx context.Context, runs [][]ScoredTurn, seed uint64) (c Chosen, ok bool, err error) {
	gold, predicted := make([][]int, len(runs)), make([][]int, len(runs))
	n := float64(len(runs))
	for k, turns := range runs {
		gold[k], predicted[k] = classesOf(turns)
		r, named := StrategyOf(turns)
		if !named {
			return c, false, nil
		}
		for s := range r.Confusion {
			c.Accuracy += float64(r.Confusion[s][s]) / float64(r.Pairs) / n
		}
		all, err := metrics.StrategyCountingAll(gold[k], predicted[k], esc.NumStrategies)
		if err != nil {
			return c, false, err
		}
		c.All.PreferenceBias += all.PreferenceBias / n
		c.All.WeightedF1 += all.WeightedF1 / n
		c.All.MacroF1 += all.MacroF1 / n
	}
	c.Floor, c.FloorHigh, err = metrics.BiasFloor(ctx, gold, predicted, esc.NumStrategies, resamples, seed)
	return c, err == nil, err
}
