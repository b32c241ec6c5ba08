package nightly

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Verdict is a night in one word.
type Verdict string

// The verdicts, the worst first.
const (
	Failed     Verdict = "failed"     // the run has not come to its end
	Regression Verdict = "regression" // something is worse than in the nights before
	Improved   Verdict = "improved"   // something is better, nothing worse
	Steady     Verdict = "steady"     // all within the noise of the nights before
	First      Verdict = "first"      // there is no night to compare with
)

// Options say how nights are compared.
type Options struct {
	Window    int     `json:"window"`     // nights before this one that count
	MinNights int     `json:"min_nights"` // that a stage's speed needs, for there is no noise in fewer
	Noise     float64 `json:"noise"`      // median absolute deviations, scaled to standard ones, that speed may be off
	Slack     float64 `json:"slack"`      // share of the usual time that it may be off in any case
}

// floorSeconds is what a stage's time may be off in any case: below it a
// machine's scheduler decides.
const floorSeconds = 0.5

// shareOfWhole is the share of all stages' time below which one stage's says nothing
// about the program: its finding is a note.
const shareOfWhole = 1.0 / 20

// Judgement is what the comparison with the nights before has found.
type Judgement struct {
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"` // regressions first
	// Against are the nights that this one was compared with, the oldest first.
	Against []string `json:"against"`
	Notes   []string `json:"notes,omitempty"`
	// Trends say how tonight's effects move from night to night, by their names.
	Trends map[string]Trend `json:"trends,omitempty"`
}

// What a finding is about.
const (
	Quality = "quality"
	Speed   = "speed"
)

// Finding is one number outside what the nights before let expect.
type Finding struct {
	What string `json:"what"` // Quality or Speed
	// Where is a system (quality), or a stage (speed); "all stages" is their sum.
	Where  string  `json:"where"`
	Metric string  `json:"metric"` // a column of Table 3, or seconds
	Value  float64 `json:"value"`  // of this night
	Usual  float64 `json:"usual"`  // median of the nights before
	Low    float64 `json:"low"`    // what counts as the same
	High   float64 `json:"high"`
	Nights int     `json:"nights"` // that Usual rests on
	Worse  bool    `json:"worse"`
}

// Regressions are the findings that are worse.
func (j Judgement) Regressions() []Finding {
	return slices.DeleteFunc(slices.Clone(j.Findings), func(f Finding) bool { return !f.Worse })
}

// AllStages is where a finding about the sum of the stages' times lies.
const AllStages = "all stages"

