package metrics

import "math"

// studentQuantile is the 97.5th percentile of Student's t with the given degrees
// of freedom, at least 1 (Abramowitz and Stegun 26.7.3 and 26.7.4, inverted by
// bisection).
func studentQuantile(degrees int) float64 {
	within := func(t float64) float64 { // P(|T| <= t)
		angle := math.Atan(t / math.Sqrt(float64(degrees)))
		sin, cos := math.Sincos(angle)
		term, sum, first := 1.0, 0.0, 2
		if degrees%2 == 1 {
			term, first = cos, 3
		}
		for k := first; k <= degrees; k += 2 {
			sum += term
			term *= cos * cos * float64(k-1) / float64(k)
		}
		if degrees%2 == 1 {
			return 2 / math.Pi * (angle + sin*sum)
		}
		return sin * sum
	}
	low, high := 0.0, 16.0
	for range 60 {
		if middle := (low + high) / 2; within(middle) < 0.95 {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}
