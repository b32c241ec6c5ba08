package metrics

import (
	"math"
	"math/bits"
)

const maxOrder = 4

// ngrams accumulates what the automatic metrics need over (gold, response)
// pairs: one pair for a sample's own scores, all pairs for the corpus.
type ngrams struct {
	samples   int
	words     int // in the responses
	goldWords int
	// matches and totals are BLEU's clipped matches and response n-grams of
	// order n at index n-1 (Papineni et al. 2002).
	matches, totals [maxOrder]int
	// distinct and counted are the different and all n-grams of the responses.
	distinct [maxOrder - 1]map[string]struct{}
	counted  [maxOrder - 1]int
	f1, rl   float64 // sums
}

func newNgrams() *ngrams {
	var g ngrams
	for n := range g.distinct {
		g.distinct[n] = map[string]struct{}{}
	}
	return &g
}

// add takes one pair of tokenized texts.
func (g *ngrams) add(gold, words []string) {
	g.samples++
	g.words += len(words)
	g.goldWords += len(gold)
	for n := range maxOrder {
		inGold := counts(gold, n+1)
		grams := counts(words, n+1)
		total := max(len(words)-n, 0)
		shared := 0
		for gram, count := range grams {
			shared += min(count, inGold[gram])
			if n < len(g.distinct) {
				g.distinct[n][gram] = struct{}{}
			}
		}
		g.matches[n] += shared
		// NLTK counts at least one n-gram per response.
		g.totals[n] += max(total, 1)
		if n < len(g.counted) {
			g.counted[n] += total
		}
		if n == 0 {
			g.f1 += harmonic(ratio(shared, len(words)), ratio(shared, len(gold)), 1)
		}
	}
	l, _ := commonSubsequence(gold, words)
	g.rl += harmonic(ratio(l, len(words)), ratio(l, len(gold)), rougeBeta)
}

// scores converts the sums to percent.
func (g *ngrams) scores() Scores {
	var d [maxOrder - 1]float64
	for n := range d {
		d[n] = 100 * ratio(len(g.distinct[n]), g.counted[n])
	}
	return Scores{
		Length:    float64(g.words) / float64(g.samples),
		Distinct1: d[0], Distinct2: d[1], Distinct3: d[2],
		Bleu1: 100 * g.bleu(1), Bleu2: 100 * g.bleu(2), Bleu3: 100 * g.bleu(3), Bleu4: 100 * g.bleu(4),
		F1:     100 * g.f1 / float64(g.samples),
		RougeL: 100 * g.rl / float64(g.samples),
	}
}

// bleu is NLTK's corpus_bleu with uniform weights up to the order and
// smoothing method 3 (NIST): the n-th precision without a match becomes
// 1/(2^k total), k counting such precisions from the lowest order.
func (g *ngrams) bleu(order int) float64 {
	if g.matches[0] == 0 {
		return 0
	}
	sum, empty := 0.0, 0
	for n := range order {
		p := float64(g.matches[n]) / float64(g.totals[n])
		if g.matches[n] == 0 {
			empty++
			p = 1 / (math.Ldexp(1, empty) * float64(g.totals[n]))
		}
		sum += math.Log(p) / float64(order)
	}
	brevity := 1.0
	if g.words <= g.goldWords {
		brevity = math.Exp(1 - float64(g.goldWords)/float64(g.words))
	}
	return brevity * math.Exp(sum)
}

// counts maps each n-gram to its number of occurrences. Words hold no white
// space, so that joining them with a space is unambiguous.
func counts(words []string, n int) map[string]int {
	if len(words) < n {
		return nil
	}
	out := make(map[string]int, len(words))
	var key []byte
	for i := 0; i+n <= len(words); i++ {
		key = append(key[:0], words[i]...)
		for _, w := range words[i+1 : i+n] {
			key = append(append(key, ' '), w...)
		}
		out[string(key)]++
	}
	return out
}

// rougeBeta weighs recall over precision in ROUGE-L (Lin 2004, as in the
// COCO caption evaluation).
const rougeBeta = 1.2

// harmonic is F_beta of precision and recall, 0 where both are 0.
func harmonic(precision, recall, beta float64) float64 {
	if precision == 0 || recall == 0 {
		return 0
	}
	return (1 + beta*beta) * precision * recall / (recall + beta*beta*precision)
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// occurrences are the places of a word among 64 words of a text, as bits.
type occurrences struct {
	block int
	bits  uint64
}

// commonSubsequence is the length of the longest common subsequence, by a row of
// bits whose zeros count it (Hyyrö 2004): a word of a takes a step for every 64
// words of b in which it occurs, and those that a carry runs through. steps says
// how many that were.
func commonSubsequence(a, b []string) (length, steps int) {
	places := make(map[string][]occurrences, len(b))
	for j, word := range b {
		at := places[word]
		if n := len(at); n == 0 || at[n-1].block != j/64 {
			at = append(at, occurrences{block: j / 64})
		}
		at[len(at)-1].bits |= 1 << (j % 64)
		places[word] = at
	}
	row := make([]uint64, (len(b)+63)/64)
	for i := range row {
		row[i] = math.MaxUint64
	}
	for _, word := range a {
		carry, next := uint64(0), 0
		run := func(until int) {
			for ; carry != 0 && next < until; next++ {
				var sum uint64
				sum, carry = bits.Add64(row[next], 0, carry)
				row[next] |= sum
				steps++
			}
		}
		for _, at := range places[word] {
			run(at.block)
			var sum uint64
			v := row[at.block]
			sum, carry = bits.Add64(v, v&at.bits, carry)
			row[at.block] = sum | v&^at.bits
			next = at.block + 1
			steps++
		}
		run(len(row))
	}
	for _, v := range row {
		length += bits.OnesCount64(^v)
	}
	return length, steps
}
