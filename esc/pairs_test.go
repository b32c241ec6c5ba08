package esc

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRoute(t *testing.T) {
	all := PsyErrors()
	slices.Reverse(all)
	if got := RouteAll(append(all, all...), ToGenerator); !slices.Equal(got, []PsyError{TemplateResponse, EarlyEmotionShift, LackOfEmpathy}) {
		t.Errorf("to the generator: %v", got)
	}
	if got := RouteAll(all, ToPlanner); !slices.Equal(got, []PsyError{StrategyMismatch}) {
		t.Errorf("to the planner: %v", got)
	}
	if Route(EmotionMisread) != Nowhere {
		t.Error("emotion misread is routed")
	}
}

func TestMakePair(t *testing.T) {
	turn := Turn{Dialogue: 3, Index: 4, Strategy: Reflection, Response: "That sounds hard.", Context: []Message{{UserRole, "x"}}}
	for _, c := range []struct {
		role     Role
		strategy Strategy
		response string
		errors   []PsyError
		ok       bool
		kind     Kind
		routed   []PsyError
	}{
		{SP, Question, "", nil, true, "", []PsyError{StrategyMismatch}},
		{SP, Reflection, "", nil, false, "", nil},
		{SP, NoStrategy, "", nil, false, "", nil},
		{RG, Reflection, "Ok.", []PsyError{TemplateResponse, LackOfEmpathy}, true, "", []PsyError{TemplateResponse, LackOfEmpathy}},
		{RG, Reflection, "Ok.", []PsyError{EmotionMisread, StrategyMismatch}, false, "", nil},
		{RG, Reflection, "Ok.", nil, false, "", nil},
		{RG, Reflection, "that  sounds hard.", []PsyError{TemplateResponse}, false, "", nil},
		{RG, Reflection, "", []PsyError{LackOfEmpathy}, false, "", nil},
		{VM, Reflection, "Ok.", []PsyError{EarlyEmotionShift}, true, PsNr, []PsyError{EarlyEmotionShift}},
		{VM, Question, "How so?", nil, true, NsPr, []PsyError{StrategyMismatch}},
		{VM, Question, "How so?", []PsyError{EmotionMisread}, true, NsPr, []PsyError{StrategyMismatch}},
		{VM, Question, "Ok.", []PsyError{TemplateResponse}, true, NsNr, []PsyError{StrategyMismatch, TemplateResponse}},
		{VM, Reflection, "I see.", nil, false, "", nil},
		{VM, NoStrategy, "I see.", []PsyError{TemplateResponse}, false, "", nil},
	} {
		pair, ok := MakePair(c.role, turn, Sample{Draw: 1, Strategy: c.strategy, Response: c.response, Errors: c.errors})
		if ok != c.ok || ok && (pair.Kind != c.kind || !slices.Equal(pair.Errors, c.routed)) {
			t.Errorf("%+v: got %v, %+v", c, ok, pair)
		}
		if !ok {
			continue
		}
		prompts, err := BuiltinPrompts("tiny")
		if err != nil {
			t.Fatal(err)
		}
		chosen, rejected, err := prompts.Examples(pair, turn)
		if err != nil {
			t.Fatal(err)
		}
		if chosen.Answer == rejected.Answer || chosen.AnswerPrefix != rejected.AnswerPrefix {
			t.Errorf("%s: chosen %q, rejected %q", c.role, chosen.Answer, rejected.Answer)
		}
		if got := ParseAnswer(c.role, rejected.Answer); !got.OK || got.Response != c.response || c.role != RG && got.Strategy != c.strategy {
			t.Errorf("%s: rejected %q parses as %+v", c.role, rejected.Answer, got)
		}
		other := turn
		other.Strategy = Others
		if _, _, err := prompts.Examples(pair, other); err == nil {
			t.Error("a pair of another corpus was accepted")
		}
	}
}

func candidates() []Pair {
	var pairs []Pair
	routed := []PsyError{LackOfEmpathy, EarlyEmotionShift, TemplateResponse}
	for d := range 10 {
		for i := range 6 {
			turn := Turn{Dialogue: d, Index: i, Strategy: Reflection, Response: "gold", Context: []Message{{UserRole, "x"}}}
			for draw := range 4 {
				pair, _ := MakePair(RG, turn, Sample{Draw: draw, Strategy: Reflection,
					Response: fmt.Sprintf("response %d", draw/2), Errors: routed[(d+i)%3 : (d+i)%3+1]})
				pairs = append(pairs, pair)
			}
		}
	}
	return pairs
}

