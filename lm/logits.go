package lm

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
)

// maxLogits bounds the logits that exist at once, U·V of them: 256 MiB, which are those of 447 sources with a
// vocabulary of 150,000.
const maxLogits = 1 << 26

// edgeLogProbs is the log-probability of every labelled edge, [E]. Logits are computed once a source, and the
// target's logit as a product of its own, so that nothing of size [U, V] is scattered into on the way back.
func (d *decoder) edgeLogProbs(b packedNodes) *Node {
	x := d.sources(b)                                          // [U, D]
	normaliser := d.normaliser(x)                              // [U, 1]
	edgeSource := InsertAxes(b.edgeSource, -1)                 // [E, 1]
	target := lookUp(d.head(), InsertAxes(b.edgeTarget, -1))   // [E, D]
	logit := ReduceSum(Mul(Gather(x, edgeSource), target), -1) // [E]
	return Sub(logit, Squeeze(Gather(normaliser, edgeSource), -1))
}

// sources are the hidden states of the nodes that predict something, [U, D].
func (d *decoder) sources(b packedNodes) *Node {
	hidden := d.forward(b.tokens, b.positions, treeMask(b.enter, b.exit)) // [T, D]
	return Gather(hidden, InsertAxes(b.sources, -1))
}

// normaliser is log Σ exp of the logits of x [U, D], [U, 1], computed over chunks of sources so that logits never take
// more than maxLogits numbers. The chunks' order is fixed by that of the nodes, one after the other.
func (d *decoder) normaliser(x *Node) *Node {
	u, limit := x.Shape().Dimensions[0], d.maxLogits
	if limit == 0 {
		limit = maxLogits
	}
	count := min(u, max(1, (u*d.config.VocabSize+limit-1)/limit))
	chunk := (u + count - 1) / count
	var parts []*Node
	for from := 0; from < u; from += chunk {
		part := x
		if count > 1 {
			part = SliceAxis(x, 0, AxisRange(from, min(from+chunk, u)))
		}
		switch {
		case d.training && d.lora != nil:
			part = d.normaliserByHand(part)
		case d.training && count > 1: // the head is trained: its chunk's logits are computed again on the way back
			part = logSumExp(d.logits(part.Checkpoint())).StopCheckpoint()
		default:
			part = logSumExp(d.logits(part))
		}
		parts = append(parts, part)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return Concatenate(parts, 0)
}

// logSumExp of logits [u, V]: [u, 1].
func logSumExp(logits *Node) *Node {
	top := StopGradient(ReduceAndKeep(logits, ReduceMax, -1)) // [u, 1]
	return Add(Log(ReduceAndKeep(Exp(Sub(logits, top)), ReduceSum, -1)), top)
}

// normaliserByHand is the normaliser of x [u, D] under a head that is not trained: [u, 1]. Its gradient with respect to
// x, softmax(logits) · head, is computed with it, where the logits are at hand: nothing of size [u, V] is kept for the
// way back, or passed over there.
func (d *decoder) normaliserByHand(x *Node) *Node {
	logits := halfProduct(StopGradient(x), d.head(), 1)                       // [u, V]
	top := ReduceAndKeep(logits, ReduceMax, -1)                               // [u, 1]
	e := Exp(Sub(logits, top))                                                // [u, V]
	sum := ReduceAndKeep(e, ReduceSum, -1)                                    // [u, 1]
	slope := halfProduct(e, d.head(), 0)                                      // [u, D]
	slope = StopGradient(Mul(slope, Reciprocal(sum)))                         // scaled once a feature rather than once a word
	value := StopGradient(Add(Log(sum), top))                                 // [u, 1]
	zero := ReduceAndKeep(Mul(slope, Sub(x, StopGradient(x))), ReduceSum, -1) // 0, with slope as its gradient
	return Add(value, zero)
}
