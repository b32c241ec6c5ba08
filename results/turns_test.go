package results

import (
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
)

func TestTurns(t *testing.T) {
	predictions := []Prediction{
		{Place: esc.Place{Dialogue: 1, Turn: 2}, GoldStrategy: "Question", Strategy: "Question"},
		{Place: esc.Place{Dialogue: 1, Turn: 4}, GoldStrategy: "Question", Strategy: ""},
	}
	scores := []metrics.Scores{{F1: 1}, {F1: 2}}
	e := Evaluation{Predictions: predictions, Scores: metrics.AutomaticReport{PerSample: scores},
		Judged: []Judged{{Place: esc.Place{Dialogue: 1, Turn: 4}, Scores: judge.Scores{Empathy: 5}}}}
	got, err := e.Turns()
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Judged || !got[1].Judged || !got[1].Clean || got[1].Scores.Empathy != 5 || got[1].Automatic.F1 != 2 || got[1].Predicted != metrics.Unparsed {
		t.Errorf("turns %+v: want the second one judged, clean, and with an unparsed strategy", got)
	}
	e.Judged[0].Problem = "declined"
	if got, err = e.Turns(); err != nil || got[1].Judged || got[1].Clean {
		t.Errorf("a reply without a verdict counts: %+v (%v)", got[1], err)
	}
	e.Scores.PerSample = scores[:1]
	if _, err := e.Turns(); err == nil {
		t.Error("a score too few: no error")
	}
}

// Every column of Table 3 has a number, from the stage of its kind.
func TestColumns(t *testing.T) {
	for kind, got := range map[experiments.Kind]map[string]float64{
		experiments.KindScore: AutomaticColumns(metrics.Scores{}),
		experiments.KindJudge: JudgedColumns(judge.Scores{}),
		experiments.KindBias:  StrategyColumns(metrics.StrategyReport{}),
	} {
		n := 0
		for _, c := range experiments.Table3() {
			if c.Kind != kind {
				continue
			}
			n++
			if _, ok := got[c.Name]; !ok {
				t.Errorf("stage %s computes no %s", kind, c.Name)
			}
		}
		if n != len(got) {
			t.Errorf("stage %s computes %d columns, Table 3 has %d of it", kind, len(got), n)
		}
	}
}

// A judge that has no verdict on any reply has given no score, not one of 0.
func TestColumnsWithoutAVerdict(t *testing.T) {
	sum, _ := SumJudged("m", []Judged{{Problem: "the model refused"}, {Problem: "the model refused"}})
	if got := (Evaluation{Verdict: &sum}).Columns(); len(got) != 0 {
		t.Errorf("columns %v of two replies without a verdict, want none", got)
	}
	sum, _ = SumJudged("m", []Judged{{Problem: "the model refused"}, {}})
	if got := (Evaluation{Verdict: &sum}).Columns(); len(got) != 4 {
		t.Errorf("columns %v of one reply with a verdict, want the judge's four", got)
	}
}

// TestIntervalsEndWithTheRange: two seeds far apart have a wide interval, but no
// percentage above 100 and no negative one.
func TestIntervalsEndWithTheRange(t *testing.T) {
	var runs [][]ScoredTurn
	for _, f1 := range []float64{10, 90} {
		var turns []ScoredTurn
		for d := range 4 {
			turns = append(turns, ScoredTurn{Place: esc.Place{Dialogue: d}, Automatic: metrics.Scores{F1: f1}})
		}
		runs = append(runs, turns)
	}
	found, err := Intervals(t.Context(), runs, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range found {
		if i.Column == "f1" && (i.Low != 0 || i.High != 100) {
			t.Errorf("F1 of 10 and 90: interval %v to %v, want 0 to 100", i.Low, i.High)
		}
	}
}
