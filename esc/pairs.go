package esc

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Selection bounds a pair set. Zero values set no bound.
type Selection struct {
	PerError map[PsyError]int // pairs whose first error is this one
	PerTurn  int              // pairs of one turn
	Seed     uint64
}

// Mined counts what a selection saw and kept.
type Mined struct {
	Candidates int              `json:"candidates"`
	Duplicates int              `json:"duplicates"`
	Capped     int              `json:"capped"`
	Pairs      int              `json:"pairs"`
	PerError   map[PsyError]int `json:"per_error"` // by first error
	PerKind    map[Kind]int     `json:"per_kind,omitempty"`
	// Average characters of the responses (for sp of the bracketed
	// strategies), as in the lower half of the paper's Table 1.
	CharsChosen   float64 `json:"avg_chars_chosen"`
	CharsRejected float64 `json:"avg_chars_rejected"`
}

// Select drops pairs that have the turn, role, strategy and rejected response of
// another one (the lowest draw stays), then applies the bounds. If there are more
// pairs than a bound allows, a hash of the seed and the pair's place decides which
// ones stay, so that the choice depends neither on the order of candidates nor on
// other turns. The pairs kept come sorted by dialogue, turn, role and draw.
func Select(candidates []Pair, selection Selection) ([]Pair, Mined) {
	counts := Mined{Candidates: len(candidates), PerError: map[PsyError]int{}, PerKind: map[Kind]int{}}
	pairs := slices.Clone(candidates)
	slices.SortFunc(pairs, comparePairs)

	type identity struct {
		dialogue, turn int
		role           Role
		strategy       Strategy
		rejected       string
	}
	seen := make(map[identity]bool, len(pairs))
	pairs = slices.DeleteFunc(pairs, func(p Pair) bool {
		id := identity{p.Dialogue, p.Turn, p.Role, p.Strategy, foldName(p.Rejected)}
		repeated := seen[id]
		seen[id] = true
		return repeated
	})
	counts.Duplicates = len(candidates) - len(pairs)

	keys := make([]drawKey, len(pairs))
	order := make([]int, len(pairs))
	for i, p := range pairs {
		order[i], keys[i] = i, Draw(selection.Seed, "mine/"+string(p.Role), uint64(p.Dialogue), uint64(p.Turn), uint64(p.Draw))
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(bytes.Compare(keys[a][:], keys[b][:]), a-b)
	})
	perTurn := map[Place]int{}
	keep := make([]bool, len(pairs))
	for _, i := range order {
		p := pairs[i]
		place := p.Place()
		if full(selection.PerTurn, perTurn[place]) ||
			full(selection.PerError[firstError(p)], counts.PerError[firstError(p)]) {
			counts.Capped++
			continue
		}
		keep[i] = true
		counts.Pairs++
		perTurn[place]++
		counts.PerError[firstError(p)]++
		if p.Kind != "" {
			counts.PerKind[p.Kind]++
		}
	}
	kept := make([]Pair, 0, counts.Pairs)
	chosen, rejected := 0, 0
	for i, p := range pairs {
		if !keep[i] {
			continue
		}
		kept = append(kept, p)
		if p.Role == SP {
			chosen += len(p.Gold.Bracketed())
			rejected += len(p.Strategy.Bracketed())
			continue
		}
		chosen += runeCount(p.Chosen)
		rejected += runeCount(p.Rejected)
	}
	if counts.Pairs > 0 {
		counts.CharsChosen = float64(chosen) / float64(counts.Pairs)
		counts.CharsRejected = float64(rejected) / float64(counts.Pairs)
	}
	return kept, counts
}

func full(bound, have int) bool { return bound > 0 && have >= bound }

func firstError(p Pair) PsyError {
	if len(p.Errors) == 0 {
		return StrategyMismatch
	}
	return p.Errors[0]
}

func comparePairs(a, b Pair) int {
	return cmp.Or(
		cmp.Compare(a.Dialogue, b.Dialogue),
		cmp.Compare(a.Turn, b.Turn),
		cmp.Compare(a.Role, b.Role),
		cmp.Compare(a.Draw, b.Draw),
		cmp.Compare(a.Strategy, b.Strategy),
		cmp.Compare(a.Rejected, b.Rejected))
}

// WritePairs writes pairs as JSON lines.
func WritePairs(w io.Writer, pairs []Pair) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	for _, p := range pairs {
		if err := encoder.Encode(p); err != nil {
			return fmt.Errorf("esc: writing the pair of dialogue %d, turn %d: %w", p.Dialogue, p.Turn, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("esc: writing pairs: %w", err)
	}
	return nil
}

// ReadPairs reads what WritePairs wrote. name stands for the file in errors.
func ReadPairs(name string, r io.Reader) ([]Pair, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var pairs []Pair
	for {
		p := Pair{Gold: NoStrategy, Strategy: NoStrategy}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pairs, nil
		}
		if err == nil && (!p.Gold.Valid() || !p.Strategy.Valid()) {
			err = errors.New("a strategy is missing")
		}
		if err == nil {
			_, err = ParseRole(string(p.Role))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: pair %d (counted from 0): %w", name, len(pairs), err)
		}
		pairs = append(pairs, p)
	}
}
