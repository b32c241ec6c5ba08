package openai

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
)

// The key of a reply follows what was asked.
func TestCacheKey(t *testing.T) {
	base := question{Protocol: protocol, BaseURL: "u", Model: "m", MaxTokens: 1, Task: "t", Schema: map[string]any{"a": 1, "b": 2}, Messages: []message{{"user", "x"}}}
	keys := map[string]string{}
	for name, change := range map[string]func(*question){
		"same":        func(q *question) { q.Schema = maps.Clone(q.Schema) },
		"model":       func(q *question) { q.Model = "n" },
		"url":         func(q *question) { q.BaseURL = "v" },
		"temperature": func(q *question) { q.Temperature = 1 },
		"schema":      func(q *question) { q.Schema = map[string]any{"a": 1} },
		"messages":    func(q *question) { q.Messages = []message{{"user", "y"}} },
	} {
		q := base
		change(&q)
		key, err := q.key()
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	distinct := map[string]bool{}
	for _, k := range keys {
		distinct[k] = true
	}
	first, _ := base.key()
	if keys["same"] != first || len(distinct) != len(keys) {
		t.Errorf("%v", keys)
	}
}

// With a gold strategy the strategies are compared; graver errors come first.
func TestVerdict(t *testing.T) {
	found := []finding{{esc.StrategyMismatch, "m", 1}, {esc.LackOfEmpathy, "l", 1}, {esc.TemplateResponse, "t", 2}}
	for _, c := range []struct {
		gold, strategy esc.Strategy
		want           []esc.PsyError
	}{
		{esc.NoStrategy, esc.Question, []esc.PsyError{esc.TemplateResponse, esc.StrategyMismatch, esc.LackOfEmpathy}},
		{esc.Question, esc.Question, []esc.PsyError{esc.TemplateResponse, esc.LackOfEmpathy}},
		{esc.Reflection, esc.Question, []esc.PsyError{esc.StrategyMismatch, esc.TemplateResponse, esc.LackOfEmpathy}},
	} {
		if got := verdict(found, judge.Request{Gold: c.gold, Strategy: c.strategy}).Errors(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("gold %v, %v: %v", c.gold, c.strategy, got)
		}
	}
}

// The two orders are averaged: a model that always prefers the first place has
// no preference.
func TestPreferAveragesOrders(t *testing.T) {
	s := chattest.New(t)
	c, _ := newClient(t, s, nil)
	r := requestOf(5)
	pair := judge.Comparison{Context: r.Context, First: r.Response, Second: "ok"}
	forth, err := c.Prefer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	pair.First, pair.Second = pair.Second, pair.First
	back, err := c.Prefer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	if forth.First+back.First != 1 || len(s.Requests()) != 2 {
		t.Errorf("%+v and %+v with %d requests", forth, back, len(s.Requests()))
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add(`{"fluency":{"reason":"x","score":3},"professionalism":{"reason":"x","score":3},"empathy":{"reason":"x","score":3},"helpfulness":{"reason":"x","score":5.0}}`)
	f.Add("```json\n{\"reason\":\"\",\"preferred\":\"tie\"}\n```")
	f.Add(`{"fluency":null}`)
	f.Add("<think>{\"a\":{}}</think> It is: {\"reason\":\"\",\"preferred\":\"tie\"} {x}")
	f.Add("{\"a\": {\"a\": {\"a\"")
	f.Fuzz(func(t *testing.T, reply string) {
		if said, err := jsonObject(reply); err == nil {
			if again, err := jsonObject(string(said)); err != nil || !sameJSON(said, again) {
				t.Errorf("%s is read as %s, and that as %s (%v)", reply, said, again, err)
			}
		}
		explain([]byte(reply))
		scores, err := scoresTask.read([]byte(reply))
		for _, s := range []float64{scores.Fluency, scores.Professionalism, scores.Empathy, scores.Helpfulness} {
			if err == nil && (s != float64(int(s)) || s < 0 || s > 5) {
				t.Errorf("%+v from %s", scores, reply)
			}
		}
		found, err := errorsTask.read([]byte(reply))
		for _, one := range found {
			if err == nil && (!one.class.Valid() || one.degree < 1 || one.degree > 2 || strings.Contains(one.reason, "\n")) {
				t.Errorf("%+v from %s", one, reply)
			}
		}
		if c, err := preferenceTask.read([]byte(reply)); err == nil && (c.share < 0 || c.share > 1) {
			t.Errorf("%+v from %s", c, reply)
		}
	})
}
