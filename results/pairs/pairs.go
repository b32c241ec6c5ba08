// Package pairs is mined preference pairs laid open: chosen by what they are
// about, counted as in the paper's Table 1, and written in the layouts that
// other trainers load, as what SFT learns from is.
package pairs

import (
	"fmt"
	"slices"

	"github.com/esclab/esclab/esc"
)

// Pair is a preference pair with the turn that it was mined from.
type Pair struct {
	esc.Pair
	Context []esc.Message
}

// Join puts pairs beside the turns that they were mined from. A pair without
// its turn, or whose turn has another gold answer, is an error: the dialogues
// are another corpus's.
func Join(mined []esc.Pair, dialogues []esc.Dialogue) ([]Pair, error) {
	turns := map[esc.Place]esc.Turn{}
	for _, turn := range esc.AllTurns(dialogues) {
		turns[turn.Place()] = turn
	}
	joined := make([]Pair, len(mined))
	for i, p := range mined {
		turn, ok := turns[p.Place()]
		if !ok || turn.Strategy != p.Gold || p.Role != esc.SP && turn.Response != p.Chosen {
			return nil, fmt.Errorf("the %s pair of dialogue %d, turn %d was mined from another corpus", p.Role, p.Dialogue, p.Turn)
		}
		joined[i] = Pair{p, turn.Context}
	}
	return joined, nil
}

// turn is the pair's turn, as esc.Prompts wants it.
func (p Pair) turn() esc.Turn {
	return esc.Turn{Dialogue: p.Dialogue, Index: p.Turn, Context: p.Context, Strategy: p.Gold, Response: p.Chosen}
}

// Sides are the pair's two answers as they are read: "[Strategy] response",
// the bare strategy for the planner.
func (p Pair) Sides() (chosen, rejected string) {
	role := p.Role
	if role == esc.RG {
		role = esc.VM // the strategy that it was given stands before the response
	}
	return esc.Answer(role, p.Gold, p.Chosen), esc.Answer(role, p.Strategy, p.Rejected)
}

// Filter says which pairs to take. What is empty takes all.
type Filter struct {
	Roles      []esc.Role
	Errors     []esc.PsyError // a pair with any of them
	Strategies []esc.Strategy // on either side
	Dialogues  []int
	Kinds      []esc.Kind // of the vanilla model's pairs: no other pair has one
}

// Takes says whether the filter takes a pair.
func (f Filter) Takes(p esc.Pair) bool {
	any := func(e esc.PsyError) bool { return slices.Contains(f.Errors, e) }
	return (len(f.Roles) == 0 || slices.Contains(f.Roles, p.Role)) &&
		(len(f.Errors) == 0 || slices.ContainsFunc(p.Errors, any)) &&
		(len(f.Strategies) == 0 || slices.Contains(f.Strategies, p.Gold) || slices.Contains(f.Strategies, p.Strategy)) &&
		(len(f.Dialogues) == 0 || slices.Contains(f.Dialogues, p.Dialogue)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, p.Kind))
}

// Select keeps the pairs that the filter takes, at most limit of them where
// limit is positive, and says how many there were.
func Select(all []Pair, f Filter, limit int) (kept []Pair, found int) {
	for _, p := range all {
		if !f.Takes(p.Pair) {
			continue
		}
		if found++; limit <= 0 || found <= limit {
			kept = append(kept, p)
		}
	}
	return kept, found
}
