package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// claim is the question that a run is asked, put so that anybody reads it.
const claim = "Does planning the strategy apart from writing the reply make for better emotional support?"

// card is the answer to the claim: a verdict, a sentence, and its effects.
type card struct {
	Question, Verdict, Class, Sentence, Rule string
	Judge                                    string // why its word does not count; empty where it does
	Effects                                  []cardEffect
}

// cardEffect is an effect with its interval as a bar.
type cardEffect struct {
	Name, Difference, Interval, Finding, Class string
	SVG                                        template.HTML
}

// newCard lays the headline effects out; nil without any that was measured.
func newCard(d Data) *card {
	c := card{Question: claim}
	better, worse, measured := 0, 0, 0
	for _, e := range d.Headline {
		if e.Difference == nil {
			continue
		}
		measured++
		difference, interval, finding := e.InWords()
		one := cardEffect{Name: e.Measure.Short(), Difference: difference, Interval: interval, Finding: finding, SVG: e.bar()}
		switch e.direction(significance) {
		case 1:
			better++
			one.Class = "better"
		case -1:
			worse++
			one.Class = "worse"
		}
		c.Effects = append(c.Effects, one)
	}
	if measured == 0 {
		return nil
	}
	switch {
	case better == measured:
		c.Verdict, c.Class = "Yes, by every measure", "better"
	case better > 0 && worse > 0:
		c.Verdict, c.Class = "Better by one measure, worse by another", "worse"
	case worse > 0:
		c.Verdict, c.Class = "No", "worse"
	case better > 0:
		c.Verdict, c.Class = "In part", "better"
	default:
		c.Verdict = "This run cannot tell"
	}
	c.Sentence = d.sentence()
	e := d.Headline[0]
	for _, e := range d.Headline {
		if e.Untrusted != "" {
			c.Judge = "The judge's word on " + e.Measure.Short() + " does not count: " + e.Untrusted + "."
		}
	}
	c.Rule = fmt.Sprintf("%s against %s. Bars are 95 %% intervals of the difference on the same test turns, right of the line is better; "+
		"better or worse is said where the interval leaves the line and p < %g.", e.System, e.Against, significance)
	return &c
}

// sentence says what the headline effects show.
func (d Data) sentence() string {
	words := map[Measure][3]string{ // better, worse, and what cannot be told
		MeasureBias:     {"it leans less on a few favourite strategies", "it leans more on a few favourite strategies", "whether it leans less on favourite strategies"},
		MeasureStrategy: {"it more often picks the strategy that the human supporter picked", "it less often picks the strategy that the human supporter picked", "whether it picks strategies more like the human supporter"},
		MeasureQuality:  {"its replies are rated higher", "its replies are rated lower", "whether its replies are rated higher"},
	}
	var good, bad, open, judge []string
	dialogues := 0
	for _, e := range d.Headline {
		if e.Difference == nil {
			continue
		}
		dialogues = max(dialogues, e.Dialogues)
		switch e.direction(significance) {
		case 1:
			good = append(good, words[e.Measure][0])
		case -1:
			bad = append(bad, words[e.Measure][1])
		default:
			if e.Untrusted != "" {
				judge = append(judge, words[e.Measure][2])
			} else {
				open = append(open, words[e.Measure][2])
			}
		}
	}
	var parts []string
	if len(good) > 0 {
		parts = append(parts, "the model that plans first does better: "+joined(good))
	}
	if len(bad) > 0 {
		parts = append(parts, "the model that plans first does worse: "+joined(bad))
	}
	if len(open) > 0 {
		parts = append(parts, fmt.Sprintf("%s, %d conversations cannot tell", joined(open), dialogues))
	}
	if len(judge) > 0 {
		parts = append(parts, joined(judge)+", this judge cannot tell")
	}
	s := strings.Join(parts, "; ")
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// joined lists phrases.
func joined(phrases []string) string {
	if len(phrases) < 2 {
		return strings.Join(phrases, "")
	}
	return strings.Join(phrases[:len(phrases)-1], ", ") + " and " + phrases[len(phrases)-1]
}

// bar draws an effect's interval beside the line of no difference, the better side
// on the right.
func (e Effect) bar() template.HTML {
	if e.Low == nil || e.High == nil || e.Difference == nil {
		return ""
	}
	low, at, high := *e.Low, *e.Difference, *e.High
	if e.Measure.smaller() {
		low, at, high = -high, -at, -low
	}
	reach := 1.1 * max(math.Abs(low), math.Abs(high))
	if reach == 0 {
		reach = 1
	}
	x := func(v float64) float64 { return 150 + 145*v/reach }
	return template.HTML(fmt.Sprintf(`<svg class="effect" viewBox="0 0 300 22" role="img" aria-label="%s %s"><line class="zero" x1="150" x2="150" y1="0" y2="22"/>`+
		`<line class="range" x1="%.1f" x2="%.1f" y1="11" y2="11"/><circle cx="%.1f" cy="11" r="5"/></svg>`,
		template.HTMLEscapeString(e.Measure.Short()), template.HTMLEscapeString(signed(e.Difference)), x(low), x(high), x(at)))
}
