package judge

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

var update = flag.Bool("update", false, "write weights.go anew")

// sample is an answer as the classifier sees it, with its label.
type sample struct {
	dialogue int
	points   [esc.NumPsyErrors]int
	x        []float64
	y        [esc.NumPsyErrors]bool
}

func fitSamples(t testing.TB) []sample {
	t.Helper()
	var all []sample
	for _, l := range failedESConv(t) {
		o := observe(l.request, nil)
		points := pointsOf(o)
		one := sample{dialogue: l.dialogue, points: points, x: features(o, points)}
		if !l.clean {
			one.y[l.class] = true
		}
		if len(one.x) != len(featureNames) {
			t.Fatalf("%d features, %d names", len(one.x), len(featureNames))
		}
		all = append(all, one)
	}
	return all
}

// penalty is the weight of the squares of the coefficients (of all but the
// first), chosen by cross-validation.
const penalty = 3.0

// fit is logistic regression by Newton's method.
func fit(all []sample, class esc.PsyError) []float64 {
	d := len(featureNames)
	w := make([]float64, d)
	for range 8 {
		h, g := make([][]float64, d), make([]float64, d)
		for i := range h {
			h[i] = make([]float64, d)
			ridge := penalty
			if i == 0 {
				ridge = 1e-6
			}
			h[i][i], g[i] = ridge, ridge*w[i]
		}
		for _, s := range all {
			p := 1 / (1 + math.Exp(-dot(w, s.x)))
			for i, xi := range s.x {
				if xi == 0 {
					continue
				}
				g[i] += (p - when(s.y[class], 1)) * xi
				for j, xj := range s.x {
					h[i][j] += p * (1 - p) * xi * xj
				}
			}
		}
		step := solve(h, g)
		for i := range w {
			w[i] -= step[i]
		}
	}
	return w
}

// solve solves h·x = g by elimination with pivoting.
func solve(h [][]float64, g []float64) []float64 {
	n := len(g)
	for k := range n {
		p := k
		for i := k + 1; i < n; i++ {
			if math.Abs(h[i][k]) > math.Abs(h[p][k]) {
				p = i
			}
		}
		h[k], h[p], g[k], g[p] = h[p], h[k], g[p], g[k]
		for i := k + 1; i < n; i++ {
			f := h[i][k] / h[k][k]
			for j := k; j < n; j++ {
				h[i][j] -= f * h[k][j]
			}
			g[i] -= f * g[k]
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		x[i] = g[i]
		for j := i + 1; j < n; j++ {
			x[i] -= h[i][j] * x[j]
		}
		x[i] /= h[i][i]
	}
	return x
}

// split divides by dialogue, so that no dialogue stands on both sides.
func split(all []sample, fold func(dialogue int) bool) (in, out []sample) {
	for _, s := range all {
		if fold(s.dialogue) {
			out = append(out, s)
		} else {
			in = append(in, s)
		}
	}
	return in, out
}

// decide fits a class and sets the bound of its decision where Cohen's kappa is
// largest on samples that the fit has not seen, in inner folds, without
// reporting the class more often than it is there. The bound goes into the
// first weight, so that 0 decides.
func decide(all []sample, class esc.PsyError) []float64 {
	type scored struct {
		z float64
		y bool
	}
	var unseen []scored
	for inner := range 3 {
		in, out := split(all, func(d int) bool { return d/5%3 == inner })
		w := fit(in, class)
		for _, s := range out {
			z := dot(w, s.x)
			switch {
			case decided(class, s.points[class], math.Inf(-1)): // by its points
				z = math.Inf(1)
			case !decided(class, s.points[class], math.Inf(1)):
				z = math.Inf(-1)
			}
			unseen = append(unseen, scored{z, s.y[class]})
		}
	}
	slices.SortFunc(unseen, func(a, b scored) int {
		switch {
		case a.z > b.z:
			return -1
		case a.z < b.z:
			return 1
		}
		return 0
	})
	var c table
	for _, s := range unseen {
		c.count(false, s.y)
	}
	positives := int(c.theirs)
	best, bound := -1.0, 0.0
	for i, s := range unseen { // report the first i+1
		if s.y {
			c.both, c.theirs = c.both+1, c.theirs-1
		} else {
			c.ours, c.neither = c.ours+1, c.neither-1
		}
		if k := c.kappa(); k > best && i+1 <= positives && !math.IsInf(s.z+unseen[i+1].z, 0) {
			best, bound = k, (s.z+unseen[i+1].z)/2
		}
	}
	w := fit(all, class)
	w[0] -= bound
	return w
}

// TestCrossValidation measures what the classifier agrees with on dialogues
// that neither its weights nor its bounds have seen.
func TestCrossValidation(t *testing.T) {
	all := fitSamples(t)
	var tables [esc.NumPsyErrors]table
	for fold := range 5 {
		in, out := split(all, func(d int) bool { return d%5 == fold })
		for _, class := range esc.PsyErrors() {
			w := decide(in, class)
			for _, s := range out {
				tables[class].count(decided(class, s.points[class], dot(w, s.x)), s.y[class])
			}
		}
	}
	for _, class := range esc.PsyErrors() {
		k := tables[class].kappa()
		t.Logf("%-20s kappa %.3f on unseen dialogues", class, k)
		if floor := agreementFloors[class]; k < floor {
			t.Errorf("%s: kappa %.3f, want at least %.2f", class, k, floor)
		}
	}
}

// TestWeights: the weights of the program are those of the labels. After a
// change of signs, lists or points: go test ./judge -run Weights -update
func TestWeights(t *testing.T) {
	all := fitSamples(t)
	var b bytes.Buffer
	b.WriteString("package judge\n\nimport \"github.com/esclab/esclab/esc\"\n\n" +
		"// weights of the features, by class and in the order of featureNames; the sum\n" +
		"// decides at 0. They are fitted, with -update, by TestWeights to the labels that\n" +
		"// an LLM gave to FailedESConv.\n" +
		"var weights = [esc.NumPsyErrors][]float64{\n")
	for _, class := range esc.PsyErrors() {
		w := decide(all, class)
		fmt.Fprintf(&b, "\tesc.%s: {\n", strings.ReplaceAll(class.Name(), " ", ""))
		for i, v := range w {
			fmt.Fprintf(&b, "\t\t%.3f, // %s\n", v, featureNames[i])
			if !*update && (len(weights[class]) != len(w) || math.Abs(weights[class][i]-v) > 1e-2) {
				t.Fatalf("%s, %s: the weight is %.3f: run go test ./judge -run Weights -update, and raise the kinds' versions", class, featureNames[i], v)
			}
		}
		b.WriteString("\t},\n")
	}
	b.WriteString("}\n")
	if *update {
		source, err := format.Source(bytes.ReplaceAll(b.Bytes(), []byte("esc.LackofEmpathy"), []byte("esc.LackOfEmpathy")))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("weights.go", source, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
