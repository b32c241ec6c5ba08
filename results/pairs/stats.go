package pairs

import "github.com/esclab/esclab/esc"

// Statistics are the figures of the paper's Table 1: the corpus, and the pairs
// mined from it.
type Statistics struct {
	Corpus esc.Statistics `json:"corpus"` // of the train split
	Roles  []Role         `json:"roles"`
}

// Role counts the pairs of one role.
type Role struct {
	Role  esc.Role `json:"role"`
	Pairs int      `json:"pairs"`
	Turns int      `json:"turns"` // that have a pair
	// PerError counts a pair once, by its first error, as Table 1 does.
	PerError map[esc.PsyError]int `json:"per_error"`
	PerKind  map[esc.Kind]int     `json:"per_kind,omitempty"` // vm
	// Average characters (Unicode code points) of the two sides: of responses
	// without the strategy in front, for sp of the bracketed strategies.
	CharsChosen   float64 `json:"avg_chars_chosen"`
	CharsRejected float64 `json:"avg_chars_rejected"`
	// Gold and Rejected count the strategies of the two sides.
	Gold     [esc.NumStrategies]int `json:"gold_strategies"`
	Rejected [esc.NumStrategies]int `json:"rejected_strategies"`
}

// Count makes the statistics of pairs and of the corpus they were mined from.
// Roles come in their own order; those without a pair are left out.
func Count(all []Pair, train []esc.Dialogue) Statistics {
	s := Statistics{Corpus: esc.ComputeStatistics(train)}
	for _, role := range esc.Roles() {
		var mine []esc.Pair
		r := Role{Role: role}
		turns := map[esc.Place]bool{}
		for _, p := range all {
			if p.Role != role {
				continue
			}
			mine = append(mine, p.Pair)
			turns[p.Place()] = true
			r.Gold[p.Gold]++
			r.Rejected[p.Strategy]++
		}
		if len(mine) == 0 {
			continue
		}
		_, counts := esc.Select(mine, esc.Selection{}) // no bounds: counts alone
		r.Pairs, r.Turns, r.PerError, r.PerKind = counts.Pairs, len(turns), counts.PerError, counts.PerKind
		r.CharsChosen, r.CharsRejected = counts.CharsChosen, counts.CharsRejected
		s.Roles = append(s.Roles, r)
	}
	return s
}
