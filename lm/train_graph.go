package lm

import (
	"context"
	"fmt"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// lossInputs is the number of tensors that extras gives.
func (t *Trainer) lossInputs() int {
	switch {
	case t.config.Loss.kto():
		return 3
	case t.config.Loss.preference():
		return 2
	}
	return 1
}

// extras are the loss's own inputs: for sft the scale; for pairs the reference log-probabilities [S] and each pair's
// share of the mean [S/2]; for kto and kto_pair also the batch's KL [2].
func (t *Trainer) extras(p *packed, examples []Example, scale float32, kl BatchKL) []*tensors.Tensor {
	if !t.config.Loss.preference() {
		return []*tensors.Tensor{tensors.FromScalar(scale)}
	}
	reference, present := make([]float32, p.shape.sequences), make([]float32, p.shape.sequences/2)
	for i, ref := range p.refs {
		if r := examples[ref.example].Reference; r != nil {
			reference[i] = float32(r[ref.sequence])
		}
		present[i/2] = scale
	}
	list := []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(reference, len(reference)),
		tensors.FromFlatDataAndDimensions(present, len(present)),
	}
	if t.config.Loss.kto() {
		list = append(list, kl.tensor())
	}
	return list
}

// buildLoss binds operands, a packed micro-batch and the loss's inputs, in the order of accumulate, and returns the
// micro-batch's share of the loss followed by what readLoss needs, the trained weights and the nodes left over.
func (t *Trainer) buildLoss(nodes []*Node, training bool) (outputs, trained, rest []*Node) {
	count := len(t.operands.names)
	d := t.operands.decoder(nodes[:count])
	d.training, d.checkpointing = training, training && t.config.Checkpointing
	for _, o := range t.trainable {
		trained = append(trained, nodes[o])
	}
	b := packedOf(nodes[count : count+packedInputs])
	rest = nodes[count+packedInputs:]
	extras := rest[:t.lossInputs()]
	rest = rest[t.lossInputs():]
	if training && t.drops() {
		d.dropout = &dropout{rate: t.adapter.Config.Dropout, noise: rest[0]}
		rest = rest[1:]
	}
	logProbs := d.edgeLogProbs(b)
	if !t.config.Loss.preference() {
		return []*Node{sftLoss(b, logProbs, extras[0])}, trained, rest
	}
	var kl *Node
	if t.config.Loss.kto() {
		kl = extras[2]
	}
	loss, sums := preferenceLoss(t.config.Loss, b, logProbs, extras[0], extras[1], kl)
	return []*Node{loss, sums}, trained, rest
}

// buildGradient adds a micro-batch's gradients to the sums given last.
func (t *Trainer) buildGradient(nodes []*Node) []*Node {
	outputs, trained, sums := t.buildLoss(nodes, true)
	for i, g := range Gradient(outputs[0], trained...) {
		outputs = append(outputs, Add(sums[i], g))
	}
	return outputs
}

func (t *Trainer) buildForward(nodes []*Node) []*Node {
	outputs, _, _ := t.buildLoss(nodes, false)
	return outputs
}

// readLoss reads the loss and counts its pairs in.
func (t *Trainer) readLoss(out []*tensors.Tensor, p *packed, examples []Example, preference *PreferenceMetrics) (float64, error) {
	loss, err := scalar(out[0])
	if err != nil || !t.config.Loss.preference() {
		return loss, err
	}
	sums, err := floats(out[1])
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(p.refs); i += 2 {
		preference.add(t.config.Loss, float64(sums[i]), float64(sums[i+1]), &examples[p.refs[i].example])
	}
	return loss, nil
}

// ValidationMetrics describes one pass over the validation examples.
type ValidationMetrics struct {
	Loss       float64 // mean over labelled tokens or pairs
	Samples    int
	Tokens     int // computed, without padding
	Preference *PreferenceMetrics
}

// Validate computes the loss over the validation examples with the current weights, without dropout. They are taken in
// batches of the training's size, which only the KL of kto and kto_pair depends on.
func (t *Trainer) Validate(ctx context.Context) (ValidationMetrics, error) {
	m := ValidationMetrics{Samples: len(t.data.Validation)}
	if m.Samples == 0 {
		return m, fmt.Errorf("no validation examples")
	}
	if t.failed != nil {
		return m, t.failed
	}
	batches := t.validator.batches(0)
	scale := batchScale(t.config.Loss, t.data.Validation, slices.Concat(batches...))
	var preference PreferenceMetrics
	for _, batch := range batches {
		micros := t.validator.split(batch)
		kl, err := t.batchKL(ctx, &t.validator, batch, micros)
		if err != nil {
			return m, fmt.Errorf("validation: %w", err)
		}
		preference.addKL(t.config.Loss, kl, float64(len(batch))/float64(m.Samples))
		for _, micro := range micros {
			if err := ctx.Err(); err != nil {
				return m, err
			}
			p := micro.fill(t.validator.fit(&micro))
			given := append(p.tensors(), t.extras(p, t.data.Validation, scale, kl)...)
			out, err := t.forward.run(slices.Concat(t.inputs(), keep(given...)))
			if err != nil {
				return m, fmt.Errorf("validation: %w", err)
			}
			loss, err := t.readLoss(out, p, t.data.Validation, &preference)
			if err != nil {
				return m, fmt.Errorf("validation: %w", err)
			}
			release(given...)
			release(out...)
			m.Loss += loss
			for _, row := range micro.rows {
				for _, tree := range row {
					m.Tokens += len(tree.tokens)
				}
			}
		}
	}
	if !finite(m.Loss) {
		return m, fmt.Errorf("validation loss %v: %w", m.Loss, ErrNonFinite)
	}
	if t.config.Loss.preference() {
		preference.mean(m.Samples)
		m.Preference = &preference
	}
	return m, nil
}
