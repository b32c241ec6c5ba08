package activities

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/esclab/esclab/esc"
)

// TestShuffled: every turn's reply is used once, in another dialogue, and the
// seed decides where.
func TestShuffled(t *testing.T) {
	var turns []esc.Turn
	for d, n := range []int{3, 7, 1, 4, 5} {
		for k := range n {
			turns = append(turns, esc.Turn{Dialogue: d, Index: k, Response: fmt.Sprint(d, k)})
		}
	}
	got, used := shuffled(turns, 17), map[string]int{}
	for i, other := range got {
		used[other.Response]++
		if other.Dialogue == turns[i].Dialogue {
			t.Errorf("%+v has the reply of its own dialogue, %q", turns[i].Place(), other.Response)
		}
	}
	if len(used) != len(turns) {
		t.Errorf("%d replies are used, want all %d", len(used), len(turns))
	}
	if !reflect.DeepEqual(got, shuffled(turns, 17)) {
		t.Error("the same seed shuffles otherwise")
	}
	if reflect.DeepEqual(got, shuffled(turns, 18)) {
		t.Error("another seed shuffles alike")
	}
}
