package report

import (
	"math"
	"strings"
	"testing"
)

func TestVerdicts(t *testing.T) {
	effect := func(m Measure, low, high, p float64) Effect {
		return Effect{Contrast: Contrast{"a", "b", m}, Difference: Value((low + high) / 2), Low: Value(low), High: Value(high), P: Value(p)}
	}
	missing := Effect{Contrast: Contrast{"a", "b", MeasureClean}}
	undefined := effect(MeasureQuality, 1, 2, math.NaN())
	for _, c := range []struct {
		name    string
		effects []Effect
		want    Verdict
	}{
		{"less bias, more quality", []Effect{effect(MeasureBias, -2, -1, 0.01), effect(MeasureQuality, 1, 2, 0.04)}, Holds},
		{"more bias", []Effect{effect(MeasureBias, 1, 2, 0.01), effect(MeasureQuality, 1, 2, 0.01)}, HoldsNot},
		{"less quality, not after correction", []Effect{effect(MeasureBias, -2, -1, 0.01), effect(MeasureQuality, -2, -1, 0.03)}, CannotTell},
		{"the interval has 0", []Effect{effect(MeasureClean, -1, 20, 0.01)}, CannotTell},
		{"the test sees nothing", []Effect{effect(MeasureClean, 1, 20, 0.05)}, CannotTell},
		{"one effect is missing", []Effect{effect(MeasureClean, 1, 20, 0.01), missing}, CannotTell},
		{"one effect has no p", []Effect{effect(MeasureClean, 1, 20, 0.01), undefined}, CannotTell},
		{"nothing", nil, CannotTell},
	} {
		q := Question{Effects: c.effects, Verdict: "as the caller likes"}.prepared(checked(50, 50))
		if q.Verdict != c.want {
			t.Errorf("%s: %s, want %s", c.name, q.Verdict, c.want)
		}
	}
}

// checked are a judge's checks whose intervals begin at these differences of the
// gold replies from shuffled and from canned ones.
func checked(shuffled, canned float64) []Effect {
	var all []Effect
	for _, c := range JudgeChecks() {
		low := shuffled
		if c.Against == "anchor/canned" {
			low = canned
		}
		all = append(all, Effect{Contrast: c, Difference: Value(low + 1), Low: Value(low), High: Value(low + 2)})
	}
	return all
}

// TestUntrustedJudge: what the judge says of systems counts where it tells gold
// replies from others by more; what is counted counts anyhow.
func TestUntrustedJudge(t *testing.T) {
	quality := Effect{Contrast: Contrast{"a", "b", MeasureQuality}, Difference: Value(0.4), Low: Value(0.3), High: Value(0.5), P: Value(0.01)}
	clean := Effect{Contrast: Contrast{"a", "b", MeasureClean}, Difference: Value(-0.4), Low: Value(-0.5), High: Value(-0.3), P: Value(0.01)}
	bias := Effect{Contrast: Contrast{"a", "b", MeasureBias}, Difference: Value(0.4), Low: Value(0.3), High: Value(0.5), P: Value(0.01)}
	for _, c := range []struct {
		name   string
		effect Effect
		checks []Effect
		want   Verdict
		why    string
	}{
		{"both above", quality, checked(0.41, 0.41), Holds, ""},
		{"a worse system, both above", clean, checked(0.41, 0.41), HoldsNot, ""},
		{"shuffled too near", quality, checked(0.4, 0.41), CannotTell, "difference of anchor/gold from anchor/shuffled is +1.400"},
		{"canned above gold", quality, checked(0.41, -1), CannotTell, "difference of anchor/gold from anchor/canned is 0.000"},
		{"a worse system, canned too near", clean, checked(1, 0.1), CannotTell, "from anchor/canned"},
		{"no anchors", quality, nil, CannotTell, "was not asked"},
		{"no judge needed", bias, nil, HoldsNot, ""},
	} {
		q := Question{Effects: []Effect{c.effect}}.prepared(c.checks)
		if q.Verdict != c.want {
			t.Errorf("%s: %s, want %s", c.name, q.Verdict, c.want)
		}
		if s := q.Effects[0].sentence(); (c.why == "") == strings.Contains(s, "nobody can tell") || !strings.Contains(s, c.why) {
			t.Errorf("%s: the report says %q, want the reason %q", c.name, s, c.why)
		}
	}
}

func TestResearchQuestionsAreFour(t *testing.T) {
	var names []string
	for _, q := range ResearchQuestions() {
		names = append(names, q.Name)
		for _, e := range q.Effects {
			if e.System == e.Against || e.Measure == "" {
				t.Errorf("%s: contrast %+v", q.Name, e.Contrast)
			}
		}
	}
	if got := strings.Join(names, " "); got != "RQ1 RQ2 RQ3 RQ4" {
		t.Errorf("questions %s", got)
	}
}

func TestQuestionsAreAnswered(t *testing.T) {
	md := rendered(t, Markdown, example())
	for _, want := range []string{
		"RQ1. Better? &lt;script&gt;",
		"** Verdict: **cannot tell**.\n\n- Preference bias B, vanilla/dpo against vanilla/sft: -0.100 (95 % interval -0.150 to -0.050, p = 0.0010 given the trained models, 50 turns of 9 dialogues): an improvement.\n" +
			"- Response quality (mean of the judge's four scores), vanilla/dpo against vanilla/sft: +0.025 (95 % interval -0.100 to +0.150, p = 0.4000 given the trained models, 40 turns of 8 dialogues): nobody can tell, because the judge's difference of anchor/gold from anchor/canned is +0.300 (95 % interval +0.010 to +0.600), not surely more than this effect.",
		"| response quality (mean of the judge's four scores) | anchor/gold | anchor/shuffled | +0.500 | +0.400 … +0.600 | 0.0010 | 8 |",
		"The rule, the same for every run",
		"| RQ1 | cannot tell | preference bias B | vanilla/dpo | vanilla/sft | -0.100 | -0.150 … -0.050 | 0.0010 | 9 |",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	page := rendered(t, HTML, example())
	if strings.Contains(page, "<script") || !strings.Contains(page, "Better? &lt;script&gt;") {
		t.Error("a question's text is markup")
	}
	if got := (Effect{Contrast: Contrast{"a", "b", MeasureClean}}).sentence(); !strings.Contains(got, "not measured in this run") {
		t.Errorf("a missing effect: %s", got)
	}
	e := Effect{Contrast: Contrast{"a", "b", MeasureClean}, Difference: Value(1), Low: Value(-1), High: Value(3), P: Value(0.01)}
	if got := e.sentence(); !strings.Contains(got, "interval and test disagree") {
		t.Errorf("an interval around 0 beside p = 0.01: no word of it in %s", got)
	}
}
