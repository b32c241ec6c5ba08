package report

import (
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
)

// headlineOf are the three effects with differences that are shown (better 1, worse
// -1) or not (0).
func headlineOf(bias, strategy, quality int) []Effect {
	var effects []Effect
	for _, c := range Headline([]string{"vanilla/base", "vanilla/dpo", "decoupled/base", "decoupled/dpo"}) {
		effects = append(effects, Effect{Contrast: c})
	}
	for i, direction := range []int{bias, strategy, quality} {
		e := &effects[i]
		at, p := 0.5*float64(direction), 0.01
		if direction == 0 {
			p = 0.5
		}
		if e.Measure.smaller() {
			at = -at
		}
		e.Difference, e.Low, e.High, e.P, e.Dialogues = Value(at), Value(at-0.25), Value(at+0.25), &p, 8
	}
	return effects
}

// TestCard: the first thing in a report is the answer, in words that follow from the
// effects by the rule of all verdicts.
func TestCard(t *testing.T) {
	for _, c := range []struct {
		effects  []Effect
		verdict  string
		sentence string
	}{
		{headlineOf(1, 1, 1), "Yes, by every measure", "The model that plans first does better: it leans less on a few favourite strategies, it more often picks the strategy that the human supporter picked and its replies are rated higher."},
		{headlineOf(0, 1, 0), "In part", "The model that plans first does better: it more often picks the strategy that the human supporter picked; whether it leans less on favourite strategies and whether its replies are rated higher, 8 conversations cannot tell."},
		{headlineOf(0, 0, 0), "This run cannot tell", "Whether it leans less on favourite strategies, whether it picks strategies more like the human supporter and whether its replies are rated higher, 8 conversations cannot tell."},
		{headlineOf(1, -1, 0), "Better by one measure, worse by another", "The model that plans first does better: it leans less on a few favourite strategies; the model that plans first does worse: it less often picks the strategy that the human supporter picked; whether its replies are rated higher, 8 conversations cannot tell."},
		{headlineOf(0, 0, -1), "No", "The model that plans first does worse: its replies are rated lower; whether it leans less on favourite strategies and whether it picks strategies more like the human supporter, 8 conversations cannot tell."},
	} {
		got := newCard(Data{Headline: c.effects})
		if got == nil || got.Verdict != c.verdict || got.Sentence != c.sentence {
			t.Errorf("got %+v, want %s: %s", got, c.verdict, c.sentence)
		}
	}
	if got := newCard(Data{Headline: []Effect{{Contrast: Headline([]string{"vanilla/sft", "decoupled/sft"})[0]}}}); got != nil {
		t.Errorf("nothing was measured: %+v, want no card", got)
	}
	// The bar's right side is the better one, also of the bias, which is better when smaller.
	if got := string(headlineOf(1, 1, 1)[0].bar()); !strings.Contains(got, `cx="237.9"`) {
		t.Errorf("the bias is better and its dot is not right of the line at 150: %s", got)
	}
	// A judge that cannot tell gold replies from canned ones has no say.
	blind := headlineOf(1, 1, 1)
	blind[2].Untrusted = "it is blind"
	if got := newCard(Data{Headline: blind}); got.Verdict != "In part" || !strings.HasSuffix(got.Sentence, "; whether its replies are rated higher, this judge cannot tell.") || !strings.Contains(got.Judge, "it is blind") {
		t.Errorf("with an untrusted judge: %+v", got)
	}
	d := example()
	d.Headline = headlineOf(1, 0, 0)
	page := rendered(t, HTML, d)
	if answer, table := strings.Index(page, "class=\"answer\""), strings.Index(page, "id=\"results\""); answer < 0 || answer > table {
		t.Errorf("the answer stands at %d, Table 3 at %d: want it before", answer, table)
	}
	if !strings.Contains(page, `id="show-paper"><label`) || strings.Contains(page, `id="show-paper" checked`) {
		t.Error("the paper's figures are shown beside a backbone that the paper has not")
	}
	d.Run.Backbone = "Qwen2.5-7B-Instruct"
	for i := range d.Systems {
		d.Systems[i].Backbone = d.Run.Backbone
	}
	if !strings.Contains(rendered(t, HTML, d), `id="show-paper" checked`) {
		t.Error("the paper's figures are not shown beside its own backbone")
	}
}

// TestSystemsColours: two families, from light to dark as training goes on.
func TestSystemsColours(t *testing.T) {
	for _, p := range []experiments.Paradigm{experiments.Vanilla, experiments.Decoupled} {
		last := 3 * 255
		for _, m := range []experiments.Method{experiments.MethodBase, experiments.MethodSFT, experiments.MethodDPO} {
			c := Row{Paradigm: p, Method: m}.color()
			if sum := int(c.R) + int(c.G) + int(c.B); sum >= last {
				t.Errorf("%s/%s is as light as the one before", p, m)
			} else {
				last = sum
			}
			if blue := c.B > c.R; blue != (p == experiments.Vanilla) {
				t.Errorf("%s/%s is of the other family: %v", p, m, c)
			}
		}
	}
}

// TestFiguresOfTheRunAlone: the paper's bars stand in a figure only where the backbone
// is the paper's, and a table that a figure shows is folded.
func TestFiguresOfTheRunAlone(t *testing.T) {
	p, err := loadPaper()
	if err != nil {
		t.Fatal(err)
	}
	d := example()
	for backbone, want := range map[string]bool{p.Backbones[0].Name: true, "tiny-llama": false} {
		d.Run.Backbone = backbone
		s, err := pairsSection(d, p)
		if err != nil {
			t.Fatal(err)
		}
		drawn, folded := false, false
		for _, f := range s.Figures {
			for _, k := range f.Legend {
				drawn = drawn || strings.Contains(k.Name, "the paper's")
			}
		}
		for _, table := range s.Tables {
			folded = folded || table.Folded && strings.Contains(table.Caption, "Figure 10")
		}
		if drawn != want || !folded {
			t.Errorf("%s: the paper's bars are drawn: %v, want %v; the table of Figure 10 is folded: %v, want true", backbone, drawn, want, folded)
		}
	}
}

// TestCurvesOfDPO: margin and accuracy are drawn beside the loss, under one legend.
func TestCurvesOfDPO(t *testing.T) {
	d := example()
	d.Training = []Training{{Stage: "dpo/sp", Kind: "dpo", Curve: []Point{
		{Step: 1, Loss: Value(0.7), Margin: Value(0), Accuracy: Value(0.5)}, {Step: 2, Loss: Value(0.5), Margin: Value(0.3), Accuracy: Value(1)}}}}
	s, err := trainingSection(d, paper{Backbones: []paperBackbone{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for i, f := range s.Figures {
		titles = append(titles, f.Title)
		if (i > 0) != (f.Legend == nil) {
			t.Errorf("%s: legend %v; want one, before all", f.Title, f.Legend)
		}
	}
	if got := strings.Join(titles, ", "); got != "Curves by step, dpo/sp: loss, dpo/sp: margin, dpo/sp: accuracy" {
		t.Errorf("figures %s", got)
	}
}
