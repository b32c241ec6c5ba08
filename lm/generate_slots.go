package lm

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// scheduler decides what each slot of a wave computes. It is sequential and depends on nothing but its inputs and
// the tokens sampled.
type scheduler struct {
	g        *Generator
	requests []Request
	wave     *wave
	cache    waveCache
	done     func(request, sample int, s Sample)
	rows     []*cacheRow
	next     int // first tree not loaded
	admitted int // samples so far: a slot's age
	samplers []*sampler

	// The next step, by slot, [D·S]: its token, that token's position, and the node for its key. Only occupied slots
	// have any.
	tokens, positions, nodes []int32
}

// A waveCache holds the keys and values of a wave and computes with them.
type waveCache interface {
	// load computes the trees that rows were given.
	load(ctx context.Context, trees []loading) error
	// begin makes a slot see the path to a leaf of a tree (-1: nothing), extend one node more, end nothing any more.
	begin(at int, tree *promptTree, leaf int32)
	extend(at int, node int32)
	end(at int)
	// step computes the next token of every occupied slot, [D·S].
	step(s *scheduler) ([]int32, error)
	release()
}

// loading is a tree that is to be computed into the nodes that a row has given it.
type loading struct {
	row  int
	tree *promptTree
}

// cacheRow is a row of the cache: which of its nodes are free, the trees in it, and who decodes in its slots.
type cacheRow struct {
	free  []int32 // a stack: the first node of each free unit
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
	used   int     // nodes, of the last token of the prompt and of tokens
	units  []int32 // that they are in
}

func newScheduler(g *Generator, requests []Request, w *wave, cache waveCache, done func(request, sample int, s Sample)) *scheduler {
	n := w.rows * w.slots
	s := &scheduler{g: g, requests: requests, wave: w, cache: cache, done: done,
		tokens: make([]int32, n), positions: make([]int32, n), nodes: make([]int32, n)}
	for range w.rows {
		r := &cacheRow{slots: make([]*slot, w.slots)}
		for node := w.nodes - w.unit; node >= 0; node -= w.unit {
			r.free = append(r.free, int32(node))
		}
		s.rows = append(s.rows, r)
	}
	return s
}

// occupant is the sample that a slot decodes, nil where it is idle.
func (s *scheduler) occupant(at int) *slot { return s.rows[at/s.wave.slots].slots[at%s.wave.slots] }

// take takes a free unit.
func (r *cacheRow) take() int32 {
	node := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return node
}

// idle is the number of free slots beyond those that the queued samples will take.
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
	p = s.wave.trees[s.next]
	size := s.wave.whole(len(p.tokens))
	best, most := -1, 0
	for i, r := range s.rows {
		// The room kept free is enough for the longest sample there can be, so that the oldest one never waits.
		fits := len(r.free)*s.wave.unit >= size && s.wave.nodes-r.fixed-size >= s.wave.room
		if n := r.idle(); fits && n > most {
			best, most = i, n
		}
	}
	if best < 0 {
		return 0, nil
	}
	s.next++
	r := s.rows[best]
	p.nodes, p.units = make([]int32, len(p.tokens)), nil
	for i := range p.nodes {
		if i%s.wave.unit == 0 {
			p.units = append(p.units, r.take())
		}
		p.nodes[i] = p.units[len(p.units)-1] + int32(i%s.wave.unit)
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
			// With fewer free nodes than that, a new sample would soon be restarted for an older one.
			if sl == nil && len(r.queue) > 0 && (len(r.free)*s.wave.unit >= 2*s.wave.slots || s.youngest(r) < 0) {
				s.admit(row, i, r.queue[0])
				r.queue = r.queue[1:]
			}
		}
		for _, i := range s.byAge(r) {
			sl := r.slots[i]
			if sl == nil {
				continue // restarted for an older one
			}
			if sl.used%s.wave.unit == 0 {
				for len(r.free) == 0 && r.slots[i] != nil {
					s.restart(row, s.youngest(r))
				}
				if r.slots[i] == nil {
					continue // was the youngest itself
				}
				sl.units = append(sl.units, r.take())
			}
			at := row*s.wave.slots + i
			s.nodes[at] = sl.units[len(sl.units)-1] + int32(sl.used%s.wave.unit)
			sl.used++
			s.cache.extend(at, s.nodes[at])
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
	s.tokens[at], s.positions[at] = prompt[len(prompt)-1], int32(len(prompt)-1)
	s.cache.begin(at, w.tree, w.leaf)
}

// vacate takes a sample out of its slot and frees its nodes.
func (s *scheduler) vacate(row, i int) *slot {
	r, at := s.rows[row], row*s.wave.slots+i
	sl := r.slots[i]
	r.free = append(r.free, sl.units...)
	r.slots[i] = nil
	s.tokens[at], s.positions[at], s.nodes[at] = 0, 0, 0
	s.cache.end(at)
	return sl
}

// restart puts a sample back to the head of its row's queue: it will be the same again.
func (s *scheduler) restart(row, i int) {
	sl := s.vacate(row, i)
	s.rows[row].queue = slices.Insert(s.rows[row].queue, 0, sl.waiting)
	s.g.stats.Restarts++
}

// advance hands each occupied slot its next token, chosen [D·S], and ends the samples that end with it.
func (s *scheduler) advance(chosen []int32) {
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
				if s.g.onToken != nil {
					s.g.onToken(sl.request, sl.sample, len(sl.tokens)-1, chosen[at])
				}
			}
			if stopped || len(sl.tokens) >= sl.limit {
				s.finish(row, i, stopped)
				continue
			}
			s.tokens[at] = chosen[at]
			s.positions[at]++
		}
	}
}

func (s *scheduler) finish(row, i int, stopped bool) {
	sl := s.vacate(row, i)
	r, p := s.rows[row], sl.tree
	if p.live--; p.live == 0 {
		r.free = append(r.free, p.units...)
		r.fixed -= len(p.units) * s.wave.unit
		p.nodes, p.units = nil, nil
	}
	s.g.stats.Samples++
	if !stopped {
		s.g.stats.Cut++
	}
	s.g.stats.PromptTokens += len(s.requests[sl.request].Prompt)
	s.done(sl.request, sl.sample, Sample{sl.tokens, stopped})
}

// occupied lists the occupied slots.
func (s *scheduler) occupied() []int {
	var slots []int
	for at := range s.tokens {
		if s.occupant(at) != nil {
			slots = append(slots, at)
		}
	}
	return slots
}

// uniform is the random number that an occupied slot's next token is drawn by.
func (s *scheduler) uniform(at int) float64 {
	sl := s.occupant(at)
	return uniformAt(sl.seed, len(sl.tokens))
}

// draw samples a token for each of the listed slots from its logits, [V], into chosen, [D·S].
func (s *scheduler) draw(slots []int, chosen []int32, logits func(at int) []float32) {
	workers := min(runtime.GOMAXPROCS(0), len(slots))
	for config := &s.g.config; len(s.samplers) < workers; {
		s.samplers = append(s.samplers, &sampler{temperature: config.Temperature, topP: config.TopP, topK: config.TopK, penalty: config.RepetitionPenalty})
	}
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			sampler := s.samplers[worker]
			for i := worker; i < len(slots); i += workers {
				at := slots[i]
				sl := s.occupant(at)
				scores := sampler.penalise(logits(at), s.requests[sl.request].Prompt, sl.tokens)
				chosen[at] = sampler.draw(scores, s.uniform(at))
			}
		})
	}
	wait.Wait()
}
