package lm

import (
	"context"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// BatchKL is KTO's reference point: how far the policy has moved from its reference, in nats a sequence, estimated on
// the chosen and on the rejected half of a batch. Never negative.
type BatchKL struct{ Chosen, Rejected float64 }

// tensor is [2] float32: chosen, rejected.
func (k BatchKL) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions([]float32{float32(k.Chosen), float32(k.Rejected)}, 2)
}

// ktoPairs is the loss of each pair, [S/2], from the log-ratios of policy to reference, [S/2, 2] (chosen, rejected),
// and the batch's KL [2]: the mean of
//
//	1 - σ(β (chosen log-ratio - rejected KL))  and  1 - σ(β (chosen KL - rejected log-ratio)),
//
// the loss of Ethayarajh et al. 2024 (equation 7 as TRL counts) with both weights 1, since a batch has as many
// desirable answers as undesirable ones. As in the HALOs repository's first trainer for pairs and TRL's "kto_pair",
// each half's KL is max(0, mean over the batch of the log-ratio) and is subtracted in the other half's terms. It is a
// constant to the gradient, as in the paper and TRL's KTOTrainer; "kto_pair" let the gradient pass through it.
func ktoPairs(beta float64, ratios, kl *Node) *Node {
	at := func(i int) *Node { return Squeeze(SliceAxis(ratios, 1, AxisElem(i)), 1) } // [S/2]
	half := func(i int) *Node { return SliceAxis(kl, 0, AxisElem(i)) }               // [1]
	missed := func(x *Node) *Node { return Logistic(MulScalar(x, -beta)) }           // 1 - σ(βx)
	desirable, undesirable := missed(Sub(at(0), half(1))), missed(Sub(half(0), at(1)))
	return MulScalar(Add(desirable, undesirable), 0.5)
}

// batchKL estimates KTO's reference point with the current weights, by a forward pass over all of a batch's
// micro-batches: the gradient of none can be known before. Other losses have none, and it costs nothing.
func (t *Trainer) batchKL(ctx context.Context, p *planner, examples []Example, micros []microBatch) (BatchKL, error) {
	var kl BatchKL
	if t.config.Loss.Kind != LossKTO {
		return kl, nil
	}
	pairs := 0
	for _, micro := range micros {
		if err := ctx.Err(); err != nil {
			return kl, err
		}
		filled := micro.fill(p.fit(&micro))
		given := append(filled.tensors(), t.extras(filled, examples, 0, kl)...) // only the sums are read
		out, err := t.forward.run(slices.Concat(t.inputs(), keep(given...)))
		if err != nil {
			return kl, err
		}
		sums, err := floats(out[1])
		release(given...)
		release(out...)
		if err != nil {
			return kl, err
		}
		for i := 0; i < len(filled.refs); i += 2 {
			reference := examples[filled.refs[i].example].Reference
			kl.Chosen += float64(sums[i]) - reference[0]
			kl.Rejected += float64(sums[i+1]) - reference[1]
			pairs++
		}
	}
	return BatchKL{max(0, kl.Chosen/float64(pairs)), max(0, kl.Rejected/float64(pairs))}, nil
}