// Compare judges a night by those before it. Past may come in any order and
// hold anything; what failed, or ran with other parameters, does not count.
//
// A metric has changed where its value is outside the median interval of the
// nights before: the medians of their lower and of their upper bounds. The time
// of a stage has changed where it is further from the median than the noise of
// the nights before (Options.Noise times their median absolute deviation, or
// Options.Slack of the median where that is more); only nights count in which
// the stage ran on the same engine. One night off is a note: a finding needs the night
// before off to the same side. So is a stage that takes less than shareOfWhole of all.
func Compare(night Record, past []Record, o Options) Judgement {
	j := Judgement{Findings: []Finding{}, Against: []string{}}
	if night.Error != "" {
		j.Verdict = Failed
		return j
	}
	window, other := comparable(night, past, o.Window)
	for _, r := range window {
		j.Against = append(j.Against, r.Night)
	}
	if other > 0 {
		j.Notes = append(j.Notes, fmt.Sprintf("%d earlier nights ran with other parameters and do not count", other))
	}
	if len(window) == 0 {
		j.Verdict = First
		return j
	}
	j.Trends = trends(night, window)
	j.Findings = append(j.Findings, quality(night, window)...)
	found, notes := speed(night, window, o)
	j.Findings, j.Notes = append(j.Findings, found...), append(j.Notes, notes...)
	slices.SortStableFunc(j.Findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	switch {
	case len(j.Findings) == 0:
		j.Verdict = Steady
	case j.Findings[0].Worse:
		j.Verdict = Regression
	default:
		j.Verdict = Improved
	}
	return j
}

func rank(f Finding) int {
	if f.Worse {
		return 0
	}
	return 1
}

// comparable keeps the newest nights of the same set-up that came to their
// end, the oldest first, and counts those of another.
func comparable(night Record, past []Record, window int) (same []Record, other int) {
	past = slices.Clone(past)
	slices.SortFunc(past, func(a, b Record) int { return cmp.Compare(a.Night, b.Night) })
	for _, r := range past {
		switch {
		case r.Error != "" || r.Night >= night.Night:
		case r.Setup != night.Setup:
			other++
		default:
			same = append(same, r)
		}
	}
	return same[max(len(same)-window, 0):], other
}

func quality(night Record, window []Record) []Finding {
	var found []Finding
	for _, system := range night.Systems {
		for _, m := range system.Metrics {
			var values, lows, highs []float64
			for _, r := range window {
				if was, ok := r.metric(system.Name, m.Name); ok {
					values, lows, highs = append(values, was.Value), append(lows, was.Low), append(highs, was.High)
				}
			}
			if len(values) == 0 {
				continue
			}
			low, high := median(lows), median(highs)
			if m.Value >= low && m.Value <= high {
				continue
			}
			found = append(found, Finding{
				What: Quality, Where: system.Name, Metric: m.Name, Value: m.Value, Usual: median(values), Low: low, High: high,
				Nights: len(values), Worse: (m.Value > high) == m.Smaller,
			})
		}
	}
	return found
}

func (r Record) metric(system, name string) (Metric, bool) {
	for _, s := range r.Systems {
		if s.Name != system {
			continue
		}
		for _, m := range s.Metrics {
			if m.Name == name {
				return m, true
			}
		}
	}
	return Metric{}, false
}

// off says on which side of what the nights before let expect a time lies, 0 within,
// and how far it may be off.
func (o Options) off(seconds float64, times []float64) (side int, usual, room float64) {
	usual = median(times)
	room = max(o.Noise*deviation(times, usual), o.Slack*usual, floorSeconds)
	if math.Abs(seconds-usual) > room {
		side = cmp.Compare(seconds, usual)
	}
	return side, usual, room
}

// speed compares the times of the stages that ran, and their sum. The notes say
// what was off once, or is too short to count, and how many stages there were too few
// nights for.
func speed(night Record, window []Record, o Options) (found []Finding, notes []string) {
	sum, whole := 0.0, true
	for _, s := range night.Stages {
		if s.measured() {
			sum += s.Seconds
		}
	}
	ran, short := 0, 0
	check := func(where string, seconds float64, times []float64) {
		ran++
		if len(times) < max(o.MinNights, 1) {
			short++
			return
		}
		// Tonight and the night before it are both held against those before them.
		before := 0
		if last := len(times) - 1; last >= max(o.MinNights, 1) {
			if before, _, _ = o.off(times[last], times[:last]); before != 0 {
				times = times[:last]
			}
		}
		side, usual, room := o.off(seconds, times)
		if side == 0 {
			return
		}
		f := Finding{
			What: Speed, Where: where, Metric: "seconds", Value: seconds, Usual: usual, Low: max(usual-room, 0), High: usual + room,
			Nights: len(times), Worse: side > 0,
		}
		switch {
		case seconds < shareOfWhole*sum:
			notes = append(notes, f.String()+"; less than a twentieth of the whole does not count")
		case before != side:
			notes = append(notes, f.String()+"; a second night decides")
		default:
			found = append(found, f)
		}
	}
	for _, s := range night.Stages {
		if !s.measured() {
			whole = whole && s.Reused
			continue
		}
		var times []float64
		for _, r := range window {
			if was, ok := r.stage(s); ok {
				times = append(times, was.Seconds)
			}
		}
		check(s.Name, s.Seconds, times)
	}
	if whole && sum > 0 {
		var sums []float64
		for _, r := range window {
			if s, ok := r.sum(night); ok {
				sums = append(sums, s)
			}
		}
		check(AllStages, sum, sums)
	}
	if short > 0 {
		few := fmt.Sprintf("the speed of %d of %d stages was not compared: fewer than %d earlier nights measured them on the same engine", short, ran, o.MinNights)
		if short == ran {
			few = fmt.Sprintf("speed was not compared: it needs %d earlier nights", o.MinNights)
		}
		notes = append(notes, few)
	}
	return found, notes
}

// stage finds the record's measurement of a stage on the same engine.
func (r Record) stage(of Stage) (Stage, bool) {
	for _, s := range r.Stages {
		if s.Name == of.Name {
			return s, s.measured() && s.Engine == of.Engine
		}
	}
	return Stage{}, false
}

// sum adds up the times of the stages that the night has measured; false where
// the record lacks one.
func (r Record) sum(night Record) (float64, bool) {
	total := 0.0
	for _, s := range night.Stages {
		if !s.measured() {
			continue
		}
		was, ok := r.stage(s)
		if !ok {
			return 0, false
		}
		total += was.Seconds
	}
	return total, true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// deviation is the median absolute deviation, scaled so that it estimates the
// standard deviation of a normal distribution.
func deviation(values []float64, from float64) float64 {
	off := make([]float64, len(values))
	for i, v := range values {
		off[i] = math.Abs(v - from)
	}
	return 1.4826 * median(off)
}
