package judge

import (
	"math"
	"strings"

	"github.com/esclab/esclab/esc"
)

// A text's words are seen as hashes alone: what is fitted to a corpus is a
// number for each bucket of a hash function, which holds no word of it.

// Kinds of hashed features; the kind is the first byte that is hashed.
const (
	wordKind     = 'w' // a stem
	bigramKind   = '2' // two words
	openingKind  = 'f' // the first word of a response
	positionKind = 'p' // supporter's answers so far, in steps
	lengthKind   = 'l' // words of a text, in steps
	asksKind     = 'q' // the text has a question mark
)

// hashOf is FNV-1a over the kind and the parts, with murmur3's last step, so
// that the low bits depend on all of them.
func hashOf(kind byte, parts ...string) uint32 {
	h := (uint32(2166136261) ^ uint32(kind)) * 16777619
	for _, p := range parts {
		h = (h ^ ' ') * 16777619
		for i := range len(p) {
			h = (h ^ uint32(p[i])) * 16777619
		}
	}
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// step hashes the number of bounds that n reaches.
func step(kind byte, n int, bounds ...int) uint32 {
	reached := byte('0')
	for _, bound := range bounds {
		if n >= bound {
			reached++
		}
	}
	return hashOf(kind, string(rune(reached)))
}

// hashed is a text as hashes, in order.
type hashed struct {
	stems, bigrams []uint32
}

func hashWords(list []string) hashed {
	h := hashed{stems: make([]uint32, len(list))}
	for i, w := range list {
		h.stems[i] = hashOf(wordKind, stem(w))
		if i > 0 {
			h.bigrams = append(h.bigrams, hashOf(bigramKind, list[i-1], w))
		}
	}
	return h
}

// weighted is a feature of a text: its hash and its value.
type weighted struct {
	hash  uint32
	value float64
}

// normalise scales values to a sum of squares of 1.
func normalise(list []weighted) []weighted {
	sum := 0.0
	for _, f := range list {
		sum += float64(f.value * f.value)
	}
	if sum > 0 {
		scale := 1 / math.Sqrt(sum)
		for i := range list {
			list[i].value *= scale
		}
	}
	return list
}

// wordsOf lists each message's words, without the strategy in front of an
// assistant's.
func wordsOf(chat []esc.Message) [][]string {
	said := make([][]string, len(chat))
	for i, m := range chat {
		text := m.Content
		if m.Role == esc.AssistantRole && strings.HasPrefix(text, "[") {
			if _, after, bracketed := strings.Cut(text, "] "); bracketed {
				text = after
			}
		}
		said[i] = words(text)
	}
	return said
}
