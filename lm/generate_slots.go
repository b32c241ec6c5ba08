package lm

import (
	"runtime"
	"slices"
	"sync"

	"github.com/gomlx/gomlx/core/tensors"
)

// scheduler decides what each slot of a wave computes. It is sequential and depends on nothing but its inputs and
// the tokens sampled.
type scheduler struct {
	g        *Generator
	requests []Request
	wave     *wave
	done     func(request, sample int, s Sample)
	rows     []*cacheRow
	next     int // first tree not loaded
	admitted int // samples so far: a slot's age

	// The next step's inputs, see buildDecode.
	tokens, positions, nodes []int32
	valid, mask              []float32
}

// cacheRow is a row of the cache: which of its nodes are free, the trees in it, and who decodes in its slots.
type cacheRow struct {
	free  []int32 // a stack
	fixed int     // nodes held by trees
	slots []*slot // nil where idle
	queue []waiting
}

// waiting is a sample that has no slot yet.
type waiting struct {
	tree    *promptTree
	request int
	leaf    int32
	sample  int
}

// slot is a sample being decoded.
type slot struct {
	waiting
	age    int
	seed   uint64
	limit  int     // of new tokens
	tokens []int32 // new ones
	nodes  []int32 // of the last token of the prompt and of tokens
}

func newScheduler(g *Generator, requests []Request, w *wave, done func(request, sample int, s Sample)) *scheduler {
	n := w.rows * w.slots
	s := &scheduler{g: g, requests: requests, wave: w, done: done,
		tokens: make([]int32, n), positions: make([]int32, n), nodes: make([]int32, n),
		valid: make([]float32, n), mask: masked(n * w.nodes)}
	for range w.rows {
		r := &cacheRow{slots: make([]*slot, w.slots)}
		for node := w.nodes - 1; node >= 0; node-- {
			r.free = append(r.free, int32(node))
		}
		s.rows = append(s.rows, r)
	}
	return s
}

// take takes a free node.
func (r *cacheRow) take() int32 {
	node := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return node
}

// idle is the number of slots that nobody has or waits for.
func (r *cacheRow) idle() int {
	n := -len(r.queue)
	for _, sl := range r.slots {
		if sl == nil {
			n++
		}
	}
	return n
}

// nextTree gives the next tree nodes of the row with the most idle slots among those that have room, and queues its
// samples there. It returns nil where no row wants or can hold one now.
func (s *scheduler) nextTree() (row int, p *promptTree) {
	if s.next == len(s.wave.trees) {
		return 0, nil
	}
	size := len(s.wave.trees[s.next].tokens)
	best, most := -1, 0
	for i, r := range s.rows {
		// The room, which is enough for one sample as long as can be, lets at least the oldest get on.
		fits := len(r.free) >= size && s.wave.nodes-r.fixed-size >= s.wave.room
		if n := r.idle(); fits && n > most {
			best, most = i, n
		}
	}
	if best < 0 {
		return 0, nil
	}
	p = s.wave.trees[s.next]
	s.next++
	r := s.rows[best]
	p.nodes = make([]int32, size)
	for i := range p.nodes {
		p.nodes[i] = r.take()
	}
	r.fixed += size
	p.live = p.samples()
	for _, w := range p.work {
		for i := range w.samples {
			r.queue = append(r.queue, waiting{p, w.request, w.leaf, w.first + i})
		}
	}
	return best, p
}

// fillSlots gives idle slots to waiting samples and every slot's token a node. It reports whether there is anything
// to compute.
func (s *scheduler) fillSlots() bool {
	active := false
	for row, r := range s.rows {
		for i, sl := range r.slots {
			// A sample that has nowhere to go on would only be begun to be restarted.
			if sl == nil && len(r.queue) > 0 && (len(r.free) >= 2*s.wave.slots || s.youngest(r) < 0) {
				s.admit(row, i, r.queue[0])
				r.queue = r.queue[1:]
			}
		}
		for _, i := range s.byAge(r) {
			sl := r.slots[i]
			if sl == nil {
				continue // restarted for an older one
			}
			for len(r.free) == 0 && r.slots[i] != nil {
				s.restart(row, s.youngest(r))
			}
			if r.slots[i] == nil {
				continue // was the youngest itself
			}
			node := r.take()
			sl.nodes = append(sl.nodes, node)
			at := row*s.wave.slots + i
			s.nodes[at] = node
			s.mask[at*s.wave.nodes+int(node)] = 0
			active = true
		}
	}
	return active
}

