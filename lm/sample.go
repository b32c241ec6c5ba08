package lm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"github.com/esclab/esclab/lm/cpu"
)

// sampleSeed is the seed of one sample: a function of the generator's seed, the prompt and the sample's index.
func sampleSeed(seed uint64, prompt []int32, sample int) uint64 {
	data := make([]byte, 0, 4*len(prompt))
	for _, id := range prompt {
		data = binary.LittleEndian.AppendUint32(data, uint32(id))
	}
	digest := sha256.Sum256(data)
	return derive(seed, named("sample"), binary.LittleEndian.Uint64(digest[:]), uint64(sample))
}

// uniformAt is the random number in [0, 1) that draws a sample's token at a position.
func uniformAt(seed uint64, position int) float64 {
	return (&stream{derive(seed, uint64(position))}).uniform()
}

// sampler draws tokens at a temperature, 0 being the most likely one. It keeps the topK most likely tokens (0: all),
// and of those the nucleus: the fewest most likely ones that hold topP of what is kept (Holtzman et al. 2020). Order and
// ties are those of transformers' warpers. Not for concurrent use.
type sampler struct {
	temperature, topP float64
	topK              int
	penalty           float64   // of repetitions; 1: none
	weights           []float64 // of each token, the highest being 1
	candidates        []float64
	highest           []float32 // the topK highest logits, falling
	penalised         []float32
	seen              []bool
}

// penalise gives logits, [V], with those of tokens that stand in a list made less likely by the penalty, each once, as
// transformers' RepetitionPenaltyLogitsProcessor does. The logits themselves stay as they are.
func (s *sampler) penalise(logits []float32, lists ...[]int32) []float32 {
	if s.penalty == 1 {
		return logits
	}
	s.penalised = append(s.penalised[:0], logits...)
	if len(s.seen) < len(logits) {
		s.seen = make([]bool, len(logits))
	}
	for _, list := range lists {
		for _, id := range list {
			switch l := logits[id]; {
			case s.seen[id]:
			case l < 0:
				s.penalised[id] = l * float32(s.penalty)
			default:
				s.penalised[id] = l / float32(s.penalty)
			}
			s.seen[id] = true
		}
	}
	for _, list := range lists {
		for _, id := range list {
			s.seen[id] = false
		}
	}
	return s.penalised
}

// least is the logit from which on tokens are kept: that of the topK-th most likely one.
func (s *sampler) least(logits []float32) float32 {
	if s.topK == 0 || s.topK >= len(logits) {
		return float32(math.Inf(-1))
	}
	top := s.highest[:0]
	for _, l := range logits {
		if l != l || len(top) == s.topK && l <= top[len(top)-1] {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, l, func(a, b float32) int { return cmp.Compare(b, a) })
		if len(top) == s.topK {
			top = top[:len(top)-1]
		}
		top = slices.Insert(top, at, l)
	}
	s.highest = top
	if len(top) < s.topK { // the rest are no numbers
		return float32(math.Inf(-1))
	}
	return top[len(top)-1]
}

// draw returns the token at quantile u, in [0, 1), of the nucleus in the order of ids: so that two tokens of nearly
// the same weight cannot change places. Logits that are not a number never win.
func (s *sampler) draw(logits []float32, u float64) int32 {
	highest, best := float32(math.Inf(-1)), int32(0)
	for id, l := range logits {
		if l > highest {
			highest, best = l, int32(id)
		}
	}
	if s.temperature == 0 {
		return best
	}
	kept := s.least(logits)
	if cap(s.weights) < len(logits) {
		s.weights = make([]float64, len(logits))
	}
	s.weights = s.weights[:len(logits)]
	total, done := cpu.SampleWeights(logits, highest, kept, s.temperature, s.weights)
	if !done {
		total = s.weigh(logits, highest, kept)
	}
	least, ties, mass := 0.0, len(logits), total
	if s.topP < 1 {
		least, ties, mass = s.cut(total)
	}
	target, sum, last := u*mass, 0.0, int32(0)
	for id, w := range s.weights {
		if w < least || w == 0 {
			continue
		}
		if w == least {
			if ties == 0 {
				continue
			}
			ties--
		}
		last = int32(id)
		if sum += w; sum > target {
			break
		}
	}
	return last
}

// weigh gives each of the logits its weight, and returns their sum: cpu.SampleWeights, where that has no kernel.
func (s *sampler) weigh(logits []float32, highest, kept float32) (total float64) {
	for id, l := range logits {
		w := 0.0
		if l >= highest { // the highest itself, infinite ones too
			w = 1
		} else if l >= kept {
			w = exp(float64(l-highest) / s.temperature)
		}
		s.weights[id] = w
		total += w
	}
	return total
}

// cut returns the nucleus: the tokens that weigh more than least, and of those that weigh just that the first ties;
// and its weight. It is a quickselect by weight.
func (s *sampler) cut(total float64) (least float64, ties int, mass float64) {
	// What is below this is left out in any case: all such tokens together weigh less than the tail may.
	floor := total * (1 - s.topP) / float64(len(s.weights))
	list := s.candidates[:0]
	for _, w := range s.weights {
		if w > floor {
			list = append(list, w)
		}
	}
	s.candidates = list
	for wanted := s.topP * total; len(list) > 0; {
		pivot := median(list[0], list[len(list)/2], list[len(list)-1])
		above, equal := 0, 0 // list is kept as those above the pivot, those equal to it, those below
		sum := 0.0
		for i, w := range list {
			switch {
			case w > pivot:
				list[i], list[above+equal] = list[above+equal], list[i]
				list[above], list[above+equal] = list[above+equal], list[above]
				above++
				sum += w
			case w == pivot:
				list[i], list[above+equal] = list[above+equal], list[i]
				equal++
			}
		}
		if mass+sum >= wanted {
			list = list[:above]
			continue
		}
		mass += sum
		least = pivot
		for ties = 0; ties < equal; {
			ties++
			if mass += pivot; mass >= wanted {
				return least, ties, mass
			}
		}
		list = list[above+equal:]
	}
	return least, ties, mass // rounding left all of them short of what is wanted
}

func median(a, b, c float64) float64 { return max(min(a, b), min(max(a, b), c)) }

// exp is e to the x for x <= 0, to a few units in the last place (fdlibm's e_exp.c). It is the same on every
// machine, and math.Exp's assembly is slower by two orders of magnitude where Go is built with GOEXPERIMENT=simd.
func exp(x float64) float64 {
	const (
		ln2High = 6.93147180369123816490e-01
		ln2Low  = 1.90821492927058770002e-10
	)
	if x < -700 {
		return 0
	}
	k := math.Floor(x*math.Log2E + 0.5)
	high, low := x-float64(k*ln2High), k*ln2Low
	r := high - low
	t := r * r
	p := float64(t*4.13813679705723846039e-08) - 1.65339022054652515390e-06
	p = float64(t*p) + 6.61375632143793436117e-05
	p = float64(t*p) - 2.77777777770155933842e-03
	p = float64(t*p) + 1.66666666666666019037e-01
	c := r - float64(t*p)
	y := 1 - ((low - float64(r*c)/(2-c)) - high)
	return y * math.Float64frombits(uint64(int64(k)+1023)<<52)
}
