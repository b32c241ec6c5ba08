//go:build !cgo

package cpu

// SampleWeights has no kernel in a build without cgo.
func SampleWeights([]float32, float32, float32, float64, []float64) (float64, bool) { return 0, false }