// byAge lists the occupied slots, the oldest first.
func (s *scheduler) byAge(r *cacheRow) []int {
	var list []int
	for i, sl := range r.slots {
		if sl != nil {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b int) int { return r.slots[a].age - r.slots[b].age })
	return list
}

// youngest is the occupied slot that was admitted last, -1 where there is none.
func (s *scheduler) youngest(r *cacheRow) int {
	best := -1
	for i, sl := range r.slots {
		if sl != nil && (best < 0 || sl.age > r.slots[best].age) {
			best = i
		}
	}
	return best
}

func (s *scheduler) admit(row, i int, w waiting) {
	prompt := s.requests[w.request].Prompt
	s.admitted++
	s.rows[row].slots[i] = &slot{waiting: w, age: s.admitted,
		seed:  sampleSeed(s.g.config.Seed, prompt, w.sample),
		limit: min(s.g.config.MaxNewTokens, s.g.model.MaxPositionEmbeddings-len(prompt))}
	at := row*s.wave.slots + i
	s.tokens[at], s.positions[at], s.valid[at] = prompt[len(prompt)-1], int32(len(prompt)-1), 1
	if w.leaf >= 0 {
		w.tree.see(w.leaf, s.maskOf(at))
	}
}

func (s *scheduler) maskOf(at int) []float32 { return s.mask[at*s.wave.nodes : (at+1)*s.wave.nodes] }

// vacate takes a sample out of its slot and frees its nodes.
func (s *scheduler) vacate(row, i int) *slot {
	r, at := s.rows[row], row*s.wave.slots+i
	sl := r.slots[i]
	r.free = append(r.free, sl.nodes...)
	r.slots[i] = nil
	s.tokens[at], s.positions[at], s.nodes[at], s.valid[at] = 0, 0, 0, 0
	copy(s.maskOf(at), masked(s.wave.nodes))
	return sl
}

// restart puts a sample back to the head of its row's queue: it will be the same again.
func (s *scheduler) restart(row, i int) {
	sl := s.vacate(row, i)
	s.rows[row].queue = slices.Insert(s.rows[row].queue, 0, sl.waiting)
	s.g.stats.Restarts++
}

// advance takes each slot's next token from a step's result and ends the samples that end with it.
func (s *scheduler) advance(scores *tensors.Tensor) error {
	chosen, err := s.choose(scores)
	if err != nil {
		return err
	}
	for row, r := range s.rows {
		for i, sl := range r.slots {
			if sl == nil {
				continue
			}
			at := row*s.wave.slots + i
			s.g.stats.NewTokens++
			stopped := slices.Contains(s.g.config.Stop, chosen[at])
			if !stopped {
				sl.tokens = append(sl.tokens, chosen[at])
			}
			if stopped || len(sl.tokens) >= sl.limit {
				s.finish(row, i, stopped)
				continue
			}
			s.tokens[at] = chosen[at]
			s.positions[at]++
		}
	}
	return nil
}

func (s *scheduler) finish(row, i int, stopped bool) {
	sl := s.vacate(row, i)
	r, p := s.rows[row], sl.tree
	if p.live--; p.live == 0 {
		r.free = append(r.free, p.nodes...)
		r.fixed -= len(p.nodes)
		p.nodes = nil
	}
	s.g.stats.Samples++
	s.g.stats.PromptTokens += len(s.requests[sl.request].Prompt)
	s.done(sl.request, sl.sample, Sample{sl.tokens, stopped})
}

// choose returns a token for each occupied slot, from logits [D·S, V] or tokens [D·S].
func (s *scheduler) choose(scores *tensors.Tensor) (chosen []int32, err error) {
	if s.g.config.Temperature == 0 {
		return tensors.CopyFlatData[int32](scores)
	}
	chosen = make([]int32, len(s.tokens))
	vocab := s.g.model.VocabSize
	err = tensors.ConstFlatData(scores, func(logits []float32) {
		workers := runtime.GOMAXPROCS(0)
		var wait sync.WaitGroup
		for worker := range workers {
			wait.Go(func() {
				sampler := sampler{temperature: s.g.config.Temperature, topP: s.g.config.TopP}
				for at := worker; at < len(chosen); at += workers {
					if sl := s.rows[at/s.wave.slots].slots[at%s.wave.slots]; sl != nil {
						chosen[at] = sampler.draw(logits[at*vocab:(at+1)*vocab], uniformAt(sl.seed, len(sl.tokens)))
					}
				}
			})
		}
		wait.Wait()
	})
	return chosen, err
}
