package results

import "testing"

// TestSparkline: a curve of more steps than columns keeps its shape; one step is none.
func TestSparkline(t *testing.T) {
	for want, losses := range map[string][]float64{
		"":             {0.5},
		"█▁":           {2, 1},
		"▁▁▁":          {1, 1, 1},
		"██▇▆▅▄▃▂▁▁▃▅": {8, 8, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1, 3, 3, 5, 5},
	} {
		var steps []Step
		for _, loss := range losses {
			steps = append(steps, Step{Loss: loss})
		}
		if got := Sparkline(steps); got != want {
			t.Errorf("losses %v are drawn %q, want %q", losses, got, want)
		}
	}
}
