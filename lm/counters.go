package lm

import (
	"hash/fnv"
	"math"
)

// Randomness comes from counters: a value is a function of a seed and what it is for (epoch, step, layer, name),
// never of the order of calls, so that a resumed run draws what an unbroken one would.

const golden = 0x9e3779b97f4a7c15

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// derive makes a seed for one purpose out of a seed and counters.
func derive(seed uint64, counters ...uint64) uint64 {
	h := mix(seed + golden)
	for _, c := range counters {
		h = mix(h ^ mix(c+golden))
	}
	return h
}

// named turns a name into a counter.
func named(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// Purposes of derived seeds.
const (
	purposeInit uint64 = iota + 1
	purposeAdapter
	purposeOrder
	purposeDropout
)

// stream draws numbers from one derived seed (SplitMix64).
type stream struct{ state uint64 }

func newStream(seed uint64, counters ...uint64) *stream { return &stream{derive(seed, counters...)} }

func (s *stream) next() uint64 {
	s.state += golden
	return mix(s.state)
}

// uniform is in [0, 1).
func (s *stream) uniform() float64 { return float64(s.next()>>11) / (1 << 53) }

// normal is standard normal (Box and Muller).
func (s *stream) normal() float64 {
	u := 1 - s.uniform() // in (0, 1]
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*s.uniform())
}

// shuffled is a permutation of 0..n-1 (Fisher and Yates).
func (s *stream) shuffled(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := int(s.uniform() * float64(i+1))
		p[i], p[j] = p[j], p[i]
	}
	return p
}
