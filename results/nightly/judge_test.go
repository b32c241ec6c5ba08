package nightly

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var options = Options{Window: 14, MinNights: 3, Noise: 4, Slack: 0.1}

// night is an ordinary one; quality and seconds of a stage can be given.
func night(n int, rouge, bias, seconds float64) Record {
	return Record{
		Schedule: "nightly", Night: fmt.Sprintf("202611%02dT220000Z", n), Experiment: "demo", Setup: "same",
		Started: time.Date(2026, 11, n, 22, 0, 0, 0, time.UTC), Finished: time.Date(2026, 11, n, 22, 5, 0, 0, time.UTC),
		Systems: []System{{Name: "decoupled/dpo", Metrics: []Metric{
			{Name: "rouge_l", Value: rouge, Low: rouge - 1, High: rouge + 1},
			{Name: "preference_bias", Value: bias, Low: bias - 0.1, High: bias + 0.1, Smaller: true},
		}}},
		Stages: []Stage{
			{Name: "corpus", Kind: "corpus", Seconds: 0.05},
			{Name: "sft/sp", Kind: "sft", Engine: "go avx512", Seconds: seconds, Tokens: 1000},
			{Name: "report", Kind: "report", Seconds: 0.2},
		},
	}
}

// past are nights 1 to 5, with a little noise.
func past() []Record {
	var all []Record
	for n, seconds := range []float64{20, 20.4, 19.7, 20.1, 20.2} {
		all = append(all, night(n+1, 14+float64(n)/10, 0.5, seconds))
	}
	return all
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name    string
		tonight Record
		verdict Verdict
		finding string // begins with
	}{
		{"the same", night(9, 14.1, 0.5, 20.3), Steady, ""},
		{"within the interval", night(9, 13.3, 0.55, 20.3), Steady, ""},
		{"worse replies", night(9, 13.1, 0.5, 20.3), Regression, "rouge_l of decoupled/dpo is 13.1, usually 14.2 (13.2 to 15.2)"},
		{"better replies", night(9, 15.3, 0.5, 20.3), Improved, "rouge_l of decoupled/dpo is 15.3"},
		{"more bias", night(9, 14.1, 0.7, 20.3), Regression, "preference_bias of decoupled/dpo is 0.7"},
		{"less bias", night(9, 14.1, 0.3, 20.3), Improved, "preference_bias of decoupled/dpo is 0.3"},
		{"slower for one night", night(9, 14.1, 0.5, 23), Steady, ""},
		{"faster for one night", night(9, 14.1, 0.5, 15), Steady, ""},
		{"faster and worse", night(9, 13, 0.5, 15), Regression, "rouge_l"},
	} {
		got := Compare(c.tonight, past(), options)
		if got.Verdict != c.verdict || len(got.Against) != 5 {
			t.Errorf("%s: %s against %v, want %s", c.name, got.Verdict, got.Against, c.verdict)
		}
		if c.finding != "" && (len(got.Findings) == 0 || !strings.HasPrefix(got.Findings[0].String(), c.finding)) {
			t.Errorf("%s: findings %v, want %q", c.name, got.Findings, c.finding)
		}
	}
}

// Speed has changed when two nights in a row say so; one of them is a note, and so
// are the stages that take next to nothing of the whole.
func TestSpeedNeedsTwoNights(t *testing.T) {
	for _, c := range []struct {
		seconds float64
		verdict Verdict
		finding string
	}{
		{23, Regression, "seconds of sft/sp is 23 s, usually 20.1"},
		{15, Improved, "seconds of sft/sp is 15 s"},
	} {
		once := Compare(night(8, 14.1, 0.5, c.seconds), past(), options)
		if once.Verdict != Steady || len(once.Notes) != 2 || !strings.HasSuffix(once.Notes[0], "a second night decides") {
			t.Errorf("%g s for one night: %s, notes %q, want steady and a note on the stage and on the whole", c.seconds, once.Verdict, once.Notes)
		}
		twice := Compare(night(9, 14.1, 0.5, c.seconds), append(past(), night(8, 14.1, 0.5, c.seconds)), options)
		if twice.Verdict != c.verdict || !strings.HasPrefix(twice.Findings[0].String(), c.finding) {
			t.Errorf("%g s for two nights: %s, %v, want %s: %s", c.seconds, twice.Verdict, twice.Findings, c.verdict, c.finding)
		}
	}
	short := func(n int) Record {
		r := night(n, 14.1, 0.5, 20)
		r.Stages[2].Seconds = 0.9 // the report, usually 0.2 s
		return r
	}
	got := Compare(short(9), append(past(), short(8)), options)
	if got.Verdict != Steady || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "report") {
		t.Errorf("a short stage that is slower for two nights: %s, notes %q, want steady and a note", got.Verdict, got.Notes)
	}
}

