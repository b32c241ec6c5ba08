package tokens

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"iter"
	"slices"
)

// BPEOptions says how TrainBPE trains.
type BPEOptions struct {
	VocabSize    int // size to reach, special tokens included; smaller where the texts have no more pairs to merge
	MinFrequency int // a pair seen less often is not merged; 0: 2
	MaxLength    int // longest token in bytes; 0: no limit
}

// Special tokens of a tokenizer that TrainBPE writes.
const (
	tokenBOS = "<|bos|>"
	tokenEnd = "<|end|>" // end of every message, EOS
	tokenPad = "<|pad|>"
)

var trainedSpecials = []string{tokenBOS, tokenEnd, tokenPad, "<|system|>", "<|user|>", "<|assistant|>"}

// trainedTemplate is the chat template of those tokenizers: a role's token,
// the trimmed content, the end.
const trainedTemplate = `{{- bos_token }}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}`

// TrainBPE trains a byte-level BPE tokenizer (Sennrich et al. 2016; byte level
// and pre-tokenizer of GPT-2, NFC) on texts, writes tokenizer.json and
// tokenizer_config.json with a chat template into dir, and loads it from
// there. Ids: the 256 bytes, the merges in their order, then <|bos|>, <|end|>
// (EOS), <|pad|>, <|system|>, <|user|> and <|assistant|>.
//
// The most frequent pair is merged first, ties go to the pair of smaller ids,
// so that the same texts give the same files, in whatever order they come.
func TrainBPE(ctx context.Context, texts iter.Seq[string], dir string, options BPEOptions) (*Tokenizer, error) {
	if least := 256 + len(trainedSpecials); options.VocabSize < least {
		return nil, fmt.Errorf("tokens: train tokenizer: a vocabulary of %d is too small, bytes and special tokens alone need %d", options.VocabSize, least)
	}
	if options.MinFrequency <= 0 {
		options.MinFrequency = 2
	}
	words, err := countWords(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("tokens: train tokenizer: %w", err)
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("tokens: train tokenizer: the texts are empty")
	}
	trainer := newBPETrainer(words, options)
	if err := trainer.train(ctx, options.VocabSize-len(trainedSpecials)); err != nil {
		return nil, fmt.Errorf("tokens: train tokenizer: %w", err)
	}
	if err := writeTokenizer(dir, trainer); err != nil {
		return nil, fmt.Errorf("tokens: train tokenizer: %w", err)
	}
	return Load(dir)
}

type trainWord struct {
	symbols []int32
	count   int
}

// countWords counts pre-tokens, in their byte order.
func countWords(ctx context.Context, texts iter.Seq[string]) ([]trainWord, error) {
	// A tokenizer without a vocabulary: what normalizes and splits here is what
	// does so once the trained one is loaded.
	pipeline := &Tokenizer{nfc: true}
	counts := map[string]int{}
	for text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for text := pipeline.normalize(text); text != ""; {
			n := splitGPT2(text)
			counts[text[:n]]++
			text = text[n:]
		}
	}
	list := make([]string, 0, len(counts))
	for word := range counts {
		list = append(list, word)
	}
	slices.Sort(list)
	words := make([]trainWord, len(list))
	for i, word := range list {
		symbols := make([]int32, len(word))
		for j := range len(word) {
			symbols[j] = byteSymbols[word[j]]
		}
		words[i] = trainWord{symbols, counts[word]}
	}
	return words, nil
}

// byteOrder lists the bytes in the order of their characters, as GPT-2's
// vocabulary does: ids 0 to 255. byteSymbols is its inverse.
var byteOrder, byteSymbols = func() (order [256]byte, symbols [256]int32) {
	for b := range order {
		order[b] = byte(b)
	}
	slices.SortFunc(order[:], func(a, b byte) int { return cmp.Compare(byteChars[a], byteChars[b]) })
	for id, b := range order {
		symbols[b] = int32(id)
	}
	return order, symbols
}()

// bpeTrainer merges pairs in the words until the vocabulary is full.
type bpeTrainer struct {
	options BPEOptions
	words   []trainWord
	tokens  []string // raw bytes, by id
	ids     map[string]int32
	merges  [][2]int32
	merged  map[uint64]bool
	pairs   map[uint64]*pairStat
	queue   pairHeap
}

