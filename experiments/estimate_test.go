package experiments

import (
	"encoding/json"
	"testing"
)

func TestEstimate(t *testing.T) {
	past := func(kind Kind, params string, seconds float64) PastStage {
		return PastStage{Kind: kind, Params: json.RawMessage(params), Seconds: seconds}
	}
	e := NewEstimator([]PastStage{
		past(KindDPO, `{"role":"sp","beta":0.1,"lora":{"rank":8}}`, 10),
		past(KindDPO, `{"role":"sp","beta":0.2,"lora":{"rank":8}}`, 14),
		past(KindDPO, `{"role":"vm","beta":0.3,"lora":{"rank":16}}`, 100),
		past(KindSFT, `{"role":"sp"}`, 1000),
	})
	for _, c := range []struct {
		kind    Kind
		params  string
		seconds float64
		past    int
	}{
		{KindDPO, `{"role":"sp","beta":0.3,"lora":{"rank":8}}`, 12, 2},   // the two that differ in beta alone
		{KindDPO, `{"role":"sp","beta":0.1,"lora":{"rank":8}}`, 10, 1},   // the very same
		{KindDPO, `{"role":"vm","beta":0.9,"lora":{"rank":16}}`, 100, 1}, // another role
		{KindMine, `{}`, 0, 0},
	} {
		got := e.Estimate(Stage{Kind: c.kind, Params: json.RawMessage(c.params)})
		if got.Seconds != c.seconds || got.Past != c.past {
			t.Errorf("%s %s: %+v", c.kind, c.params, got)
		}
	}
}

func TestChain(t *testing.T) {
	stages := []Stage{
		{Name: "a"}, {Name: "b", Inputs: map[string]string{"a": "a"}}, {Name: "c", Inputs: map[string]string{"a": "a"}},
		{Name: "d", Inputs: map[string]string{"b": "b", "c": "c"}},
	}
	seconds := map[string]float64{"a": 1, "b": 5, "c": 2, "d": 1}
	if got := Chain(stages, func(s Stage) float64 { return seconds[s.Name] }); got != 7 {
		t.Errorf("%v, want a, b and d: 7", got)
	}
	if got := (SweepEstimate{Work: 12, Longest: 7}).Wall(2); got != 7 {
		t.Errorf("wall time %v", got)
	}
}