// Twenty nights of the same work on a machine with other load every night cry
// regression in none of many simulated months; a kernel that takes half as long again
// is found by its second night.
func TestTwentyNights(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 18))
		var all []Record
		for n := 1; n <= 20; n++ {
			tonight := night(n, 14.1, 0.5, 20*(1+0.15*random.Float64()))
			tonight.Stages[2].Seconds = 0.2 + 0.9*random.Float64()
			if got := Compare(tonight, all, options); got.Verdict == Regression {
				t.Errorf("month %d, night %d of the same: %v", seed, n, got.Findings)
			}
			all = append(all, tonight)
		}
		var last Judgement
		for n := 21; n <= 22; n++ {
			tonight := night(n, 14.1, 0.5, 30*(1+0.15*random.Float64()))
			last = Compare(tonight, all, options)
			all = append(all, tonight)
		}
		if last.Verdict != Regression {
			t.Errorf("month %d: the slower kernel is %s on its second night, notes %q", seed, last.Verdict, last.Notes)
		}
	}
}

// A machine whose times scatter gets more room than the slack.
func TestNoiseWidensWhatCountsAsTheSame(t *testing.T) {
	var all []Record
	for n, seconds := range []float64{20, 26, 15, 22, 18} {
		all = append(all, night(n+1, 14, 0.5, seconds))
	}
	if got := Compare(night(9, 14, 0.5, 30), all, options); got.Verdict != Steady {
		t.Errorf("30 s among 15 to 26 s: %s, %v", got.Verdict, got.Findings)
	}
	if got := Compare(night(9, 14, 0.5, 40), append(all, night(8, 14, 0.5, 40)), options); got.Verdict != Regression {
		t.Errorf("40 s for two nights among 15 to 26 s: %s", got.Verdict)
	}
}

func TestWhatIsNotCompared(t *testing.T) {
	if got := Compare(night(9, 14, 0.5, 20), nil, options); got.Verdict != First {
		t.Errorf("without earlier nights: %s", got.Verdict)
	}
	two := past()[:2]
	got := Compare(night(9, 14, 0.5, 99), two, options)
	if got.Verdict != Steady || len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "speed was not compared: it needs 3") {
		t.Errorf("speed after two nights: %s, %v", got.Verdict, got.Notes)
	}
	// Of three nights one was resumed after a kill, one ran on another engine,
	// one reused the stage.
	three := past()[:3]
	three[0].Stages[1].Resumed, three[1].Stages[1].Engine, three[2].Stages[1].Reused = true, "xla:cuda", true
	got = Compare(night(9, 14, 0.5, 99), three, options)
	if got.Verdict != Steady || len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "the speed of 2 of 4 stages was not compared") {
		t.Errorf("nothing comparable: %s, %v", got.Verdict, got.Notes)
	}
	tonight := night(9, 14, 0.5, 99)
	tonight.Stages[1].Resumed = true
	if got = Compare(tonight, past(), options); got.Verdict != Steady {
		t.Errorf("a resumed stage: %s, %v", got.Verdict, got.Findings)
	}

	all := past()
	all[0].Error, all[1].Setup, all[4].Night = "loss NaN", "other", "20261210T220000Z"
	got = Compare(night(9, 14, 0.5, 20), all, Options{Window: 1, MinNights: 1, Noise: 4, Slack: 0.1})
	if len(got.Against) != 1 || got.Against[0] != all[3].Night || len(got.Notes) != 1 {
		t.Errorf("window of one: against %v, notes %v", got.Against, got.Notes)
	}

	failed := night(9, 14, 0.5, 20)
	failed.Error = "sft/sp: loss NaN"
	if got = Compare(failed, past(), options); got.Verdict != Failed || len(got.Findings) != 0 {
		t.Errorf("a failed night: %s, %v", got.Verdict, got.Findings)
	}
}

func TestRecordRoundTripAndMarkdown(t *testing.T) {
	r := night(9, 13.1, 0.5, 99)
	r.Fresh, r.Revision, r.Newest = "all", "v1-3-gabc", "v1-4-gdef"
	r.Judgement = Compare(r, append(past(), night(8, 14.1, 0.5, 99)), options)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil || back.Verdict != Regression || len(back.Findings) != len(r.Findings) || back.Night != r.Night {
		t.Fatalf("%+v, %v", back, err)
	}
	if _, err := Decode([]byte(`{"version": 99, "night": "x"}`)); err == nil || !strings.Contains(err.Error(), "format version 99") {
		t.Errorf("a later version: %v", err)
	}
	text := back.Markdown()
	for _, want := range []string{
		"# nightly, night 20261109T220000Z: regression\n",
		"| newest revision | v1-4-gdef (the worker is older) |",
		"| **worse** | decoupled/dpo | rouge_l | 13.1 | 14.15 | 13.15 to 15.15 | 6 |",
		"| **worse** | sft/sp | seconds | 99 | 20.1 |",
		"| sft/sp | 99.0 | 10 | go avx512 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