// pairStat counts a pair and lists the words it was ever seen in; some may have
// lost it since, or be listed twice.
type pairStat struct {
	count int
	words []int32
}

func newBPETrainer(words []trainWord, options BPEOptions) *bpeTrainer {
	t := &bpeTrainer{options: options, words: words, ids: map[string]int32{}, merged: map[uint64]bool{},
		pairs: map[uint64]*pairStat{}}
	for id, b := range byteOrder {
		t.tokens = append(t.tokens, string([]byte{b}))
		t.ids[t.tokens[id]] = int32(id)
	}
	for i, word := range words {
		for j := range len(word.symbols) - 1 {
			t.add(word.symbols[j], word.symbols[j+1], int32(i), word.count)
		}
	}
	for key, stat := range t.pairs {
		t.queue = append(t.queue, pairCount{key, stat.count})
	}
	heap.Init(&t.queue) // the order of equal entries does not matter: keys are distinct and decide ties
	return t
}

func (t *bpeTrainer) add(left, right, word int32, count int) {
	key := pairKey(left, right)
	stat := t.pairs[key]
	if stat == nil {
		stat = &pairStat{}
		t.pairs[key] = stat
	}
	stat.count += count
	if n := len(stat.words); count > 0 && (n == 0 || stat.words[n-1] != word) {
		stat.words = append(stat.words, word)
	}
}

// train merges until there are size tokens or no pair is left.
func (t *bpeTrainer) train(ctx context.Context, size int) error {
	for len(t.tokens) < size && len(t.queue) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		top := heap.Pop(&t.queue).(pairCount)
		stat := t.pairs[top.key]
		if stat == nil { // queued twice, and merged since
			continue
		}
		if stat.count != top.count { // counted anew since it was queued
			if stat.count > 0 && stat.count < top.count {
				heap.Push(&t.queue, pairCount{top.key, stat.count})
			}
			continue // a count that grew has an entry of its own
		}
		if top.count < t.options.MinFrequency {
			break
		}
		left, right := int32(top.key>>32), int32(uint32(top.key))
		joined := t.tokens[left] + t.tokens[right]
		if t.options.MaxLength > 0 && len(joined) > t.options.MaxLength {
			continue
		}
		id, known := t.ids[joined]
		if !known {
			id = int32(len(t.tokens))
			t.tokens = append(t.tokens, joined)
			t.ids[joined] = id
		}
		// Where a token can be reached in two ways, a pair may come up again.
		if !t.merged[top.key] {
			t.merged[top.key] = true
			t.merges = append(t.merges, [2]int32{left, right})
		}
		t.merge(left, right, id, stat)
		delete(t.pairs, top.key)
	}
	return nil
}

// merge replaces the pair by id in every word it is in and counts the pairs
// that this makes and unmakes.
func (t *bpeTrainer) merge(left, right, id int32, stat *pairStat) {
	changed := map[uint64]bool{}
	count := func(a, b, word int32, n int) {
		if key := pairKey(a, b); key != pairKey(left, right) {
			t.add(a, b, word, n)
			if n > 0 {
				changed[key] = true
			}
		}
	}
	for _, index := range stat.words {
		word := &t.words[index]
		out := word.symbols[:0]
		symbols := word.symbols
		for i := 0; i < len(symbols); i++ {
			if i+1 == len(symbols) || symbols[i] != left || symbols[i+1] != right {
				out = append(out, symbols[i])
				continue
			}
			if n := len(out); n > 0 {
				count(out[n-1], left, index, -word.count)
				count(out[n-1], id, index, word.count)
			}
			if i+2 < len(symbols) {
				count(right, symbols[i+2], index, -word.count)
				count(id, symbols[i+2], index, word.count)
			}
			out = append(out, id)
			i++
		}
		word.symbols = out
	}
	// Queued once the counts are final; the heap orders them whatever the order they come in.
	for key := range changed {
		heap.Push(&t.queue, pairCount{key, t.pairs[key].count})
	}
}

type pairCount struct {
	key   uint64
	count int
}

type pairHeap []pairCount

func (h pairHeap) Len() int { return len(h) }
func (h pairHeap) Less(i, j int) bool {
	if h[i].count != h[j].count {
		return h[i].count > h[j].count
	}
	return h[i].key < h[j].key
}
func (h pairHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pairHeap) Push(x any)   { *h = append(*h, x.(pairCount)) }
func (h *pairHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
