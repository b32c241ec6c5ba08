//go:build race

package racing

// Enabled is true in a build for the race detector.
const Enabled = true
