package judge

import "github.com/esclab/esclab/esc"

// featureNames names what the classifier sees of an answer: the signs, its
// length in steps, and the points of each class' evidence. No feature is a word
// of a corpus.
var featureNames = []string{
	"one",
	"acknowledges", "directs", "cheers", "presses", "hostile", "dismisses", "stock phrase", "asks", "asked for advice",
	"closing", "opening", "said before", "distress", "recent distress", "feelings", "takes up a word", "takes up two words",
	"words > 3", "words > 6", "words > 9", "words > 13", "words > 18", "words > 26",
	"content > 0", "content > 1", "content > 3", "content > 6",
	"answers > 0", "answers > 1", "answers > 3", "answers > 7",
	"seeker short", "seeker long",
	"points strategy mismatch", "points lack of empathy", "points early emotion shift", "points template response", "points emotion misread",
	"strategy Question", "strategy Restatement", "strategy Reflection", "strategy Self-disclosure",
	"strategy Affirmation", "strategy Suggestions", "strategy Information", "strategy Others",
}

// features gives the values in the order of featureNames; points are the sums
// of the classes' evidence.
func features(s signs, points [esc.NumPsyErrors]int) []float64 {
	x := make([]float64, 0, len(featureNames))
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
	for _, p := range points {
		x = append(x, float64(p)/3)
	}
	for _, strategy := range esc.Strategies() {
		is(s.request.Strategy == strategy)
	}
	return x
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i] * b[i]) // rounded before it is added, on every machine alike
	}
	return sum
}
