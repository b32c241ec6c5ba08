package bench

import "github.com/esclab/esclab/lm"

// FLOPFormula says in one line what FLOP counts, for output.
const FLOPFormula = "2·params·tokens a pass (logits only where something is predicted) + 4·layers·heads·head_dim·pairs of attention; " +
	"passes: forward 1, backward 1, weight gradients 1 for what is trained: 6·params·tokens in full training, 4 with LoRA besides its own 6; attention 3"

// FLOP is the number of floating-point operations that a training step needs
// (Kaplan et al. 2020; the attention term as in PaLM, appendix B, over the
// pairs that the causal or tree mask leaves). A product of a weight with a
// token's vector is 2 operations in the forward pass, 2 for the gradient of the
// activations and 2 for that of the weight, which frozen weights do not have.
// Attention of a pair is a product with the key and one with the value. Padding,
// recomputed activations, norms and softmax do not count.
//
// rank is LoRA's on all seven projections; 0 trains every weight.
func FLOP(c lm.Config, rank int, w lm.StepWork) float64 {
	base, adapter := projectionWeights(c, rank)
	tokens, sources := float64(w.Tokens), float64(w.Sources)
	head := float64(c.VocabSize) * float64(c.HiddenSize)
	perWeight := 6.0
	if rank > 0 {
		perWeight = 4
	}
	pair := 4 * float64(c.NumHiddenLayers*c.NumAttentionHeads*c.HeadDim)
	return perWeight*(base*tokens+head*sources) + 6*adapter*tokens + 3*pair*float64(w.Attended)
}

// projectionWeights counts the weights of all layers' seven projections, and
// those of their adapters.
func projectionWeights(c lm.Config, rank int) (base, adapter float64) {
	d, m := c.HiddenSize, c.IntermediateSize
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	for _, p := range [][2]int{{q, d}, {kv, d}, {kv, d}, {d, q}, {m, d}, {m, d}, {d, m}} {
		base += float64(c.NumHiddenLayers * p[0] * p[1])
		adapter += float64(c.NumHiddenLayers * rank * (p[0] + p[1]))
	}
	return base, adapter
}
