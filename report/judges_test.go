package report

import (
	"math"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// The verdicts of several judges stand side by side, each trusted as far as it
// tells the anchors apart itself.
func TestSeveralJudges(t *testing.T) {
	quality := func(difference float64) Question {
		return Question{Name: "RQ1", Text: "Better?", Effects: []Effect{{Contrast: Contrast{"vanilla/dpo", "vanilla/sft", MeasureQuality},
			Difference: Value(difference), Low: Value(difference - 0.1), High: Value(difference + 0.1), P: Value(0.001), Turns: 40, Dialogues: 8}}}
	}
	d := example()
	d.Questions, d.Checks = []Question{quality(-0.25)}, checked(1, 1)
	wins := func(win, tie, loss float64) []Wins {
		share := func(v float64) *Share { return &Share{Value: v, Low: v - 0.1, High: v + 0.1} }
		return []Wins{{By: "model-b", Systems: [2]string{"decoupled/dpo", "vanilla/dpo"}, Samples: 40,
			Questions: []Win{{Question: "reply as a whole", Answers: 40, Win: share(win), Tie: share(tie), Loss: share(loss)}}}}
	}
	d.Wins = append(wins(0.5, 0.2, 0.3), Wins{By: "people", People: true, Systems: [2]string{"decoupled/dpo", "vanilla/sft"}})
	d.OtherJudges = []OtherJudge{
		{Name: "second", Judge: Judge{Name: "model-b", Protocol: experiments.ProtocolPaper}, Questions: []Question{quality(0.3)}, Checks: checked(1, 1),
			Rows: []JudgedRow{{System: "vanilla/sft", Quality: Value(2.5), Clean: Value(40)}}, Wins: wins(0.25, 0.5, math.NaN()),
			Quality: []Quality{{Role: esc.RG, Samples: 50, Chosen: Scores{4, 3, 2, 1}, Rejected: Scores{2, 3, 2.5, 0}}}},
		{Name: "third", Judge: Judge{Name: "model-c"}, Questions: []Question{quality(0.3)}, Checks: checked(1, 0.1)},
	}
	md := rendered(t, Markdown, d)
	for _, want := range []string{
		"| Question | Measure | System | Against | judge: offline-1 | second: model-b | third: model-c |",
		"| RQ1 | verdict |  |  | does not hold | holds | cannot tell |",
		"| vanilla/dpo | vanilla/sft | -0.250 \\[-0.350, -0.150\\] | +0.300 \\[+0.200, +0.400\\] | +0.300 \\[+0.200, +0.400\\] |",
		"| vanilla/sft | 2.00; 25.0 % | 2.50; 40.0 % | – |",
		"| System | Against | Outcome | judge: offline-1 | second: model-b | third: model-c |",
		"| decoupled/dpo | vanilla/dpo | win | 50.0 \\[40.0, 60.0\\] | 25.0 \\[15.0, 35.0\\] | – |",
		"| decoupled/dpo | vanilla/dpo | loss | 30.0 \\[20.0, 40.0\\] | – | – |",
		"| Pairs | Criterion | judge: offline-1 | second: model-b | third: model-c |",
		"| Flu. ↑ | 3.50; 3.00 (16.7 %) | 4.00; 2.00 (100.0 %) | – |",
		"| Hel. ↑ | 2.00; 0.00 (–) | 1.00; 0.00 (–) | – |",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no line %q in\n%s", want, md)
		}
	}
	if strings.Contains(rendered(t, Markdown, example()), "under each judge") {
		t.Error("a run with one judge has tables of several")
	}
}

// The report says whether the judge of the replies has labelled the pairs that
// were trained on.
func TestCircularity(t *testing.T) {
	for _, c := range []struct{ labelled, want string }{
		{"offline-1", "is no independent one"},
		{"model-b", "were labelled by another judge than that of these replies: model-b."},
		{"", ""},
	} {
		d := example()
		for i := range d.Pairs {
			d.Pairs[i].Judge = c.labelled
		}
		md := rendered(t, Markdown, d)
		for _, sentence := range []string{"is no independent one", "were labelled by another judge"} {
			if says := strings.Contains(md, sentence); says != (c.want != "" && strings.Contains(c.want, sentence)) {
				t.Errorf("pairs labelled by %q: the report says %q: %v", c.labelled, sentence, says)
			}
		}
		if !strings.Contains(md, c.want) {
			t.Errorf("pairs labelled by %q: no %q", c.labelled, c.want)
		}
	}
}
