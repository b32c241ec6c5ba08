package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Interval is a 95 % bootstrap interval of a statistic.
type Interval struct {
	Estimate  float64 `json:"estimate"` // on the data themselves
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
	Resamples int     `json:"resamples"`
	// Undefined resamples had a statistic that is NaN and are left out.
	Undefined int `json:"undefined,omitempty"`
}

// Bootstrap estimates how a statistic of turns varies between test sets. The
// turns of one dialogue depend on each other, therefore whole groups
// (dialogues) are resampled with replacement; the statistic sees the items of
// the drawn groups in one slice, which it must not keep. The interval is that
// of the percentiles 2.5 and 97.5.
//
// Draw k of resample r depends on (seed, r, k) alone: the same input gives the
// same interval.
func Bootstrap[T any](ctx context.Context, groups [][]T, statistic func([]T) float64, resamples int, seed uint64) (Interval, error) {
	all, err := Bootstraps(ctx, groups, func(items []T) []float64 { return []float64{statistic(items)} }, resamples, seed)
	if err != nil {
		return Interval{}, err
	}
	if all[0].Undefined == resamples {
		return Interval{}, errors.New("metrics: bootstrap: the statistic is undefined on every resample")
	}
	return all[0], nil
}

// Bootstraps is Bootstrap of several statistics at once, on the same
// resamples: the intervals stand in the statistics' order. The bounds of one
// that is undefined on every resample are NaN.
func Bootstraps[T any](ctx context.Context, groups [][]T, statistics func([]T) []float64, resamples int, seed uint64) ([]Interval, error) {
	return BootstrapsOver(ctx, [][][]T{groups}, statistics, resamples, seed)
}

// BootstrapsOver is Bootstraps over several runs of the same thing, such as
// models trained with different seeds: runs[k][g] are the items of run k in
// group g, which is the same dialogue in every run and may be empty. The
// estimate is the mean over the runs of each one's statistics; the interval
// covers the choice of the dialogues and that of the seeds.
//
// Every resample draws dialogues with replacement, the same ones for all runs,
// since they are crossed with the seeds and not nested in them. Each bound is
// then moved away from the estimate: its distance is the root of the sum of two
// squares, that of the percentile's distance and that of t·s/√n, with s the
// standard deviation of the n runs' statistics and t of n-1 degrees of freedom.
// Such an interval covers at least what it says for independent normal
// components (Banerjee 1960; Zou and Donner 2008 for unequal sides). With one
// run the percentiles stand as they are.
func BootstrapsOver[T any](ctx context.Context, runs [][][]T, statistics func([]T) []float64, resamples int, seed uint64) ([]Interval, error) {
	groups, err := crossed(runs)
	if err != nil {
		return nil, err
	}
	if resamples < 1 {
		return nil, fmt.Errorf("metrics: %d bootstrap resamples: at least one is needed", resamples)
	}
	var items []T
	estimates := make([][]float64, len(runs))
	for k, run := range runs {
		items = append(items[:0], slices.Concat(run...)...)
		estimates[k] = slices.Clone(statistics(items))
	}
	result := make([]Interval, len(estimates[0]))
	values := make([][]float64, len(result))
	drawn := make([]int, groups)
	for r := range resamples {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("metrics: bootstrap: %w", err)
		}
		for g := range drawn {
			drawn[g] = draw(seed, uint64(r), uint64(g), groups)
		}
		sums := make([]float64, len(result))
		for _, run := range runs {
			items = items[:0]
			for _, g := range drawn {
				items = append(items, run[g]...)
			}
			for i, v := range statistics(items) {
				sums[i] += v / float64(len(runs))
			}
		}
		for i, v := range sums {
			if math.IsNaN(v) {
				result[i].Undefined++
			} else {
				values[i] = append(values[i], v)
			}
		}
	}
	for i, estimate := range means(estimates) {
		one := &result[i]
		one.Estimate, one.Resamples = estimate, resamples
		one.Low, one.High = math.NaN(), math.NaN()
		if len(values[i]) > 0 {
			slices.Sort(values[i])
			one.Low, one.High = quantile(values[i], 0.025), quantile(values[i], 0.975)
		}
		if n := len(runs); n > 1 {
			squares := 0.0
			for _, run := range estimates {
				squares += (run[i] - estimate) * (run[i] - estimate)
			}
			seeds := studentQuantile(n-1) * math.Sqrt(squares/float64(n-1)/float64(n))
			one.Low = estimate - math.Hypot(seeds, max(estimate-one.Low, 0))
			one.High = estimate + math.Hypot(seeds, max(one.High-estimate, 0))
		}
	}
	return result, nil
}

