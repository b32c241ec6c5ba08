// Package esc is the domain of emotional support conversation (ESC): support
// strategies, psychological errors, dialogues and their chat form, prompts of
// the three roles, and the routing of mined samples into preference pairs.
//
// It knows ESConv's JSON layout and the paper (Zhang et al., DecoupledESC); it
// knows nothing of models, tokenizers, storage or workflows. Everything here
// is a pure function of its inputs: what looks random (splits, caps) is drawn
// from a hash of the seed and the item's own position, never from call order.
package esc
