package nightly

import (
	"fmt"
	"slices"
	"strings"
)

// Effect is a paired difference of the run's headline: what the decoupled system
// scores on the same test turns minus what the vanilla one does.
type Effect struct {
	Name       string  `json:"name"` // preference bias, strategy F1, quality
	System     string  `json:"system"`
	Against    string  `json:"against"`
	Difference float64 `json:"difference"`
	Low        float64 `json:"low"` // of its 95 % interval
	High       float64 `json:"high"`
}

// trendNights are so many that a trend has a meaning.
const trendNights = 3

// EffectsLine says in a line how the decoupled system stands to the vanilla one
// tonight, and how that has moved over the nights; "" where nothing was measured.
func (r Record) EffectsLine() string {
	if len(r.Effects) == 0 {
		return ""
	}
	var parts []string
	for _, e := range r.Effects {
		part := fmt.Sprintf("%s %+.3f [%+.3f, %+.3f]", e.Name, e.Difference, e.Low, e.High)
		if t, ok := r.Trends[e.Name]; ok {
			part += fmt.Sprintf(", %+.4f a night over %d", t.Slope, t.Nights)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("%s minus %s: %s", r.Effects[0].System, r.Effects[0].Against, strings.Join(parts, "; "))
}

// Trend is how an effect moves from night to night.
type Trend struct {
	// Slope is the median of the slopes between all pairs of nights (Theil and Sen's),
	// which single nights that are off do not turn.
	Slope  float64 `json:"slope"`
	Nights int     `json:"nights"` // with tonight
}

// trends are those of tonight's effects, by their names, over the nights of the window,
// the oldest first.
func trends(night Record, window []Record) map[string]Trend {
	found := map[string]Trend{}
	for _, e := range night.Effects {
		var values []float64
		for _, r := range append(slices.Clone(window), night) {
			for _, was := range r.Effects {
				if was.Name == e.Name && was.System == e.System && was.Against == e.Against {
					values = append(values, was.Difference)
				}
			}
		}
		if len(values) < trendNights {
			continue
		}
		var slopes []float64
		for j := range values {
			for i := range j {
				slopes = append(slopes, (values[j]-values[i])/float64(j-i))
			}
		}
		found[e.Name] = Trend{Slope: median(slopes), Nights: len(values)}
	}
	return found
}

// Machine is where a night was planned and recorded, and what else it had to do.
type Machine struct {
	Host  string `json:"host"`
	Cores int    `json:"cores"`
	// LoadBefore and LoadAfter are the processes that ran or wanted to, on average over
	// the last minute, when the night was planned and when it was recorded; nil where
	// the system does not tell.
	LoadBefore *float64 `json:"load_before,omitempty"`
	LoadAfter  *float64 `json:"load_after,omitempty"`
}

// String is the machine in words.
func (m Machine) String() string {
	said := m.Host
	if m.Cores > 0 {
		said += fmt.Sprintf(", %d cores", m.Cores)
	}
	if m.LoadBefore != nil {
		said += fmt.Sprintf(", load %.1f before the run", *m.LoadBefore)
	}
	if m.LoadAfter != nil {
		said += fmt.Sprintf(", %.1f at its end", *m.LoadAfter)
	}
	return said
}