// crossed gives the number of groups of runs that have the same ones.
func crossed[T any](runs [][][]T) (groups int, err error) {
	if len(runs) == 0 || len(runs[0]) == 0 {
		return 0, ErrNoSamples
	}
	for k, run := range runs {
		if len(run) != len(runs[0]) {
			return 0, fmt.Errorf("metrics: run %d has %d groups, the first has %d: they are not the same dialogues", k, len(run), len(runs[0]))
		}
	}
	return len(runs[0]), nil
}

// means gives the mean of each column.
func means(rows [][]float64) []float64 {
	out := make([]float64, len(rows[0]))
	for _, row := range rows {
		for i, v := range row {
			out[i] += v / float64(len(rows))
		}
	}
	return out
}

// PermutationOver tests whether two systems differ, by statistics of items that
// hold both systems' results on the same turn; each statistic is a difference
// that changes its sign when the systems change places. If they did not differ
// they could change places in any group (dialogue) and nothing would show:
// every round has each group's systems swapped with probability 1/2. The
// two-sided p-value of a statistic is (1 + n) / (1 + rounds) with n the rounds
// whose difference is at least as far from 0 as the one observed (Phipson and
// Smyth 2010: never 0). It is NaN where the observed one is; a round that is
// NaN counts as at least as far.
//
// The statistics are means over several runs, as in BootstrapsOver: a dialogue's
// systems change places in all runs at once. The test takes the models as they
// are; how training varies is not in the p-value.
//
// Whether round r swaps group k depends on (seed, r, k) alone.
func PermutationOver[T any](ctx context.Context, runs [][][]T, swap func(T) T, statistics func([]T) []float64, rounds int, seed uint64) ([]float64, error) {
	groups, err := crossed(runs)
	if err != nil {
		return nil, err
	}
	if rounds < 1 {
		return nil, fmt.Errorf("metrics: %d rounds of a permutation test: at least one is needed", rounds)
	}
	var items []T
	all := make([][]float64, len(runs))
	measure := func(swapped func(group int) bool) []float64 {
		for k, run := range runs {
			items = items[:0]
			for g, group := range run {
				turned := swapped(g)
				for _, item := range group {
					if turned {
						item = swap(item)
					}
					items = append(items, item)
				}
			}
			all[k] = append(all[k][:0], statistics(items)...)
		}
		return means(all)
	}
	observed := measure(func(int) bool { return false })
	p := make([]float64, len(observed))
	for r := range rounds {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("metrics: permutation test: %w", err)
		}
		swaps := make([]bool, groups)
		for g := range swaps {
			swaps[g] = draw(seed, uint64(r), uint64(g), 2) == 1
		}
		for i, v := range measure(func(g int) bool { return swaps[g] }) {
			// The same sum in another order may differ in its last bits.
			if far := math.Abs(observed[i]); !(math.Abs(v) < far-1e-12*max(1, far)) {
				p[i]++
			}
		}
	}
	for i := range p {
		p[i] = (1 + p[i]) / float64(1+rounds)
		if math.IsNaN(observed[i]) {
			p[i] = math.NaN()
		}
	}
	return p, nil
}

// draw maps the counters to [0, n) uniformly (up to n/2^64).
func draw(seed, resample, k uint64, n int) int {
	hi, _ := bits.Mul64(mix(mix(mix(seed)+resample)+k), uint64(n))
	return int(hi)
}

// mix is a step of SplitMix64 (Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// quantile interpolates linearly in sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
