package lm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
)

// GenerateConfig says how to generate.
type GenerateConfig struct {
	MaxNewTokens int     // of a sample, the token that ends it not counted
	Temperature  float64 // 0: the most likely token, always
	TopP         float64 // nucleus sampling (Holtzman et al. 2020); 0 or 1: off
	TopK         int     // sample from the so many most likely tokens, and those as likely as the last; 0: off
	// RepetitionPenalty divides the logits above 0 of tokens that are in the prompt or the sample, and multiplies those
	// below (Keskar et al. 2019), before anything else and for the most likely token, too; 0 or 1: off.
	RepetitionPenalty float64

	Stop  []int32 // tokens that end a sample: tokens.Tokenizer.StopIDs
	Slots int     // samples decoded together; 0: 64
	Seed  uint64
	// MaxTokens bounds a prompt's tokens, and with them the cache on an accelerator; 0: the model's positions.
	MaxTokens int
	// NoReuse makes every sample compute its whole prompt for itself. The results are the same up to float
	// arithmetic; it is there to measure and to test what reuse saves.
	NoReuse bool
}

// Request asks for samples of what follows a prompt.
type Request struct {
	Prompt  []int32 // at least one token
	Samples int     // 0: 1
	Group   string  // requests of one group (the turns of a dialogue) share what their prompts have in common; "": nothing
}

// Sample is one continuation.
type Sample struct {
	Tokens  []int32 // without the token that ended it
	Stopped bool    // it ended by a token of GenerateConfig.Stop, not by a limit
}

// GenerateStats counts what a Generator has done so far.
type GenerateStats struct {
	Samples       int `json:"samples"`
	PromptTokens  int `json:"prompt_tokens"`  // of all samples, as if nothing were shared
	PrefillTokens int `json:"prefill_tokens"` // of them computed
	NewTokens     int `json:"new_tokens"`     // sampled, stop tokens included
	Steps         int `json:"steps"`          // decoding steps of all slots together
	SlotSteps     int `json:"slot_steps"`     // slots times steps: NewTokens/SlotSteps is the slots' occupation
	Restarts      int `json:"restarts"`       // samples begun anew because a row's cache was full
	Cut           int `json:"cut"`            // samples that ended by a limit
	Shapes        int `json:"shapes"`         // compiled graphs; none on a native decoder

	PrefillSeconds float64 `json:"prefill_seconds"` // computing prompts but for their last tokens
	DecodeSeconds  float64 `json:"decode_seconds"`  // steps
}

// best reports whether the engine's most likely token is the answer, and no logits are needed.
func (c *GenerateConfig) best() bool { return c.Temperature == 0 && c.RepetitionPenalty == 1 }

// Generator samples continuations with a model.
//
// Prompts of a group form a prefix tree (the tree of package lm's packing), whose keys and values are computed
// once, by the chunk. A cache row holds the nodes of a few trees and of the samples that continue them, wherever
// there is room; a slot's token attends to its prompt's path and its own nodes. So no prefix is ever copied, and a
// slot that ends is refilled at the next step.
//
// On the engine go with its kernels, a native decoder computes them (package lm/cpu); elsewhere graphs do, one for
// loading and one for decoding a layout of the cache. On XLA the graph also draws the tokens (sample_graph.go), an
// adapter of any size is merged on the device, and keys and values of a model in bfloat16 are kept so.
//
// A sampled token depends on (seed, prompt, index of the sample, position) and on the logits alone. A native decoder's
// logits depend on the prefix alone, so that nothing that runs beside a sample changes it. Those of graphs can differ
// in their last bits when batch shapes do (other requests, Slots or NoReuse), never between runs of the same calls on
// the same engine.
type Generator struct {
	engine   *Engine
	config   GenerateConfig
	model    Config
	operands operands
	own      []*tensors.Tensor // those of the operands that are the Generator's
	half     bool              // keys and values are bfloat16
	native   *native           // nil where graphs compute
	prefill  *program
	decode   *program
	layouts  []*wave // of graphs, so far
	stats    GenerateStats
	onToken  func(request, sample, position int, id int32) // see Watch; may be nil
}

const (
	defaultSlots = 64
	// mergeLimit is the size in weights up to which an adapter is merged into a model in float32: merging takes
	// memory for a second model, and saves two small products a projection and step.
	mergeLimit = 1 << 28
)

// NewGenerator prepares generation with model and, where it is not nil, adapter. A Generator is not for concurrent
// use. Close it when done.
func NewGenerator(engine *Engine, model *Model, adapter *Adapter, config GenerateConfig) (*Generator, error) {
	if config.Slots == 0 {
		config.Slots = defaultSlots
	}
	config.TopP = cmp.Or(config.TopP, 1)
	config.RepetitionPenalty = cmp.Or(config.RepetitionPenalty, 1)
	switch {
	case config.MaxNewTokens <= 0:
		return nil, fmt.Errorf("generate: MaxNewTokens is %d: it must be positive", config.MaxNewTokens)
	case config.Temperature < 0 || config.TopP < 0 || config.TopP > 1 || config.Slots < 0:
		return nil, fmt.Errorf("generate: temperature %v, top-p %v, slots %d: temperature and slots must not be negative, top-p in (0, 1]",
			config.Temperature, config.TopP, config.Slots)
	case config.TopK < 0 || config.RepetitionPenalty < 0:
		return nil, fmt.Errorf("generate: top-k %d and repetition penalty %v must not be negative", config.TopK, config.RepetitionPenalty)
	}
	for _, id := range config.Stop {
		if id < 0 || int(id) >= model.Config.VocabSize {
			return nil, fmt.Errorf("generate: stop token %d is outside the model's vocabulary of %d", id, model.Config.VocabSize)
		}
	}
	g := &Generator{engine: engine, config: config, model: model.Config, half: halved(engine.Backend, model.baseDType())}
	if err := g.place(model, adapter); err != nil {
		g.Close()
		return nil, fmt.Errorf("generate: %w", err)
	}
	g.prefill = newProgram(engine, "prefill", g.buildPrefill)
	g.decode = newProgram(engine, "decode", g.buildDecode)
	return g, nil
}

