package nightly

import (
	"strings"
	"testing"
)

// with gives a night the effect of the decoupled system on quality.
func with(r Record, difference float64) Record {
	r.Effects = []Effect{{Name: "quality", System: "decoupled/dpo", Against: "vanilla/dpo", Difference: difference, Low: difference - 0.1, High: difference + 0.1}}
	return r
}

// The first line of a verdict is what decoupling brings, with its interval, and how
// that moves: a single night that is off does not turn the trend.
func TestEffectsLine(t *testing.T) {
	tonight := with(night(6, 14.1, 0.5, 20.3), 0.35)
	tonight.Machine = Machine{Host: "box", Cores: 2, LoadBefore: new(float64), LoadAfter: new(float64)}
	var nights []Record
	for n, difference := range []float64{0.10, 0.15, 0.20, 9, 0.30} {
		nights = append(nights, with(past()[n], difference))
	}
	tonight.Judgement = Compare(tonight, nights, options)
	want := "decoupled/dpo minus vanilla/dpo: quality +0.350 [+0.250, +0.450], +0.0500 a night over 6"
	if got := tonight.EffectsLine(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if lines := strings.Split(tonight.Markdown(), "\n"); !strings.Contains(lines[2], "minus vanilla/dpo: quality +0.350") || !strings.HasPrefix(lines[4], "steady") {
		t.Errorf("the report begins\n%s\nwant the effect, then the verdict", strings.Join(lines[:6], "\n"))
	}
	if !strings.Contains(tonight.Markdown(), "| machine | box, 2 cores, load 0.0 before the run, 0.0 at its end |") {
		t.Errorf("the report does not name the machine and its load:\n%s", tonight.Markdown())
	}

	first := with(night(6, 14.1, 0.5, 20.3), -0.35)
	first.Judgement = Compare(first, nights[:1], options)
	if got, want := first.EffectsLine(), "decoupled/dpo minus vanilla/dpo: quality -0.350 [-0.450, -0.250]"; got != want {
		t.Errorf("after one night: got  %s\nwant %s, and no trend", got, want)
	}
	if got := night(6, 14.1, 0.5, 20.3).EffectsLine(); got != "" {
		t.Errorf("nothing was measured: %q", got)
	}
}
