package judge

import "math"

// example is a sparse vector of a regression, with its class.
type example struct {
	at    []int
	value []float64
	y     bool
}

func (e example) dot(w []float64) float64 {
	sum := 0.0
	for k, i := range e.at {
		sum += w[i] * e.value[k]
	}
	return sum
}

// logistic fits a logistic regression by Newton's method, each step by
// conjugate gradients. The two classes weigh the same where odds is 1, else the
// positive one odds times as much. penalty is the weight of
// half the squares of the coefficients (of all but the first).
func logistic(examples []example, size int, penalty, odds float64) []float64 {
	positives := 0.0
	for _, e := range examples {
		positives += when(e.y, 1)
	}
	n := float64(len(examples))
	weight := func(y bool) float64 {
		if y {
			return odds * n / (2 * max(positives, 1))
		}
		return n / (2 * max(n-positives, 1))
	}
	w := make([]float64, size)
	for range 6 {
		gradient, curvature := make([]float64, size), make([]float64, len(examples))
		for i, v := range w[1:] {
			gradient[1+i] = penalty * v
		}
		for k, e := range examples {
			p := 1 / (1 + math.Exp(-e.dot(w)))
			c := weight(e.y)
			curvature[k] = c * p * (1 - p)
			for j, i := range e.at {
				gradient[i] += c * (p - when(e.y, 1)) * e.value[j]
			}
		}
		times := func(v []float64) []float64 {
			out := make([]float64, size)
			for i := range v {
				out[i] = penalty * v[i]
			}
			out[0] = 1e-6 * v[0]
			for k, e := range examples {
				c := curvature[k] * e.dot(v)
				for j, i := range e.at {
					out[i] += c * e.value[j]
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

// conjugate solves a·x = b by at most 60 conjugate gradients.
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
			x[i] += alpha * p[i]
			r[i] -= alpha * ap[i]
		}
		next := dot(r, r)
		for i := range p {
			p[i] = r[i] + next/rr*p[i]
		}
		rr = next
	}
	return x
}