// place makes the operands of a model and an adapter, and the native decoder where there is one.
func (g *Generator) place(model *Model, adapter *Adapter) (err error) {
	if adapter != nil && isXLA(g.engine.Backend) {
		g.operands, g.own, err = mergedOperands(g.engine, model, adapter)
		return err
	}
	if g.native, err = newNative(g.engine, model, adapter); err != nil {
		return err
	}
	merge := g.native == nil && adapter != nil && model.Parameters() <= mergeLimit
	if merge {
		if model, err = adapter.Merge(model); err != nil {
			return err
		}
		adapter = nil
	}
	if g.operands, err = operandsOf(g.engine, model, adapter); err == nil && merge {
		g.own = g.operands.tensors
	}
	return err
}

// draws says whether the decoding graph draws tokens itself.
func (g *Generator) draws() bool {
	return isXLA(g.engine.Backend) && !g.config.best() && !g.engine.ablated[ablateSampling]
}

// Close releases the compiled graphs and the merged weights.
func (g *Generator) Close() {
	for _, p := range []*program{g.prefill, g.decode} {
		if p != nil {
			p.close()
		}
	}
	release(g.own...)
}

// Stats returns the counts of all calls of Generate so far.
func (g *Generator) Stats() GenerateStats {
	stats := g.stats
	stats.Shapes = g.prefill.shapes() + g.decode.shapes()
	return stats
}

// Watch has onToken told every token of the samples as it is drawn, the ones that end a sample apart, on the goroutine
// that calls Generate; nil ends it. A sample that is begun anew because a row's cache was full (GenerateStats.Restarts)
// tells its tokens again, from position 0, and they are the same.
func (g *Generator) Watch(onToken func(request, sample, position int, id int32)) { g.onToken = onToken }

// Reseed changes GenerateConfig.Seed for the calls that follow, without compiling anything anew.
func (g *Generator) Reseed(seed uint64) { g.config.Seed = seed }

// Generate returns the samples of each request, in the order of requests. onDone, which may be nil, is told each
// sample as it ends, in no particular order, on the calling goroutine. A prompt that fills the model's context is
// an error before anything is computed; one that nearly does ends at the context's end.
func (g *Generator) Generate(ctx context.Context, requests []Request, onDone func(request, sample int, s Sample)) ([][]Sample, error) {
	results := make([][]Sample, len(requests))
	for i, r := range requests {
		if err := g.check(r); err != nil {
			return nil, fmt.Errorf("generate: request %d: %w", i, err)
		}
		results[i] = make([]Sample, max(r.Samples, 1))
	}
	done := func(request, sample int, s Sample) {
		results[request][sample] = s
		if onDone != nil {
			onDone(request, sample, s)
		}
	}
	for _, wave := range g.plan(requests) {
		if err := g.runWave(ctx, requests, wave, done); err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
	}
	return results, nil
}

func (g *Generator) check(r Request) error {
	if len(r.Prompt) == 0 {
		return errors.New("the prompt is empty: begin with a BOS token")
	}
	if r.Samples < 0 {
		return fmt.Errorf("%d samples", r.Samples)
	}
	if limit := g.model.MaxPositionEmbeddings; len(r.Prompt) >= limit {
		return fmt.Errorf("the prompt has %d tokens, the model takes %d (max_position_embeddings): cut the context first", len(r.Prompt), limit)
	}
	if limit := g.longest(); len(r.Prompt) > limit {
		return fmt.Errorf("the prompt has %d tokens, MaxTokens allows %d: cut the context first", len(r.Prompt), limit)
	}
	if i := slices.IndexFunc(r.Prompt, func(id int32) bool { return id < 0 || int(id) >= g.model.VocabSize }); i >= 0 {
		return fmt.Errorf("token %d of the prompt is %d, outside the vocabulary of %d", i, r.Prompt[i], g.model.VocabSize)
	}
	return nil
}

// newCache makes a wave's cache.
func (g *Generator) newCache(w *wave) waveCache {
	if g.native != nil {
		return g.newNativeCache(w)
	}
	return g.newGraphCache(w)
}

// runWave generates the samples of a wave's trees in one cache.
func (g *Generator) runWave(ctx context.Context, requests []Request, wave *wave, done func(request, sample int, s Sample)) error {
	cache := g.newCache(wave)
	defer cache.release()
	s := newScheduler(g, requests, wave, cache, done)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		var trees []loading
		for row, tree := s.nextTree(); tree != nil; row, tree = s.nextTree() {
			trees = append(trees, loading{row, tree})
			g.stats.PrefillTokens += len(tree.tokens)
		}
		if len(trees) > 0 {
			if err := cache.load(ctx, trees); err != nil {
				return err
			}
		}
		loaded := time.Now()
		g.stats.PrefillSeconds += loaded.Sub(start).Seconds()
		if !s.fillSlots() {
			return nil
		}
		chosen, err := cache.step(s)
		if err != nil {
			return err
		}
		g.stats.Steps++
		g.stats.SlotSteps += len(chosen)
		s.advance(chosen)
		g.stats.DecodeSeconds += time.Since(loaded).Seconds()
	}
}
