package judge

import (
	"math"
	"math/rand/v2"

	"github.com/esclab/esclab/esc"
)

// observed is a turn as the towers see it.
type observed struct {
	turn    esc.Turn
	setting setting
	answer  answer
}

func observeAll(t *tables, turns []esc.Turn) []observed {
	all := make([]observed, len(turns))
	for i, turn := range turns {
		all[i] = observed{turn, t.setting(turn.Context, wordsOf(turn.Context)), t.answer(turn.Response)}
	}
	return all
}

// fitIDF counts in how many utterances a bucket's stems and word pairs are.
func (t *tables) fitIDF(dialogues []esc.Dialogue) {
	n, counts := 0, make([]int, idfBuckets)
	for _, d := range dialogues {
		for _, u := range d.Utterances {
			n++
			h, seen := hashWords(words(u.Text)), map[uint32]bool{}
			for _, f := range append(h.stems, h.bigrams...) {
				if b := f % idfBuckets; !seen[b] {
					seen[b] = true
					counts[b]++
				}
			}
		}
	}
	for b, count := range counts {
		t.IDF[b] = uint8(math.Round(math.Log(float64(n+1)/float64(count+1)) / idfUnit))
	}
}

type vectors [towerBuckets][towerWidth]float32

// fitTowers fits both towers to tell each answer of ESConv from others of other
// dialogues, by the cross-entropy of a softmax over one and towerNegatives. A
// share of the features is left out at random, and AdaGrad takes the steps.
func (t *tables) fitTowers(data []observed, seed uint64) {
	const (
		epochs, negatives = 6, 6
		rate, decay, omit = 0.1, 1e-3, 0.5
	)
	rng := rand.New(rand.NewPCG(seed, 0))
	var context, response, contextSquares, responseSquares vectors
	for b := range context {
		for k := range towerWidth {
			context[b][k], response[b][k] = float32(rng.NormFloat64()*0.1), float32(rng.NormFloat64()*0.1)
		}
	}
	thin := func(all []weighted) []weighted {
		var some []weighted
		for _, f := range all {
			if rng.Float64() >= omit {
				some = append(some, f)
			}
		}
		return some
	}
	embed := func(rows *vectors, features []weighted) (v [towerWidth]float32) {
		for _, f := range features {
			row := &rows[f.hash%towerBuckets]
			for k := range v {
				v[k] += float32(f.value) * row[k]
			}
		}
		return v
	}
	step := func(rows, squares *vectors, features []weighted, gradient [towerWidth]float32) {
		for _, f := range features {
			row, sum := &rows[f.hash%towerBuckets], &squares[f.hash%towerBuckets]
			for k := range gradient {
				g := float32(f.value)*gradient[k] + decay*row[k]
				sum[k] += g * g
				row[k] -= rate * g / (float32(math.Sqrt(float64(sum[k]))) + 1e-2)
			}
		}
	}
	for range epochs {
		for _, i := range rng.Perm(len(data)) {
			here := data[i]
			chat := thin(here.setting.features)
			u := embed(&context, chat)
			answers := [][]weighted{thin(here.answer.features)}
			for len(answers) <= negatives {
				if other := data[rng.IntN(len(data))]; other.turn.Dialogue != here.turn.Dialogue {
					answers = append(answers, thin(other.answer.features))
				}
			}
			vs, p, sum := make([][towerWidth]float32, len(answers)), make([]float64, len(answers)), 0.0
			for j, a := range answers {
				vs[j] = embed(&response, a)
				p[j] = math.Exp(float64(dot(u[:], vs[j][:])))
				sum += p[j]
			}
			var gu [towerWidth]float32
			for j := range answers {
				error := float32(p[j]/sum - when(j == 0, 1))
				var gv [towerWidth]float32
				for k := range u {
					gu[k] += error * vs[j][k]
					gv[k] = error * u[k]
				}
				step(&response, &responseSquares, answers[j], gv)
			}
			step(&context, &contextSquares, chat, gu)
		}
	}
	context.quantise(&t.Context)
	response.quantise(&t.Response)
}

func (v *vectors) quantise(into *tower) {
	largest := float32(0)
	for _, row := range v {
		for _, x := range row {
			largest = max(largest, x, -x)
		}
	}
	into.Scale = largest / 127
	for b, row := range v {
		for k, x := range row {
			into.Rows[b][k] = int8(math.Round(float64(x / into.Scale)))
		}
	}
}
