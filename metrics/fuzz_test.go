package metrics

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzPredictions: whatever the bytes, predictions are read or refused by
// file and line, and what is read can be scored without a number that is none.
func FuzzPredictions(f *testing.F) {
	for _, s := range []string{
		`{"gold_strategy":"Question","gold_response":"Why?","strategy":"Question","response":"Why?"}`,
		"\ufeff" + `{"gold_strategy":"Others","gold_response":"","strategy":null,"response":"é 🙂","dialogue":"d","turn":3}` + "\n\n" + `{"gold_strategy":"Question","gold_response":"a","strategy":"x","response":"b","dialogue":7}`,
		`{"gold_strategy":"Question"`, `[]`, `{}`, `null`, `{"gold_strategy":1,"gold_response":2,"strategy":3,"response":4}`,
		`{"gold_strategy":"Question","gold_response":"\ud800","strategy":"Question","response":"\u0000"}`,
		`{"gold_strategy":"Question","gold_response":"a","strategy":"Question","response":"b","turn":1e999}`,
		`{"gold_strategy":"Question","gold_response":"a","strategy":"Question","response":"b","dialogue":`,
	} {
		f.Add(s)
	}
	tok, err := NewTokenizer()
	if err != nil {
		f.Fatal(err)
	}
	parse := func(s string) (int, error) {
		for i, name := range []string{"Question", "Others"} {
			if s == name {
				return i, nil
			}
		}
		return 0, errors.New("unknown")
	}
	f.Fuzz(func(t *testing.T, text string) {
		predictions, err := readPredictions(text, Parser{Strategy: parse, Answer: func(text string) (int, string) { return len(text) % 2, text }})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "p.jsonl:") {
				t.Fatalf("an error without its place: %v", err)
			}
			return
		}
		if len(predictions) == 0 || len(text) > 4<<10 {
			return
		}
		scorer, err := NewScorer(tok, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range predictions {
			if p.GoldStrategy < 0 || p.GoldStrategy > 1 || p.Strategy != Unparsed && (p.Strategy < 0 || p.Strategy > 1) {
				t.Fatalf("strategy out of range: %+v", p)
			}
			if err := scorer.Add(p); err != nil {
				t.Fatal(err)
			}
		}
		report, err := scorer.Report()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(report); err != nil { // NaN and Inf have no JSON
			t.Fatalf("%v of %q", err, text)
		}
	})
}
