// Package tfidf plans strategies without a language model: logistic regressions
// on the words of the last two messages, which every planner has to beat.
package tfidf

import (
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/logistic"
)

// Planner plans one strategy for a context.
type Planner struct {
	index   map[string]int // of terms, from 1
	df      []float64      // by index; df[0] is unused
	n       float64        // turns
	weights [esc.NumStrategies][]float64
}

// penalty of the coefficients' squares: scikit-learn's default, C = 1.
const penalty = 1

// Fit fits a planner to turns: one regression for each strategy against the
// others, on the TF-IDF vector of each message (words and word pairs that two
// turns have at least, of length 1). It takes seconds for ten thousand turns.
func Fit(turns []esc.Turn) *Planner {
	p := &Planner{index: map[string]int{}, n: float64(len(turns))}
	counts := map[string]float64{}
	for _, turn := range turns {
		found := slices.Concat(terms(turn.Context)...)
		slices.Sort(found)
		for _, term := range slices.Compact(found) {
			counts[term]++
		}
	}
	var known []string
	for term, n := range counts {
		if n > 1 {
			known = append(known, term)
		}
	}
	slices.Sort(known)
	p.df = make([]float64, 1+len(known))
	for i, term := range known {
		p.index[term], p.df[1+i] = 1+i, counts[term]
	}
	examples := make([]logistic.Example, len(turns))
	for i, turn := range turns {
		examples[i] = p.vector(turn.Context)
	}
	for _, s := range esc.Strategies() {
		for i, turn := range turns {
			examples[i].Y = turn.Strategy == s
		}
		p.weights[s] = logistic.Fit(examples, len(p.df), penalty, logistic.Natural)
	}
	return p
}

// Plan gives the likeliest strategy; of equals the first.
func (p *Planner) Plan(context []esc.Message) esc.Strategy {
	x := p.vector(context)
	best, most := esc.Strategy(0), math.Inf(-1)
	for _, s := range esc.Strategies() {
		if margin := x.Dot(p.weights[s]); margin > most {
			best, most = s, margin
		}
	}
	return best
}

// vector has an intercept and the TF-IDF of each message's terms.
func (p *Planner) vector(context []esc.Message) logistic.Example {
	x := logistic.Example{At: []int{0}, Value: []float64{1}}
	for _, message := range terms(context) {
		slices.Sort(message)
		start, squares := len(x.At), 0.0
		for i := 0; i < len(message); {
			next := i + 1
			for next < len(message) && message[next] == message[i] {
				next++
			}
			if at := p.index[message[i]]; at > 0 {
				v := (1 + math.Log(float64(next-i))) * (1 + math.Log((1+p.n)/(1+p.df[at])))
				x.At, x.Value = append(x.At, at), append(x.Value, v)
				squares += float64(v * v)
			}
			i = next
		}
		for k := start; k < len(x.Value); k++ {
			x.Value[k] /= math.Sqrt(squares)
		}
	}
	return x
}

// terms are those of the seeker's last message and of the supporter's before it,
// which begins with its strategy. They are told apart.
func terms(context []esc.Message) [][]string {
	var all [][]string
	for side, m := range context[max(0, len(context)-2):] {
		mark := m.Role + " "
		words := strings.FieldsFunc(strings.ToLower(m.Content), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' })
		all = append(all, nil)
		for i, w := range words {
			all[side] = append(all[side], mark+w)
			if i > 0 {
				all[side] = append(all[side], mark+words[i-1]+" "+w)
			}
		}
	}
	return all
}
