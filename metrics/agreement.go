package metrics

import "math"

// Missing marks a rating that was not given.
const Missing = -1

// CohenKappa is the agreement of two raters beyond chance (Cohen 1960): (po -
// pe) / (1 - pe), po the share of items on which they agree, pe what their own
// distributions would give by chance. a and b are the ratings of the same
// items, categories from 0; an item that either left out (Missing) does not
// count. n is the number of items that do. It is NaN where pe is 1 (both always
// name one and the same category) and where n is 0.
func CohenKappa(a, b []int) (kappa float64, n int) {
	agree := 0
	countA, countB := map[int]int{}, map[int]int{}
	for i := range min(len(a), len(b)) {
		if a[i] < 0 || b[i] < 0 {
			continue
		}
		n++
		countA[a[i]]++
		countB[b[i]]++
		if a[i] == b[i] {
			agree++
		}
	}
	if n == 0 {
		return math.NaN(), 0
	}
	chance := 0 // times n²: an integer, so that no order of summing matters
	for category, times := range countA {
		chance += times * countB[category]
	}
	if chance == n*n {
		return math.NaN(), n
	}
	total := float64(n) * float64(n)
	return (float64(agree*n) - float64(chance)) / (total - float64(chance)), n
}

// KrippendorffAlpha is the agreement of any number of raters beyond chance, for
// categories without an order (Krippendorff 2011, "Computing Krippendorff's
// Alpha-Reliability", section C). units are the ratings of each item, categories
// from 0; Missing ones and items with fewer than two ratings do not count. n is
// the number of ratings that do. It is NaN where all name one category, and
// where n is 0.
func KrippendorffAlpha(units [][]int) (alpha float64, n int) {
	totals := map[int]int{} // ratings of each category
	disagree := 0.0         // of the pairs within units, each unit weighed by its ratings
	for _, unit := range units {
		counts := map[int]int{}
		m := 0
		for _, rating := range unit {
			if rating >= 0 {
				counts[rating]++
				m++
			}
		}
		if m < 2 {
			continue
		}
		n += m
		same := 0 // ordered pairs that agree
		for category, times := range counts {
			totals[category] += times
			same += times * (times - 1)
		}
		disagree += float64(m*(m-1)-same) / float64(m-1)
	}
	expected := n * (n - 1) // ordered pairs of all ratings that differ
	for _, times := range totals {
		expected -= times * (times - 1)
	}
	if expected == 0 {
		return math.NaN(), n
	}
	return 1 - float64(n-1)*disagree/float64(expected), n
}
