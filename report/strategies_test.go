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
	d.Systems[1].Unparsed, d.Systems[1].AuthorsRead = 10, 3
	want := "| vanilla/sft | 25.0 % | 0.50 | 0.42 … 0.61 | 0.10 | 0.15 | 20.0 % | 3 | 0.40 | 18.00 | 14.00 | 20.00 | 16.00 |"
	if md := rendered(t, Markdown, d); !strings.Contains(md, want) {
		t.Errorf("no %q in\n%s", want, md)
	}
}

// TestTemperatures: the curve of each system that has one, in its colour, with what was
// sampled.
func TestTemperatures(t *testing.T) {
	d := example()
	f, ok, err := temperatureFigure(d)
	if err != nil || !ok || len(f.Legend) == 0 {
		t.Fatalf("drawn: %v, %v, want the curves of some systems", ok, err)
	}
	for i, r := range curved(d) {
		if want := newKey(r.System(), r.color()); f.Legend[i] != want {
			t.Errorf("curve %d is %v, want %v", i, f.Legend[i], want)
		}
	}
	md := rendered(t, Markdown, example())
	for _, want := range []string{
		"| System | Metric | 0 | 1 | as sampled at 0.7 | Named |",
		"| vanilla/sft | B ↓ | 0.90 | 0.20 | 0.50 | 87.5 % |",
		"|  | Qw ↑ | 22.00 | 19.00 | 20.00 | 87.5 % |",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
}

// Names below bars break at spaces and slashes, as far as they have to.
func TestWrap(t *testing.T) {
	for given, want := range map[string]string{
		"Question": "Question", "Restatement or Paraphrasing": "Restatement\nor\nParaphrasing", "anchor/shuffled": "anchor/\nshuffled",
		"vanilla/base": "vanilla/base", "decoupled base": "decoupled\nbase",
	} {
		if got := wrap(given, 12); got != want {
			t.Errorf("%q breaks into %q, want %q", given, got, want)
		}
	}
}
