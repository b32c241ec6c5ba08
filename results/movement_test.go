package results

import (
	"math"
	"strings"
	"testing"
)

// TestMoved: the change in nats is the rewards' of the last tenth by beta, the noise the standard error over the first
// epoch's batches, and each kind of training is warned of as what it is.
func TestMoved(t *testing.T) {
	// 20 steps in two epochs; the chosen answers' mean log-probability before the training is -30 or -26 by turns.
	record := func(beta, chosen, rejected float64, reference bool) []Step {
		var steps []Step
		for i := range 20 {
			share := float64(i) / 19 // of the way
			before := -30.0
			if i%2 == 1 {
				before = -26
			}
			r := &Rewards{LogProbs: before + share*chosen, Chosen: beta * share * chosen, Rejected: beta * share * rejected}
			if !reference {
				r.Chosen, r.Rejected = beta*(-28+share*chosen), beta*(-28+share*rejected)
			}
			steps = append(steps, Step{Step: i + 1, Epoch: float64(i+1) / 10, Rewards: r})
		}
		return steps
	}
	noise := math.Sqrt(10 * 4.0 / 9 / 10) // ten batches, each 2 from their mean
	last := (18.0 + 19) / 2 / 19
	for _, c := range []struct {
		name             string
		chosen, rejected float64
		warning          string
	}{
		{"as it should", 2, -3, ""},
		{"nothing moves", 0.001, -0.002, "less than sampling does (0.67)"},
		{"both fall", -2, -5, "the chosen answers have become less likely (by 1.9 nats) while the margin grew to 2.9 nats"},
		{"the margin shrinks", -5, -2, ""},
	} {
		m := Moved(record(0.2, c.chosen, c.rejected, true), 0.2, true)
		if math.Abs(m.Chosen-last*c.chosen) > 1e-9 || math.Abs(m.Rejected-last*c.rejected) > 1e-9 || math.Abs(m.Noise-noise) > 1e-9 {
			t.Errorf("%s: moved %+v, want %v and %v, noise %v", c.name, *m, last*c.chosen, last*c.rejected, noise)
		}
		if got := m.Warning(); got != c.warning && (c.warning == "" || !strings.Contains(got, c.warning)) {
			t.Errorf("%s: the warning is %q, want %q", c.name, got, c.warning)
		}
	}
	if m := Moved(record(2, 2, -3, false), 2, false); math.Abs(m.Chosen-2*(last-0.5/19)) > 1e-9 {
		t.Errorf("without a reference: the chosen answers moved by %v, want %v, the change from the first tenth", m.Chosen, 2*(last-0.5/19))
	}
	if m := Moved([]Step{{Step: 1}, {Step: 2}}, 0.1, true); m != nil || m.Warning() != "" {
		t.Errorf("a record without rewards has the movement %+v, want none", m)
	}
}