func TestSelect(t *testing.T) {
	pairs := candidates()
	all, counts := Select(pairs, Selection{})
	if len(all) != 120 || counts.Duplicates != 120 || counts.Capped != 0 || counts.PerError[TemplateResponse] != 40 {
		t.Errorf("%d pairs, %+v", len(all), counts)
	}
	for _, p := range all {
		if p.Draw%2 != 0 {
			t.Fatal("the higher draw of two equal ones stayed")
		}
	}
	bounds := Selection{PerError: map[PsyError]int{TemplateResponse: 7}, PerTurn: 1, Seed: 5}
	kept, counts := Select(pairs, bounds)
	if counts.PerError[TemplateResponse] != 7 || counts.PerError[LackOfEmpathy] != 20 || counts.Pairs != len(kept) || counts.Capped != 120-len(kept) {
		t.Errorf("%d pairs, %+v", len(kept), counts)
	}
	slices.Reverse(pairs)
	again, _ := Select(pairs, bounds)
	if !slices.EqualFunc(kept, again, func(a, b Pair) bool { return comparePairs(a, b) == 0 }) {
		t.Error("the choice depends on the candidates' order")
	}
	bounds.Seed = 6
	if other, _ := Select(pairs, bounds); slices.EqualFunc(kept, other, func(a, b Pair) bool { return comparePairs(a, b) == 0 }) {
		t.Error("the choice does not depend on the seed")
	}
	if kept, _ := Select(nil, Selection{PerTurn: 1}); len(kept) != 0 {
		t.Error("pairs from nothing")
	}
}

// Every pair says in one line why its rejected side is rejected.
func TestPairsSayWhy(t *testing.T) {
	turn := Turn{Strategy: Reflection, Response: "That sounds hard.", Context: []Message{{UserRole, "x"}}}
	const mismatch = "Question where the gold strategy is Reflection of feelings"
	for _, c := range []struct {
		role   Role
		sample Sample
		want   string
	}{
		{SP, Sample{Strategy: Question}, mismatch},
		{RG, Sample{Strategy: Reflection, Response: "Ok.", Errors: []PsyError{TemplateResponse}, Reason: "stock phrase"}, "stock phrase"},
		{VM, Sample{Strategy: Reflection, Response: "Ok.", Errors: []PsyError{TemplateResponse}, Reason: "stock phrase"}, "stock phrase"},
		{VM, Sample{Strategy: Question, Response: "How so?"}, mismatch},
		{VM, Sample{Strategy: Question, Response: "How so?", Errors: []PsyError{EmotionMisread}, Reason: "not routed"}, mismatch},
		{VM, Sample{Strategy: Question, Response: "Ok.", Errors: []PsyError{TemplateResponse}, Reason: "stock phrase"}, mismatch + "; stock phrase"},
	} {
		if pair, ok := MakePair(c.role, turn, c.sample); !ok || pair.Reason != c.want {
			t.Errorf("%s %+v: %v, reason %q, want %q", c.role, c.sample, ok, pair.Reason, c.want)
		}
	}
}

func TestPairsRoundTrip(t *testing.T) {
	want := candidates()[:5]
	sp, _ := MakePair(SP, Turn{Strategy: Others}, Sample{Strategy: Question})
	want = append(want, sp)
	var first, second bytes.Buffer
	if err := WritePairs(&first, want); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(first.String(), "\n"); got != len(want) {
		t.Errorf("%d lines for %d pairs", got, len(want))
	}
	got, err := ReadPairs("pairs.jsonl", bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePairs(&second, got); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("written, read and written again: %v\n%s\n%s", err, &first, &second)
	}
	for _, bad := range []string{first.String()[:first.Len()-9], `{"role":"sp"}`, `{"role":"sp","gold_strategy":"Questions"}`, `{"rolle":"sp"}`, `[]`} {
		if _, err := ReadPairs("pairs.jsonl", strings.NewReader(bad)); err == nil || !strings.HasPrefix(err.Error(), "pairs.jsonl: pair ") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
