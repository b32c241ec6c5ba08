// Package bench prepares the paper's workloads from a corpus, runs their
// training steps and generation on random weights, and counts what the machine
// made of them. Nothing is mined: the rejected sides of preference pairs come
// from counters, with the lengths and the sharing of prefixes that mined ones
// have.
package bench
