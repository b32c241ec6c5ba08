package lm

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// native is a model on lm/cpu's decoder: what generation and scoring run on where the engine is go and its kernels are
// on. It computes what the graphs do, up to rounding; what it computes of a token depends on the token's prefix alone.
// Not for concurrent use.
type native struct {
	decoder *cpu.Decoder
	config  *Config
	embed   *tensors.Tensor // [V, D]
	logits  []float32
}

// nativeChunk is the number of tokens computed at once where many wait, and nativeLogits bounds their logits.
const (
	nativeChunk  = 256
	nativeLogits = 1 << 24
)

// newNative packs a model with an adapter, which may be nil, for the decoder; nil where the engine or the model has none.
// An adapter of a small model in float32 is added to its weights, rounded once; others stay beside theirs, whose
// memory they do not double and whose type may have too few digits for the sum.
func newNative(engine *Engine, model *Model, adapter *Adapter) (*native, error) {
	c := &model.Config
	if engine.Name != "go" || c.MLPBias || len(model.mapped) > 0 {
		return nil, nil
	}
	n := &native{config: c, embed: model.weights["model.embed_tokens.weight"]}
	half := n.embed.DType() == dtypes.BFloat16
	if adapter != nil && !half && model.Parameters() <= mergeLimit {
		whole, err := adapter.Merge(model)
		if err != nil {
			return nil, err
		}
		defer func() { release(slices.Collect(maps.Values(whole.weights))...) }()
		model, adapter = whole, nil
	}
	var failed error
	read := func(from map[string]*tensors.Tensor, name string) []float32 {
		t := from[name]
		if t == nil {
			return nil
		}
		values, err := floats(t)
		if err != nil && failed == nil {
			failed = fmt.Errorf("read %s: %w", name, err)
		}
		return values
	}
	get := func(name string) []float32 { return read(model.weights, name) }
	weights := cpu.DecoderWeights{Norm: get("model.norm.weight"), Half: half}
	for i := range c.NumHiddenLayers {
		of := func(module string) []float32 { return get(layerName(i) + module) }
		layer := cpu.DecoderLayer{
			Query: of("self_attn.q_proj.weight"), Key: of("self_attn.k_proj.weight"), Value: of("self_attn.v_proj.weight"), Out: of("self_attn.o_proj.weight"),
			QueryBias: of("self_attn.q_proj.bias"), KeyBias: of("self_attn.k_proj.bias"), ValueBias: of("self_attn.v_proj.bias"),
			Gate: of("mlp.gate_proj.weight"), Up: of("mlp.up_proj.weight"), Down: of("mlp.down_proj.weight"),
			InputNorm: of("input_layernorm.weight"), PostAttentionNorm: of("post_attention_layernorm.weight"),
		}
		for j, module := range cpu.DecoderModules {
			if adapter == nil || adapter.weights[layerName(i)+module+".lora_A.weight"] == nil {
				continue
			}
			low := cpu.LowRank{Rank: adapter.Config.Rank,
				Down: read(adapter.weights, layerName(i)+module+".lora_A.weight"), Up: read(adapter.weights, layerName(i)+module+".lora_B.weight")}
			for k := range low.Up {
				low.Up[k] *= float32(adapter.Config.Scale())
			}
			layer.Adapters[j] = low
		}
		weights.Layers = append(weights.Layers, layer)
	}
	if weights.Head = get("lm_head.weight"); c.TieWordEmbeddings {
		weights.Head = get("model.embed_tokens.weight")
	}
	for i, table := range []*[]float32{&weights.Cos, &weights.Sin} {
		values, err := floats(model.rope[i])
		if err != nil {
			return nil, fmt.Errorf("read rotary positions: %w", err)
		}
		*table = values
	}
	if failed != nil {
		return nil, failed
	}
	var err error
	n.decoder, err = cpu.NewDecoder(cpu.DecoderShape{
		Hidden: c.HiddenSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
		Intermediate: c.IntermediateSize, Vocab: c.VocabSize, Positions: c.MaxPositionEmbeddings, NormEps: c.RMSNormEps,
	}, weights)
	if errors.Is(err, cpu.ErrNoDecoder) {
		return nil, nil
	}
	return n, err
}

// nativeBatch collects the tokens of one forward.
type nativeBatch struct {
	cpu.Tokens
	ids []int32
}

// add adds a token at a position and node, which sees the listed nodes, its own among them.
func (b *nativeBatch) add(id, position, node int32, seen []cpu.Seen) {
	if len(b.SeenFrom) == 0 {
		b.SeenFrom = append(b.SeenFrom, 0)
	}
	b.ids = append(b.ids, id)
	b.Positions = append(b.Positions, position)
	b.Nodes = append(b.Nodes, node)
	b.Seen = append(b.Seen, seen...)
	b.SeenFrom = append(b.SeenFrom, len(b.Seen))
}

// output asks for the logits of the token added last.
func (b *nativeBatch) output() { b.Outputs = append(b.Outputs, int32(len(b.ids)-1)) }

// clear empties the batch, keeping its memory.
func (b *nativeBatch) clear() {
	b.ids, b.Embeddings, b.Positions, b.Nodes = b.ids[:0], b.Embeddings[:0], b.Positions[:0], b.Nodes[:0]
	b.Seen, b.SeenFrom, b.Outputs, b.Best, b.LogSum = b.Seen[:0], b.SeenFrom[:0], b.Outputs[:0], nil, nil
}

// forward computes a batch. Its logits are valid until the next forward.
func (n *native) forward(cache *cpu.DecoderCache, b *nativeBatch) error {
	d := n.config.HiddenSize
	b.Embeddings = slices.Grow(b.Embeddings[:0], len(b.ids)*d)
	var err error
	if b.Embeddings, err = appendRows(b.Embeddings, n.embed, d, b.ids); err != nil {
		return fmt.Errorf("read embeddings: %w", err)
	}
	if size := len(b.Outputs) * n.config.VocabSize; len(n.logits) < size {
		n.logits = make([]float32, size)
	}
	b.Logits = n.logits
	return n.decoder.Forward(cache, &b.Tokens)
}

// A nativePath lists the nodes that a tree's tokens see as it is walked depth first.
type nativePath struct {
	nodes []int32 // by depth
	seen  []cpu.Seen
}

// step goes to the walk's next token, at a depth below the root of its tree, and returns the nodes that it sees. The
// list is valid until the next step.
func (p *nativePath) step(depth int, node int32) []cpu.Seen {
	if depth < len(p.nodes) { // a new branch: go back to where it leaves the path
		p.nodes, p.seen = p.nodes[:depth], p.seen[:0]
		for _, node := range p.nodes {
			p.seen = cpu.Path(p.seen, node)
		}
	}
	p.nodes, p.seen = append(p.nodes, node), cpu.Path(p.seen, node)
	return p.seen
}
