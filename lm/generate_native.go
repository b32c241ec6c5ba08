package lm

import (
	"context"

	"github.com/esclab/esclab/lm/cpu"
)

// nativeCache computes a wave on the native decoder: one row, whose slots see lists of nodes.
type nativeCache struct {
	g     *Generator
	cache *cpu.DecoderCache
	seen  [][]cpu.Seen // by slot
	batch nativeBatch
}

func (g *Generator) newNativeCache(w *wave) *nativeCache {
	return &nativeCache{g: g, cache: g.native.decoder.NewCache(w.nodes), seen: make([][]cpu.Seen, w.slots)}
}

func (c *nativeCache) release() {}

// load computes trees one after the other, in chunks that may hold the end of one and the beginning of the next.
func (c *nativeCache) load(ctx context.Context, trees []loading) error {
	c.batch.clear()
	flush := func() error {
		if err := ctx.Err(); err != nil || len(c.batch.ids) == 0 {
			return err
		}
		defer c.batch.clear()
		return c.g.native.forward(c.cache, &c.batch)
	}
	for _, l := range trees {
		var path nativePath
		for i, id := range l.tree.tokens {
			depth, node := l.tree.depth[i], l.tree.nodes[i]
			c.batch.add(id, depth, node, path.step(int(depth), node))
			if len(c.batch.ids) == nativeChunk {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

func (c *nativeCache) begin(at int, tree *promptTree, leaf int32) {
	c.seen[at] = c.seen[at][:0]
	for node := range tree.path(leaf) {
		c.seen[at] = cpu.Path(c.seen[at], node)
	}
}

func (c *nativeCache) extend(at int, node int32) { c.seen[at] = cpu.Path(c.seen[at], node) }

func (c *nativeCache) end(int) {}

func (c *nativeCache) step(s *scheduler) ([]int32, error) {
	c.batch.clear()
	slots := s.occupied()
	for _, at := range slots {
		c.batch.add(s.tokens[at], s.positions[at], s.nodes[at], c.seen[at])
		c.batch.output()
	}
	chosen, greedy := make([]int32, len(s.tokens)), c.g.config.best()
	if greedy {
		c.batch.Best = make([]int32, len(slots))
	}
	if err := c.g.native.forward(c.cache, &c.batch); err != nil {
		return nil, err
	}
	if greedy {
		for i, at := range slots {
			chosen[at] = c.batch.Best[i]
		}
		return chosen, nil
	}
	row := make([]int, len(chosen)) // of the logits, by slot
	for i, at := range slots {
		row[at] = i * c.g.model.VocabSize
	}
	s.draw(slots, chosen, func(at int) []float32 { return c.batch.Logits[row[at] : row[at]+c.g.model.VocabSize] })
	return chosen, nil
}
