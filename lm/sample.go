package lm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
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

// sampler draws tokens at a temperature from the nucleus of a distribution: the fewest most likely tokens that hold
// topP of it (Holtzman et al. 2020), as transformers' TopPLogitsWarper does. Not for concurrent use.
type sampler struct {
	temperature, topP float64
	weights           []float64
	nucleus           []int32
}

// draw returns the token at quantile u, in [0, 1), of the nucleus in the order of ids. Logits that are not a number
// never win.
func (s *sampler) draw(logits []float32, u float64) int32 {
	highest := float32(math.Inf(-1))
	for _, l := range logits {
		if l > highest {
			highest = l
		}
	}
	if cap(s.weights) < len(logits) {
		s.weights = make([]float64, len(logits))
	}
	s.weights = s.weights[:len(logits)]
	total := 0.0
	for id, l := range logits {
		w := 0.0
		if l >= highest { // the highest itself, infinite ones too
			w = 1
		} else if l == l {
			w = math.Exp(float64(l-highest) / s.temperature)
		}
		s.weights[id] = w
		total += w
	}
	mass := total
	if s.topP < 1 {
		mass = s.cut(total)
	} else {
		s.nucleus = s.nucleus[:0]
		for id, w := range s.weights {
			if w > 0 {
				s.nucleus = append(s.nucleus, int32(id))
			}
		}
	}
	if len(s.nucleus) == 0 {
		return 0
	}
	// In the order of ids, so that two tokens of nearly the same weight cannot change places.
	target, sum := u*mass, 0.0
	for _, id := range s.nucleus {
		if sum += s.weights[id]; sum > target {
			return id
		}
	}
	return s.nucleus[len(s.nucleus)-1]
}

// cut sets the nucleus, ids ascending, and returns its weight.
func (s *sampler) cut(total float64) float64 {
	// What is below this is left out in any case: all such tokens together weigh less than the tail may.
	least := total * (1 - s.topP) / float64(len(s.weights))
	s.nucleus = s.nucleus[:0]
	for id, w := range s.weights {
		if w > least {
			s.nucleus = append(s.nucleus, int32(id))
		}
	}
	slices.SortFunc(s.nucleus, func(a, b int32) int {
		if c := cmp.Compare(s.weights[b], s.weights[a]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	sum := 0.0
	for i, id := range s.nucleus {
		sum += s.weights[id]
		if sum >= s.topP*total {
			s.nucleus = s.nucleus[:i+1]
			break
		}
	}
	slices.Sort(s.nucleus)
	return sum
}
