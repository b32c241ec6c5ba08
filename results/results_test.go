package results

import (
	"bytes"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
)

// TestRows holds the bytes of rows: what is in stores has been written so.
func TestRows(t *testing.T) {
	at := esc.Place{Dialogue: 3, Turn: 5}
	scores := judge.Scores{Fluency: 1, Professionalism: 2, Empathy: 3, Helpfulness: 4.5}
	const asScores = `{"fluency":1,"professionalism":2,"empathy":3,"helpfulness":4.5}`
	for _, c := range []struct {
		write func(*bytes.Buffer) error
		want  string
	}{
		{rows(MinedSample{Place: at, Draw: 1, Text: "<b>", Strategy: esc.Question, Errors: []esc.PsyError{esc.LackOfEmpathy}}),
			`{"dialogue":3,"turn":5,"draw":1,"text":"<b>","strategy":"Question","errors":["lack_of_empathy"]}`},
		{rows(Prediction{Place: at, GoldStrategy: "Question", GoldResponse: "a", Strategy: "Others", Response: "b", Cut: true}),
			`{"dialogue":3,"turn":5,"gold_strategy":"Question","gold_response":"a","strategy":"Others","response":"b","cut":true}`},
		{rows(Judged{Place: at, Scores: scores, Problem: "declined"}),
			`{"dialogue":3,"turn":5,"findings":null,"scores":` + asScores + `,"problem":"declined"}`},
		{rows(Compared{Place: at, Preference: judge.Preference{First: 0.25, Reasons: [2]string{"x", "y"}}}),
			`{"dialogue":3,"turn":5,"first":0.25,"reasons":["x","y"]}`},
		{rows(ScoredPair{Place: at, Draw: 2, Chosen: scores, Rejected: scores}),
			`{"dialogue":3,"turn":5,"draw":2,"chosen":` + asScores + `,"rejected":` + asScores + `}`},
	} {
		var b bytes.Buffer
		if err := c.write(&b); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSuffix(b.String(), "\n"); got != c.want {
			t.Errorf("the row is\n%s\nand has always been\n%s", got, c.want)
		}
	}
}

func rows[T any](row T) func(*bytes.Buffer) error {
	return func(b *bytes.Buffer) error { return WriteRows(b, []T{row}) }
}
