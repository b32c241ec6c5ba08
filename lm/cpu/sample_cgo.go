//go:build cgo

package cpu

import "github.com/esclab/esclab/lm/cpu/internal/kernels"

// SampleWeights writes what each of the logits weighs when a token is drawn at a temperature: 1 where it is at least
// highest, which none of them exceeds, e^((logit-highest)/temperature) where it is at least kept, and 0 elsewhere, where
// it is no number, too. It returns their sum in the order of the logits; false without a kernel for it.
func SampleWeights(logits []float32, highest, kept float32, temperature float64, weights []float64) (total float64, ok bool) {
	if !current.on.Load() || !kernels.SamplesWeights() || len(logits) == 0 {
		return 0, false
	}
	return kernels.SampleWeights(logits, highest, kept, temperature, weights[:len(logits)]), true
}
