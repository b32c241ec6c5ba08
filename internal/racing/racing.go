//go:build !race

// Package racing says whether this is a build for the race detector, which handles signals by itself, has limits of its
// own and takes ten times as long.
package racing

// Enabled is true in a build for the race detector.
const Enabled = false
