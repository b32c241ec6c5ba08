package activities

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/esclab/esclab/esc"
)

// placeKey is the counter that random choices about a turn are drawn from.
func placeKey(seed uint64, turn esc.Turn) [sha256.Size]byte {
	var place [24]byte
	binary.LittleEndian.PutUint64(place[0:], seed)
	binary.LittleEndian.PutUint64(place[8:], uint64(turn.Dialogue))
	binary.LittleEndian.PutUint64(place[16:], uint64(turn.Index))
	return sha256.Sum256(place[:])
}

// drawTurns keeps n turns, drawn by the seed and each turn's place, in their
// order; 0 keeps all.
func drawTurns(turns []esc.Turn, n int, seed uint64) []esc.Turn {
	if n <= 0 || n >= len(turns) {
		return turns
	}
	chosen := order(turns, seed)[:n]
	slices.Sort(chosen)
	kept := make([]esc.Turn, n)
	for i, at := range chosen {
		kept[i] = turns[at]
	}
	return kept
}

// drawDialogues keeps whole dialogues, drawn by the seed, until there are n
// turns; the last one is cut. What is mined from whole dialogues shares its
// contexts, so that training on it costs a fraction of what as many scattered
// turns would. 0 keeps all.
func drawDialogues(turns []esc.Turn, n int, seed uint64) []esc.Turn {
	if n <= 0 || n >= len(turns) {
		return turns
	}
	var first []esc.Turn // of each dialogue
	size := map[int]int{}
	for _, t := range turns {
		if size[t.Dialogue] == 0 {
			first = append(first, t)
		}
		size[t.Dialogue]++
	}
	take := map[int]int{}
	for _, at := range order(first, seed) {
		d := first[at].Dialogue
		take[d] = min(size[d], n)
		if n -= take[d]; n == 0 {
			break
		}
	}
	var kept []esc.Turn
	for _, t := range turns {
		if take[t.Dialogue] > 0 {
			take[t.Dialogue]--
			kept = append(kept, t)
		}
	}
	return kept
}

// order gives the turns' positions in the order of their counters.
func order(turns []esc.Turn, seed uint64) []int {
	keys := make([][sha256.Size]byte, len(turns))
	positions := make([]int, len(turns))
	for i, t := range turns {
		keys[i], positions[i] = placeKey(seed, t), i
	}
	slices.SortFunc(positions, func(a, b int) int {
		return cmp.Or(slices.Compare(keys[a][:], keys[b][:]), cmp.Compare(a, b))
	})
	return positions
}
