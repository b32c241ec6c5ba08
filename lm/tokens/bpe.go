package tokens

import (
	"container/heap"
	"sync"
)

// bpe merges the bytes of one pre-token by rank, as Sennrich et al. 2016 and
// Hugging Face's models::bpe do.
type bpe struct {
	byteID       [256]int32         // the token of each single byte; -1 where the vocabulary lacks it
	merges       map[uint64]bpeRule // (left<<32 | right) to what they become
	whole        map[string]int32   // raw bytes of every token, for ignore_merges
	ignoreMerges bool
	cache        bpeCache
}

type bpeRule struct{ rank, id int32 }

func pairKey(left, right int32) uint64 {
	return uint64(uint32(left))<<32 | uint64(uint32(right))
}

// shortWord is the length up to which looking for the best pair again and
// again is faster than keeping a heap.
const shortWord = 48

// append adds the tokens of word to ids.
func (b *bpe) append(ids []int32, word string) []int32 {
	if len(word) == 1 {
		return b.appendBytes(ids, word)
	}
	if cached, ok := b.cache.get(word); ok {
		return append(ids, cached...)
	}
	start := len(ids)
	if id, ok := b.wholeToken(word); ok {
		ids = append(ids, id)
	} else if len(word) <= shortWord {
		ids = b.mergeShort(ids, word)
	} else {
		ids = b.mergeLong(ids, word)
	}
	b.cache.put(word, ids[start:])
	return ids
}

func (b *bpe) wholeToken(word string) (int32, bool) {
	if !b.ignoreMerges {
		return 0, false
	}
	id, ok := b.whole[word]
	return id, ok
}

// appendBytes adds one token a byte. A byte that the vocabulary lacks is left
// out, as Hugging Face does where there is no unk_token.
func (b *bpe) appendBytes(ids []int32, word string) []int32 {
	for i := range len(word) {
		if id := b.byteID[word[i]]; id >= 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// mergeShort looks for the pair of the lowest rank, leftmost first, until none
// is left: quadratic, but without allocation.
func (b *bpe) mergeShort(ids []int32, word string) []int32 {
	start := len(ids)
	ids = b.appendBytes(ids, word)
	symbols := ids[start:]
	for len(symbols) > 1 {
		best, at := bpeRule{}, -1
		for i := range len(symbols) - 1 {
			if rule, ok := b.merges[pairKey(symbols[i], symbols[i+1])]; ok && (at < 0 || rule.rank < best.rank) {
				best, at = rule, i
			}
		}
		if at < 0 {
			break
		}
		symbols[at] = best.id
		copy(symbols[at+1:], symbols[at+2:])
		symbols = symbols[:len(symbols)-1]
	}
	return ids[:start+len(symbols)]
}

// mergeLong is mergeShort with a heap over a linked list: n log n, so that a
// turn of megabytes without a space stays possible.
func (b *bpe) mergeLong(ids []int32, word string) []int32 {
	symbols := b.appendBytes(nil, word)
	n := len(symbols)
	next, prev := make([]int32, n), make([]int32, n)
	queue := make(bpeHeap, 0, n)
	candidate := func(i int32) (bpeCandidate, bool) {
		if i < 0 || next[i] >= int32(n) {
			return bpeCandidate{}, false
		}
		rule, ok := b.merges[pairKey(symbols[i], symbols[next[i]])]
		return bpeCandidate{rule, i, symbols[i], symbols[next[i]]}, ok
	}
	for i := range n {
		next[i], prev[i] = int32(i+1), int32(i-1)
	}
	for i := range n {
		if c, ok := candidate(int32(i)); ok {
			queue = append(queue, c)
		}
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		c := heap.Pop(&queue).(bpeCandidate)
		right := next[c.at]
		// An entry is stale once either of its symbols has been merged away.
		if symbols[c.at] != c.left || right >= int32(n) || symbols[right] != c.right {
			continue
		}
		symbols[c.at], symbols[right] = c.rule.id, -1
		next[c.at] = next[right]
		if next[c.at] < int32(n) {
			prev[next[c.at]] = c.at
		}
		for _, i := range [2]int32{prev[c.at], c.at} {
			if created, ok := candidate(i); ok {
				heap.Push(&queue, created)
			}
		}
	}
	for i := int32(0); i < int32(n); i = next[i] {
		ids = append(ids, symbols[i])
	}
	return ids
}

type bpeCandidate struct {
	rule        bpeRule
	at          int32
	left, right int32
}

type bpeHeap []bpeCandidate

func (h bpeHeap) Len() int { return len(h) }
func (h bpeHeap) Less(i, j int) bool {
	if h[i].rule.rank != h[j].rule.rank {
		return h[i].rule.rank < h[j].rule.rank
	}
	return h[i].at < h[j].at
}
func (h bpeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *bpeHeap) Push(x any)   { *h = append(*h, x.(bpeCandidate)) }
func (h *bpeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// bpeCache remembers the tokens of pre-tokens already seen. It holds what
// depends on nothing but the word, so who fills it when changes no result.
type bpeCache struct {
	mu    sync.RWMutex
	words map[string][]int32
}

const (
	cachedWords      = 1 << 17
	cachedWordLength = 64
)

func (c *bpeCache) get(word string) ([]int32, bool) {
	if len(word) > cachedWordLength {
		return nil, false
	}
	c.mu.RLock()
	ids, ok := c.words[word]
	c.mu.RUnlock()
	return ids, ok
}

func (c *bpeCache) put(word string, ids []int32) {
	if len(word) > cachedWordLength {
		return
	}
	kept := append([]int32(nil), ids...)
	c.mu.Lock()
	if c.words == nil || len(c.words) >= cachedWords {
		c.words = make(map[string][]int32)
	}
	// A copy of the word: a substring would keep the whole text alive.
	c.words[string([]byte(word))] = kept
	c.mu.Unlock()
}

// byteChars maps each byte to the printable character that stands for it in a
// byte-level vocabulary (GPT-2's bytes_to_unicode).
var byteChars, charBytes = func() (chars [256]rune, bytes map[rune]byte) {
	bytes = make(map[rune]byte, 256)
	spare := rune(256)
	for b := range 256 {
		r := rune(b)
		if !('!' <= r && r <= '~' || '¡' <= r && r <= '¬' || '®' <= r && r <= 'ÿ') {
			r = spare
			spare++
		}
		chars[b] = r
		bytes[r] = byte(b)
	}
	return chars, bytes
}()

// tokenBytes turns a byte-level token into the bytes it stands for; a token
// with a character outside the alphabet stands for itself.
func tokenBytes(token string) string {
	out := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := charBytes[r]
		if !ok {
			return token
		}
		out = append(out, b)
	}
	return string(out)
}

// bytesToken is the inverse of tokenBytes.
func bytesToken(raw string) string {
	out := make([]rune, len(raw))
	for i := range len(raw) {
		out[i] = byteChars[raw[i]]
	}
	return string(out)
}
