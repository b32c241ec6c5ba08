package esc

import "fmt"

// Destination is where a psychological error sends a mined sample.
type Destination int

const (
	// Nowhere: counted, not trained on.
	Nowhere Destination = iota
	// ToPlanner: a strategy pair for SP-DPO.
	ToPlanner
	// ToGenerator: a response pair for RG-DPO.
	ToGenerator
)

// Route is the dynamic data routing of inferential preference mining (paper
// §4.1): a strategy mismatch goes to the planner; lack of empathy, an early
// emotion shift and a template response go to the generator; an emotion
// misread is counted only.
func Route(e PsyError) Destination {
	switch e {
	case StrategyMismatch:
		return ToPlanner
	case LackOfEmpathy, EarlyEmotionShift, TemplateResponse:
		return ToGenerator
	}
	return Nowhere
}

// RouteAll returns those errors, in their order and without repeats, that go to
// a destination.
func RouteAll(errors []PsyError, to Destination) []PsyError {
	var seen [NumPsyErrors]bool
	var routed []PsyError
	for _, e := range errors {
		if e.Valid() && !seen[e] && Route(e) == to {
			seen[e] = true
			routed = append(routed, e)
		}
	}
	return routed
}

// Kind says which half of a vanilla pair's rejected side is at fault (paper
// §3.2): p is positive, n negative, s the strategy, r the response.
type Kind string

const (
	PsNr Kind = "psnr" // gold strategy, response with an error
	NsPr Kind = "nspr" // other strategy, response without an error
	NsNr Kind = "nsnr" // both at fault
)

// Kinds returns the three kinds.
func Kinds() []Kind { return []Kind{PsNr, NsPr, NsNr} }

// PairSet selects a role's pairs: all of them, or those of one kind (paper §3.2,
// Table 5).
type PairSet string

const (
	PairsAll  PairSet = "all"
	PairsNsNr         = PairSet(NsNr)
	PairsPsNr         = PairSet(PsNr)
	PairsNsPr         = PairSet(NsPr)
)

// PairSets lists the pair sets with the union first.
func PairSets() []PairSet { return []PairSet{PairsAll, PairsNsNr, PairsPsNr, PairsNsPr} }

// Has says whether the set selects a pair.
func (s PairSet) Has(p Pair) bool { return s == PairsAll || s == PairSet(p.Kind) }

// Sample is one answer that an SFT model gave to a turn of the train split,
// taken apart and judged.
type Sample struct {
	Draw     int        // which of the turn's samples, from 0
	Strategy Strategy   // predicted (vm, sp) or given (rg)
	Response string     // "" for sp
	Errors   []PsyError // the judge's labels
	Reason   string     // the judge's words
}

// Pair is a preference pair. It refers to its turn instead of repeating the
// context: Pair.Examples rebuilds both sides from the turn.
type Pair struct {
	Dialogue int        `json:"dialogue"`
	Turn     int        `json:"turn"`
	Draw     int        `json:"draw"`
	Role     Role       `json:"role"`
	Kind     Kind       `json:"kind,omitempty"`   // vm only
	Errors   []PsyError `json:"errors"`           // routed; not empty
	Reason   string     `json:"reason,omitempty"` // one line, for the errors in their order
	// Gold and Strategy are the strategies of the two sides; for rg they
	// are the same.
	Gold     Strategy `json:"gold_strategy"`
	Strategy Strategy `json:"strategy"`
	// Chosen and Rejected are the responses; "" on both sides for sp.
	Chosen   string `json:"chosen,omitempty"`
	Rejected string `json:"rejected,omitempty"`
}

// Place is where the pair's turn stands.
func (p Pair) Place() Place { return Place{Dialogue: p.Dialogue, Turn: p.Turn} }

// MakePair builds the pair of a sample, with ok=false where it makes none:
//
//   - sp: the predicted strategy is not the gold one (equation 1);
//   - rg: under the gold strategy, a response with an error that is routed to
//     the generator (equation 2);
//   - vm: either or both, marked with the kind.
//
// A sample without a readable strategy or response, and one that equals the
// gold answer, makes no pair.
func MakePair(role Role, turn Turn, s Sample) (pair Pair, ok bool) {
	pair = Pair{
		Dialogue: turn.Dialogue, Turn: turn.Index, Draw: s.Draw, Role: role,
		Gold: turn.Strategy, Strategy: s.Strategy,
	}
	if !s.Strategy.Valid() || !turn.Strategy.Valid() {
		return pair, false
	}
	mismatch := s.Strategy != turn.Strategy
	if role == SP {
		pair.Errors = []PsyError{StrategyMismatch}
		pair.Reason = mismatchReason(turn.Strategy, s.Strategy)
		return pair, mismatch
	}
	pair.Chosen, pair.Rejected, pair.Reason = turn.Response, s.Response, s.Reason
	if s.Response == "" || turn.Response == "" || foldName(s.Response) == foldName(turn.Response) {
		return pair, false
	}
	pair.Errors = RouteAll(s.Errors, ToGenerator)
	faulty := len(pair.Errors) > 0
	if role == RG {
		return pair, faulty && !mismatch
	}
	switch {
	case mismatch && faulty:
		pair.Kind = NsNr
	case mismatch:
		pair.Kind = NsPr
	case faulty:
		pair.Kind = PsNr
	default:
		return pair, false
	}
	if mismatch {
		// One line for both labels, in their order.
		reason := mismatchReason(turn.Strategy, s.Strategy)
		if faulty && pair.Reason != "" {
			reason += "; " + pair.Reason
		}
		pair.Errors, pair.Reason = append([]PsyError{StrategyMismatch}, pair.Errors...), reason
	}
	return pair, role == VM
}

// mismatchReason says why a strategy is on the rejected side.
func mismatchReason(gold, strategy Strategy) string {
	return fmt.Sprintf("%s where the gold strategy is %s", strategy, gold)
}

// Examples returns the chosen and the rejected side of a pair as examples with
// one prompt. turn must be the one that the pair was mined from.
func (p Prompts) Examples(pair Pair, turn Turn) (chosen, rejected Example, err error) {
	if turn.Dialogue != pair.Dialogue || turn.Index != pair.Turn || turn.Strategy != pair.Gold ||
		(pair.Role != SP && turn.Response != pair.Chosen) {
		return chosen, rejected, fmt.Errorf("esc: the %s pair of dialogue %d, turn %d was mined from another corpus; mine again", pair.Role, pair.Dialogue, pair.Turn)
	}
	if chosen, err = p.Example(pair.Role, turn); err != nil {
		return chosen, rejected, err
	}
	return chosen, Example{chosen.Prompt, p.Answer(pair.Role, pair.Strategy, pair.Rejected)}, nil
}
