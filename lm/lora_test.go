package lm

import (
	"fmt"
	"math"
	"testing"
)

func TestAdapterRoundTrip(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	for _, lora := range []LoRA{{Rank: 3, Alpha: 6}, {Rank: 4, Alpha: 6, RSLoRA: true, Targets: []string{"q_proj", "down_proj"}}} {
		a := trainedAdapter(t, model.Config, lora)
		dir := t.TempDir()
		if err := a.Save(dir, "base"); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadAdapter(dir, model.Config)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.Config.Scale() != lora.Scale() || len(loaded.weights) != len(a.weights) {
			t.Errorf("loaded %+v with %d tensors, want %+v with %d", loaded.Config, len(loaded.weights), lora, len(a.weights))
		}
		merged, err := a.Merge(model)
		if err != nil {
			t.Fatal(err)
		}
		data := nestedExamples(3, 2, 3, 50, true)
		score := func(m *Model, a *Adapter) [][]SequenceLogProbs {
			s, err := LogProbs(t.Context(), engine, m, a, data, LogProbsOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		base, with, again, folded := score(model, nil), score(model, a), score(model, loaded), score(merged, nil)
		if fmt.Sprint(with) != fmt.Sprint(again) || fmt.Sprint(with) == fmt.Sprint(base) {
			t.Error("the loaded adapter computes something else, or nothing")
		}
		for i := range with {
			if math.Abs(with[i][0].Sum()-folded[i][0].Sum()) > 1e-4 {
				t.Errorf("merged: %v, want %v", folded[i][0].Sum(), with[i][0].Sum())
			}
		}
	}
	if _, err := NewAdapter(model.Config, LoRA{Rank: 2, Alpha: 1, Targets: []string{"wq"}}, 1); err == nil {
		t.Error("an unknown target was accepted")
	}
}
