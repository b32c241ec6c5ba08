// Package democorpus holds the sample corpus of the demo experiment: original
// dialogues in ESConv's JSON layout, written by the grammar in generate/.
//
// The dialogues are synthetic. They follow the three stages of emotional
// support (explore, comfort, act), and what the seeker says points to the
// strategy that follows, so that even a tiny model has something to learn; they
// say nothing about real conversations.
package democorpus

import _ "embed"

//go:generate go run ./generate -o demo.json

// Seed, Dialogues are what demo.json was generated with.
const (
	Seed      = 20250607
	Dialogues = 80
)

//go:embed demo.json
var demo []byte

// JSON returns the corpus: a list of dialogues in ESConv's layout.
func JSON() []byte {
	return append([]byte(nil), demo...)
}
