package activities

import (
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
)

// turnsOf makes dialogues of the given numbers of turns.
func turnsOf(sizes ...int) []esc.Turn {
	var turns []esc.Turn
	for d, n := range sizes {
		for i := range n {
			turns = append(turns, esc.Turn{Dialogue: d, Index: i})
		}
	}
	return turns
}

func places(turns []esc.Turn) []esc.Place {
	var p []esc.Place
	for _, t := range turns {
		p = append(p, t.Place())
	}
	return p
}

func TestDrawTurns(t *testing.T) {
	turns := turnsOf(5, 7, 3)
	a, b := drawTurns(turns, 6, 1), drawTurns(turns, 6, 1)
	if len(a) != 6 || !slices.Equal(places(a), places(b)) {
		t.Fatalf("%v, then %v", places(a), places(b))
	}
	if slices.Equal(places(a), places(drawTurns(turns, 6, 2))) {
		t.Error("two seeds draw the same")
	}
	if !slices.IsSortedFunc(a, func(x, y esc.Turn) int { return slices.Compare([]int{x.Dialogue, x.Index}, []int{y.Dialogue, y.Index}) }) {
		t.Errorf("not in the corpus' order: %v", places(a))
	}
	// A turn's luck does not depend on the turns around it.
	more := drawTurns(append(turnsOf(5, 7, 3), esc.Turn{Dialogue: 9}), 7, 1)
	for _, p := range places(a) {
		if !slices.Contains(places(more), p) {
			t.Errorf("turn %v is lost when another one is there to be drawn too", p)
		}
	}
	if len(drawTurns(turns, 0, 1)) != 15 || len(drawTurns(turns, 99, 1)) != 15 {
		t.Error("0 or more than there are should keep all")
	}
}

func TestDrawDialoguesKeepsThemWhole(t *testing.T) {
	turns := turnsOf(5, 7, 3, 6, 4)
	for n := 1; n < len(turns); n++ {
		kept := drawDialogues(turns, n, 3)
		if len(kept) != n {
			t.Fatalf("%d turns of %d", len(kept), n)
		}
		count := map[int]int{}
		for _, k := range kept {
			if k.Index != count[k.Dialogue] {
				t.Fatalf("n %d: dialogue %d has a hole before turn %d", n, k.Dialogue, k.Index)
			}
			count[k.Dialogue]++
		}
		cut := 0
		for d, c := range count {
			if c < []int{5, 7, 3, 6, 4}[d] {
				cut++
			}
		}
		if cut > 1 {
			t.Errorf("n %d: %d dialogues are cut", n, cut)
		}
	}
}

// Chunks hold whole dialogues and lose nothing.
func TestChunk(t *testing.T) {
	sizes := make([]int, 2*chunkDialogues+5)
	for i := range sizes {
		sizes[i] = 1 + i%4
	}
	turns := turnsOf(sizes...)
	chunks := chunk(turns)
	if len(chunks) != 3 {
		t.Fatalf("%d chunks", len(chunks))
	}
	if !slices.Equal(places(slices.Concat(chunks...)), places(turns)) {
		t.Error("the chunks together are not the turns")
	}
	for i := 1; i < len(chunks); i++ {
		if chunks[i][0].Index != 0 {
			t.Errorf("chunk %d begins within a dialogue", i)
		}
	}
	if chunk(nil) != nil {
		t.Error("no turns make a chunk")
	}
}
