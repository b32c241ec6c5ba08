package judge

import (
	"math"
	"strings"

	"github.com/esclab/esclab/esc"
)

// denseFeatures: the signs of an answer, once for all strategies and once for
// its own, and the strategy.
const (
	signFeatures  = 34 + 8
	basicFeatures = signFeatures + esc.NumPsyErrors + 2
	denseFeatures = basicFeatures + esc.NumStrategies*(signFeatures+1)
)

// signScale weighs the dense features against the hashed ones, under one penalty.
const signScale = 0.3

// Salts of the texts beside the answer.
const (
	lastSalt     = 0x9e3779b1 // the message answered
	previousSalt = 0x85ebca77 // the answer before
	strategySalt = 0x27d4eb2f // the answer, by strategy
)

// featured is an answer as the classifier of labels sees it.
type featured struct {
	dense  []float64
	hashed []weighted // of the answer and of the message answered
	beside []weighted // of the answer before, and of the answer by strategy
}

// labelFeatures gives the signs, the points of each class' evidence, the merit,
// the signs once more by strategy, and the hashed texts.
func (t *tables) labelFeatures(s signs, points [esc.NumPsyErrors]int) featured {
	signs := signsOf(s)
	x := make([]float64, 0, denseFeatures)
	x = append(x, 1)
	x = append(x, signs[1:]...)
	for _, p := range points {
		x = append(x, float64(p)/3)
	}
	x = append(x, s.merit.coherence, s.merit.substance)
	for i := range x[1:] {
		x[1+i] *= signScale
	}
	for _, strategy := range esc.Strategies() {
		is := when(s.request.Strategy == strategy, 1)
		x = append(x, is)
		for _, v := range signs {
			x = append(x, float64(is*v*signScale))
		}
	}
	text := hashWords(s.response.words)
	features := t.textFeatures(text, 0, 1)
	features = append(features, t.textFeatures(hashWords(s.last.words), lastSalt, 1)...)
	text.bigrams = nil
	beside := append(t.textFeatures(hashWords(s.previous), previousSalt, 0.5),
		t.textFeatures(text, strategySalt*uint32(1+s.request.Strategy), 1)...)
	return featured{x, features, beside}
}

// textFeatures are the stems and word pairs of a text, by their idf (and 4, so that
// common words count, too) and, where
// they recur, the root of their number, scaled to a length of scale. The salt
// parts the buckets of one text from those of another.
func (t *tables) textFeatures(text hashed, salt uint32, scale float64) []weighted {
	var features []weighted
	var counts []float64
	place := make(map[uint32]int, len(text.stems)+len(text.bigrams))
	for _, list := range [][]uint32{text.stems, text.bigrams} {
		for _, f := range list {
			i, seen := place[f]
			if !seen {
				i = len(features)
				place[f] = i
				features, counts = append(features, weighted{f ^ salt, t.idf(f) + 4}), append(counts, 0)
			}
			counts[i]++
		}
	}
	for i := range features {
		features[i].value *= math.Sqrt(counts[i])
	}
	normalise(features)
	for i := range features {
		features[i].value *= scale
	}
	return features
}

// signsOf lists the signs, and the length of the answer and its place in steps.
func signsOf(s signs) []float64 {
	x := make([]float64, 0, signFeatures)
	is := func(holds ...bool) {
		for _, h := range holds {
			x = append(x, when(h, 1))
		}
	}
	is(true,
		s.acknowledges != "", s.directs != "", s.cheers != "", s.presses != "", s.hostile != "", s.dismisses != "", s.stock != "", s.question, s.asked,
		s.closing, s.opening, s.repeated, len(s.distress) > 0, len(s.distressRecent) > 0, len(s.feelings) > 0, s.shared > 0, s.shared > 1,
		s.n > 3, s.n > 6, s.n > 9, s.n > 13, s.n > 18, s.n > 26,
		s.content > 0, s.content > 1, s.content > 3, s.content > 6,
		s.answers > 0, s.answers > 1, s.answers > 3, s.answers > 7,
		len(s.last.words) <= 3, len(s.last.words) > 20)
	count := func(sign string) float64 { return float64(min(4, strings.Count(s.request.Response, sign))) }
	return append(x, float64(min(s.answers, 20))/12, float64(min(s.n, 60))/20, float64(min(len(s.last.words), 60))/20,
		count("?")/2, count("!")/2, count(".")/3, count(",")/3, when(s.several, 1))
}

func dot[A, B float32 | float64](a []A, b []B) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(float64(a[i]) * float64(b[i])) // rounded before it is added, on every machine alike
	}
	return sum
}
