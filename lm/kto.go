package lm

import (
	"context"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// BatchKL is the reference point of kto and kto_pair: how far the policy has moved from its reference, in nats a
// sequence. kto has one estimate for both sides, kto_pair one from each half of the batch. Never negative.
type BatchKL struct{ Chosen, Rejected float64 }

// tensor is [2] float32: chosen, rejected.
func (k BatchKL) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions([]float32{float32(k.Chosen), float32(k.Rejected)}, 2)
}

// ktoAnswers is the mean loss of each pair's two answers, [S/2], from the log-ratios of policy to reference, [S/2, 2]
// (chosen, rejected), and the batch's KL [2]. Each answer is judged by itself, the chosen one as desirable, the
// rejected one as undesirable, with the weights λ:
//
//	λ_D (1 - σ(β (chosen log-ratio - rejected KL)))  and  λ_U (1 - σ(β (chosen KL - rejected log-ratio))).
//
// With kto the two KLs are one estimate, see mismatched: Ethayarajh et al. 2024 (equation 7), TRL's KTOTrainer. With
// kto_pair, as in the HALOs repository's first trainer for pairs and TRL's DPOTrainer until 0.9, each half's KL is
// max(0, mean over the batch of the log-ratio) and is subtracted in the other half's terms. The KL is a constant to
// the gradient, as in the paper and TRL's KTOTrainer; TRL's kto_pair let the gradient pass through it.
func ktoAnswers(l Loss, ratios, kl *Node) *Node {
	at := func(i int) *Node { return Squeeze(SliceAxis(ratios, 1, AxisElem(i)), 1) } // [S/2]
	half := func(i int) *Node { return SliceAxis(kl, 0, AxisElem(i)) }               // [1]
	missed := func(x *Node) *Node { return Logistic(MulScalar(x, -l.Beta)) }         // 1 - σ(βx)
	desirable, undesirable := missed(Sub(at(0), half(1))), missed(Sub(half(0), at(1)))
	if l.Kind == LossKTO {
		desirable, undesirable = MulScalar(desirable, l.Desirable), MulScalar(undesirable, l.Undesirable)
	}
	return MulScalar(Add(desirable, undesirable), 0.5)
}

// batchKL estimates the reference point with the current weights, by a forward pass over all of a batch's
// micro-batches: the gradient of none can be known before. Losses without one pay nothing.
func (t *Trainer) batchKL(ctx context.Context, p *planner, batch []int, micros []microBatch) (BatchKL, error) {
	var kl BatchKL
	var err error
	switch t.config.Loss.Kind {
	case LossKTOPair:
		half := [2]*float64{&kl.Chosen, &kl.Rejected}
		err = t.eachSum(ctx, t.inputs(), p, p.examples, micros, func(ref sequenceRef, sum float64) {
			*half[ref.sequence] += (sum - p.examples[ref.example].Reference[ref.sequence]) / float64(len(batch))
		})
	case LossKTO:
		var examples []Example
		if examples, micros = p.mismatched(batch); len(examples) == 0 {
			return kl, nil // all have the same prompt: nothing to estimate from
		}
		moved := 0.0
		if err = t.eachSum(ctx, t.inputs(), p.mismatch, examples, micros, func(_ sequenceRef, sum float64) { moved += sum }); err != nil {
			return kl, err
		}
		// The reference is the model that the training began with.
		err = t.eachSum(ctx, keep(t.operands.tensors...), p.mismatch, examples, micros, func(_ sequenceRef, sum float64) { moved -= sum })
		moved /= float64(2 * len(examples))
		kl = BatchKL{moved, moved}
	}
	return BatchKL{max(0, kl.Chosen), max(0, kl.Rejected)}, err
}

// eachSum gives each sequence's log-probability under the weights among operands.
func (t *Trainer) eachSum(ctx context.Context, operands []input, p *planner, examples []Example, micros []microBatch, visit func(sequenceRef, float64)) error {
	for _, micro := range micros {
		if err := ctx.Err(); err != nil {
			return err
		}
		filled := micro.fill(p.fit(&micro))
		given := append(filled.tensors(), t.extras(filled, examples, 0, BatchKL{})...) // only the sums are read
		out, err := t.forward.run(slices.Concat(operands, keep(given...)))
		if err != nil {
			return err
		}
		sums, err := floats(out[1])
		release(given...)
		release(out...)
		if err != nil {
			return err
		}
		for i, ref := range filled.refs {
			visit(ref, float64(sums[i]))
		}
	}
	return nil
}

// mismatched gives each prompt of a batch the answers of another pair of it, from which kto estimates its KL, and packs
// them: as TRL does, the answers move on by a place in the batch, so that they are the ones that the loss is about.
// Where neighbours have the same prompt they move on by as many places as leave the fewest prompts with an answer of
// their own; those are left out.
func (p *planner) mismatched(batch []int) ([]Example, []microBatch) {
	prompt := func(i int) []int32 { s := &p.examples[i].Sequences[0]; return s.Tokens[:s.prompt()] }
	own := func(shift int) int {
		n := 0
		for k, i := range batch {
			if slices.Equal(prompt(i), prompt(batch[(k+len(batch)-shift)%len(batch)])) {
				n++
			}
		}
		return n
	}
	shift, fewest := 0, len(batch)
	for s := 1; s < len(batch) && fewest > 0; s++ {
		if n := own(s); n < fewest {
			shift, fewest = s, n
		}
	}
	if shift == 0 {
		return nil, nil
	}
	var examples []Example
	var all []int
	for k, i := range batch {
		from := p.examples[batch[(k+len(batch)-shift)%len(batch)]]
		if slices.Equal(prompt(i), from.Sequences[0].Tokens[:from.Sequences[0].prompt()]) {
			continue
		}
		e := Example{Group: p.examples[i].Group}
		for j := range from.Sequences {
			tokens := slices.Concat(prompt(i), from.Sequences[j].Tokens[from.Sequences[j].prompt():])
			tokens = tokens[:min(len(tokens), p.positions)]
			e.Sequences = append(e.Sequences, Sequence{Tokens: tokens, LossFrom: len(prompt(i))})
		}
		examples, all = append(examples, e), append(all, len(all))
	}
	return examples, p.splitAll(examples, all)
}
