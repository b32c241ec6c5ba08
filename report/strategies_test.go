package report

import (
	"strings"
	"testing"
)

// TestChosen: B stands beside its interval and its floor, and every metric beside
// the one that counts unread strategies as wrong.
func TestChosen(t *testing.T) {
	d := example()
	d.Systems[1].Intervals = append(d.Systems[1].Intervals, Interval{"preference_bias", 0.42, 0.61})
	d.Systems[1].Unparsed = 10
	want := "| vanilla/sft | 25.0 % | 0.50 | 0.42 … 0.61 | 0.10 | 0.15 | 20.0 % | 0.40 | 18.00 | 14.00 | 20.00 | 16.00 |"
	if md := rendered(t, Markdown, d); !strings.Contains(md, want) {
		t.Errorf("no %q in\n%s", want, md)
	}
}
