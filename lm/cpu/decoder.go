package cpu

import (
	"errors"
	"fmt"
)

// ErrNoDecoder says that there is no Decoder here: the kernels are off, or a
// model has sizes that it does not take.
var ErrNoDecoder = errors.New("no native decoder")

// DecoderShape is the size of a Llama or Qwen2 model.
type DecoderShape struct {
	Hidden, Layers, Heads, KVHeads, HeadDim, Intermediate, Vocab, Positions int
	NormEps                                                                 float64
}

// DecoderWeights are a model's weights, [out, in] as in Hugging Face's layout.
type DecoderWeights struct {
	Layers   []DecoderLayer
	Norm     []float32 // [hidden]
	Head     []float32 // [vocabulary, hidden]
	Cos, Sin []float32 // [positions, head dimension / 2]
	// Half keeps matrices in bfloat16, rounding what it does not represent; where
	// the processor has dot products of bfloat16, what they read is rounded too.
	Half bool
}

// DecoderLayer are a layer's weights. Biases may be nil.
type DecoderLayer struct {
	Query, Key, Value, Out        []float32
	QueryBias, KeyBias, ValueBias []float32
	Gate, Up, Down                []float32
	InputNorm, PostAttentionNorm  []float32
	// Adapters add Up·Down to the matrices of DecoderModules; those without values
	// add nothing.
	Adapters [len(DecoderModules)]LowRank
}

// DecoderModules are the matrices of a layer, in the order of their adapters, by
// their names in Hugging Face's layout.
var DecoderModules = [...]string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
	"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}

// LowRank is a product of two matrices, Up [out, rank] and Down [rank, in].
type LowRank struct {
	Up, Down []float32
	Rank     int
}

// DecoderNodes is the number of cache nodes in a block: a token sees nodes
// fastest where those that follow each other share blocks.
const DecoderNodes = 16

// Seen names nodes of a block: node DecoderNodes·Block+i where bit i of Mask
// is set.
type Seen struct {
	Block int32
	Mask  uint32
}

// Path appends to a list of seen nodes one that comes after them. Nodes of a
// block that follow each other must rise.
func Path(list []Seen, node int32) []Seen {
	block, bit := node/DecoderNodes, uint32(1)<<(node%DecoderNodes)
	if last := len(list) - 1; last >= 0 && list[last].Block == block && list[last].Mask < bit {
		list[last].Mask |= bit
		return list
	}
	return append(list, Seen{block, bit})
}

// Tokens are what one forward computes.
type Tokens struct {
	Embeddings []float32 // [T, hidden]; overwritten
	Positions  []int32   // [T]
	Nodes      []int32   // [T]: where in the cache each token's key and value go
	// Seen[SeenFrom[i]:SeenFrom[i+1]] are the nodes that token i attends to, its
	// own included, in the order of the sequence. They are in the cache or
	// among Nodes.
	Seen     []Seen
	SeenFrom []int // [T+1]
	// Outputs are the tokens whose logits are computed, rising; none where the
	// cache is all that is wanted.
	Outputs []int32
	// Logits has room for [outputs, vocabulary].
	Logits []float32
	// Best, where not nil, has room for the token of the highest logit, the
	// first of equals, of each output; LogSum for the logarithm of the sum of
	// the exponentials. At most one is wanted.
	Best   []int32
	LogSum []float32
}

// check reports what does not fit together.
func (t *Tokens) check(s DecoderShape, nodes int) error {
	n := len(t.Positions)
	switch {
	case n == 0 || len(t.Nodes) != n || len(t.SeenFrom) != n+1 || len(t.Embeddings) != n*s.Hidden:
		return fmt.Errorf("decoder: %d positions, %d nodes, %d ends of lists, %d values of embeddings of %d", n, len(t.Nodes), len(t.SeenFrom), len(t.Embeddings), s.Hidden)
	case len(t.Logits) < len(t.Outputs)*s.Vocab || t.Best != nil && len(t.Best) < len(t.Outputs) || t.LogSum != nil && len(t.LogSum) < len(t.Outputs):
		return fmt.Errorf("decoder: no room for %d outputs", len(t.Outputs))
	case t.Best != nil && t.LogSum != nil:
		return errors.New("decoder: both Best and LogSum")
	}
	for i := range n {
		from, to := t.SeenFrom[i], t.SeenFrom[i+1]
		if from < 0 || from >= to || to > len(t.Seen) {
			return fmt.Errorf("decoder: token %d sees %d:%d of %d", i, from, to, len(t.Seen))
		}
		if p, node := t.Positions[i], t.Nodes[i]; p < 0 || int(p) >= s.Positions || node < 0 || int(node) >= nodes {
			return fmt.Errorf("decoder: token %d at position %d of %d, node %d of %d", i, p, s.Positions, node, nodes)
		}
	}
	for i, seen := range t.Seen {
		if seen.Block < 0 || int(seen.Block) >= nodes/DecoderNodes || seen.Mask == 0 || seen.Mask>>DecoderNodes != 0 {
			return fmt.Errorf("decoder: entry %d sees %b of block %d of %d", i, seen.Mask, seen.Block, nodes/DecoderNodes)
		}
	}
	last := int32(-1)
	for _, at := range t.Outputs {
		if at <= last || int(at) >= n {
			return fmt.Errorf("decoder: output %d after %d, of %d tokens", at, last, n)
		}
		last = at
	}
	return nil
}
