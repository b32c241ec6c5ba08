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
	if len(groups) == 0 {
		return Interval{}, ErrNoSamples
	}
	if resamples < 1 {
		return Interval{}, fmt.Errorf("metrics: %d bootstrap resamples: at least one is needed", resamples)
	}
	items := slices.Concat(groups...)
	result := Interval{Estimate: statistic(items), Resamples: resamples}
	values := make([]float64, 0, resamples)
	for r := range resamples {
		if err := ctx.Err(); err != nil {
			return Interval{}, fmt.Errorf("metrics: bootstrap: %w", err)
		}
		items = items[:0]
		for k := range groups {
			items = append(items, groups[draw(seed, uint64(r), uint64(k), len(groups))]...)
		}
		if v := statistic(items); math.IsNaN(v) {
			result.Undefined++
		} else {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return Interval{}, errors.New("metrics: bootstrap: the statistic is undefined on every resample")
	}
	slices.Sort(values)
	result.Low, result.High = quantile(values, 0.025), quantile(values, 0.975)
	return result, nil
}

// Dialogues groups predictions for Bootstrap by their dialogue, in the order
// in which the dialogues first appear. Predictions without a dialogue stand
// for themselves.
func Dialogues(predictions []Prediction) [][]Prediction {
	var groups [][]Prediction
	index := map[string]int{}
	for _, p := range predictions {
		g, ok := index[p.Dialogue]
		if !ok || p.Dialogue == "" {
			g = len(groups)
			groups = append(groups, nil)
			index[p.Dialogue] = g
		}
		groups[g] = append(groups[g], p)
	}
	return groups
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
