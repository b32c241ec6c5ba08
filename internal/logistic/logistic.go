// Package logistic fits logistic regressions on sparse vectors, the same
// coefficients for the same examples.
package logistic

import "math"

// Example is a sparse vector with its class. At are indices of coefficients, the
// first of which, 0, is the intercept's.
type Example struct {
	At    []int
	Value []float64 // at these indices
	Y     bool
}

// Dot is the product with coefficients: the margin, above 0 where the class is
// the likelier one.
func (e Example) Dot(w []float64) float64 {
	sum := 0.0
	for k, i := range e.At {
		sum += float64(w[i] * e.Value[k]) // rounded before it is added, on every machine alike
	}
	return sum
}

// Natural weighs every example alike.
func Natural(bool) float64 { return 1 }

func label(y bool) float64 {
	if y {
		return 1
	}
	return 0
}

// Fit fits size coefficients by Newton's method, each step by conjugate
// gradients. penalty is the weight of half the squares of the coefficients (of
// all but the first).
func Fit(examples []Example, size int, penalty float64, weight func(y bool) float64) []float64 {
	w := make([]float64, size)
	for range 6 {
		gradient, curvature := make([]float64, size), make([]float64, len(examples))
		for i, v := range w[1:] {
			gradient[1+i] = penalty * v
		}
		for k, e := range examples {
			p := 1 / (1 + math.Exp(-e.Dot(w)))
			c := weight(e.Y)
			curvature[k] = c * p * (1 - p)
			for j, i := range e.At {
				gradient[i] += float64(c * (p - label(e.Y)) * e.Value[j])
			}
		}
		times := func(v []float64) []float64 {
			out := make([]float64, size)
			for i := range v {
				out[i] = penalty * v[i]
			}
			out[0] = 1e-6 * v[0]
			for k, e := range examples {
				c := curvature[k] * e.Dot(v)
				for j, i := range e.At {
					out[i] += float64(c * e.Value[j])
				}
			}
			return out
		}
		step := conjugate(times, gradient)
		largest := 0.0
		for i := range w {
			w[i] -= step[i]
			largest = max(largest, math.Abs(step[i]))
		}
		if largest < 1e-3 {
			break
		}
	}
	return w
}

// conjugate solves a·x = b by at most 25 conjugate gradients.
func conjugate(a func([]float64) []float64, b []float64) []float64 {
	x := make([]float64, len(b))
	r := append([]float64(nil), b...)
	p := append([]float64(nil), b...)
	rr := dot(r, r)
	stop := 1e-4 * rr
	for iteration := 0; iteration < 25 && rr > stop; iteration++ {
		ap := a(p)
		alpha := rr / dot(p, ap)
		for i := range x {
			x[i] += float64(alpha * p[i])
			r[i] -= float64(alpha * ap[i])
		}
		next := dot(r, r)
		for i := range p {
			p[i] = r[i] + float64(next/rr*p[i])
		}
		rr = next
	}
	return x
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i] * b[i])
	}
	return sum
}
