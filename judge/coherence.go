package judge

import (
	"math"
	"strings"

	"github.com/esclab/esclab/esc"
)

const (
	towerBuckets = 1 << 12
	towerWidth   = 16
)

// tower maps features of a text to the sum of their buckets' vectors. Two
// towers are fitted together, so that the product of a chat's vector with an
// answer's is larger for the answer that was given than for others.
type tower struct {
	Scale float32
	Rows  [towerBuckets][towerWidth]int8
}

func (t *tower) embed(features []weighted) (v [towerWidth]float64) {
	for _, f := range features {
		row := &t.Rows[f.hash%towerBuckets]
		for i := range v {
			v[i] += float64(f.value * float64(row[i]))
		}
	}
	for i := range v {
		v[i] *= float64(t.Scale)
	}
	return v
}

// Weights in the towers: of a message's words by how far back it is said, and
// of what is not a word (position, length, question mark, opening).
const (
	lastWeight   = 1
	recentWeight = 0.5
	olderWeight  = 0.25
	actWeight    = 0.3
)

// setting is what the judge sees of the chat before an answer.
type setting struct {
	features []weighted
	weights  map[uint32]float64 // of the stems said
	bigrams  map[uint32]bool
}

// setting reads a chat and its messages' words.
func (t *tables) setting(chat []esc.Message, said [][]string) setting {
	n := 0
	for _, list := range said {
		n += len(list)
	}
	s := setting{weights: make(map[uint32]float64, n/2), bigrams: make(map[uint32]bool, n)}
	answers, lastWords, asks := 0, 0, false
	for back := range chat {
		m, list := chat[len(chat)-1-back], said[len(chat)-1-back]
		weight := olderWeight
		switch {
		case back == 0:
			weight, lastWords, asks = lastWeight, len(list), strings.Contains(m.Content, "?")
		case back <= 2:
			weight = recentWeight
		}
		if m.Role == esc.AssistantRole {
			answers++
		}
		h := hashWords(list)
		for _, stem := range h.stems {
			if _, said := s.weights[stem]; !said {
				s.weights[stem] = weight
				s.features = append(s.features, weighted{stem, weight * t.idf(stem)})
			}
		}
		for _, b := range h.bigrams {
			s.bigrams[b] = true
		}
	}
	s.features = append(normalise(s.features),
		weighted{step(positionKind, answers, 1, 2, 3, 5, 8, 12, 17), actWeight},
		weighted{step(lengthKind, lastWords, 1, 4, 8, 16, 30), actWeight})
	if asks {
		s.features = append(s.features, weighted{hashOf(asksKind), actWeight})
	}
	return s
}

// answer is what the judge sees of a response in itself.
type answer struct {
	list     []string
	text     hashed
	features []weighted // stems once each, and what kind of text it is
	distinct int        // how many of the features are stems
}

func (t *tables) answer(response string) answer {
	a := answer{list: words(response)}
	a.text = hashWords(a.list)
	seen := map[uint32]bool{}
	for _, stem := range a.text.stems {
		if !seen[stem] {
			seen[stem] = true
			a.features = append(a.features, weighted{stem, t.idf(stem)})
		}
	}
	a.distinct = len(a.features)
	a.features = append(normalise(a.features), weighted{step(lengthKind, len(a.list), 4, 8, 12, 18, 26, 40), actWeight})
	if strings.Contains(response, "?") {
		a.features = append(a.features, weighted{hashOf(asksKind), actWeight})
	}
	if len(a.list) > 0 {
		a.features = append(a.features, weighted{hashOf(openingKind, a.list[0]), actWeight})
	}
	return a
}

const (
	coherenceFeatures = 8
	substanceFeatures = 14
)

// fit returns what tells an answer that belongs to its place from one of
// another dialogue (coherence), and one with something of its own from one that
// could be given everywhere, with words of the chat put in or not (substance).
func (t *tables) fit(s setting, a answer) (coherence [coherenceFeatures]float64, substance [substanceFeatures]float64) {
	u, v := t.Context.embed(s.features), t.Response.embed(a.features)
	product := dot(u[:], v[:])
	length := math.Sqrt(dot(v[:], v[:]))

	var all, last, recent, older float64 // sums of idf, by where a stem was said
	for _, f := range a.features[:a.distinct] {
		idf := t.idf(f.hash)
		all += idf
		switch s.weights[f.hash] {
		case lastWeight:
			last += idf
		case recentWeight:
			recent += idf
		case olderWeight:
			older += idf
		}
	}
	share := func(x float64) float64 { return x / max(all, 1) }
	coherence = [...]float64{1, product, share(last), share(recent), share(older),
		math.Sqrt(last) / 4, math.Sqrt(recent) / 4, math.Sqrt(older) / 4}

	var fresh, topical, content, largest, topics float64
	seen := map[uint32]bool{}
	for i, w := range a.list {
		h := a.text.stems[i]
		if len(w) <= 2 || functionWords[w] || inflected(functionWords, w) || seen[h] {
			continue
		}
		seen[h] = true
		content++
		idf := t.idf(h)
		if s.weights[h] > 0 {
			continue
		}
		fresh++
		if !inflected(general, w) {
			topics++
			topical += idf
			largest = max(largest, idf)
		}
	}
	var pairs, copied, usual float64
	for _, b := range a.text.bigrams {
		pairs++
		usual += t.idf(b)
		copied += when(s.bigrams[b], 1)
	}
	pairs = max(pairs, 1)
	n := float64(len(a.list))
	substance = [...]float64{1, math.Sqrt(n) / 4, math.Sqrt(content) / 2, math.Sqrt(fresh) / 2, math.Sqrt(topics) / 2, math.Sqrt(topical) / 4, largest / 8,
		usual / pairs / 8, copied / pairs, (content - fresh) / max(content, 1), topics / max(content, 1), topics / max(n, 1) * 4, length, when(topics == 0, 1)}
	return coherence, substance
}

// merit of an answer at its place, both in 0..1.
type merit struct{ coherence, substance float64 }

func (t *tables) merit(chat []esc.Message, said [][]string, response string) merit {
	c, s := t.fit(t.setting(chat, said), t.answer(response))
	return merit{squash(dot(t.Coherence[:], c[:])), squash(dot(t.Substance[:], s[:]))}
}

// squash is a sigmoid without an exponential, so that it is the same on every
// machine.
func squash(x float64) float64 { return 0.5 + 0.5*x/math.Sqrt(1+float64(x*x)) }
