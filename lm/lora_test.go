package lm

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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

// TestAdapterTargets: every subset of the seven modules is trained, saved and loaded as what it is, and each module of
// it takes part.
func TestAdapterTargets(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	data := Dataset{Examples: nestedExamples(3, 1, 2, 50, false)}
	for subset := 1; subset < 1<<len(loraTargets); subset++ {
		lora := LoRA{Rank: 2, Alpha: 3, RSLoRA: subset%2 == 0}
		for i, target := range loraTargets {
			if subset>>i&1 == 1 {
				lora.Targets = append(lora.Targets, target)
			}
		}
		a := trainedAdapter(t, model.Config, lora)
		if want := 2 * len(lora.Targets) * model.Config.NumHiddenLayers; len(a.weights) != want {
			t.Errorf("%v: %d tensors, want %d", lora.Targets, len(a.weights), want)
		}
		dir := t.TempDir()
		if err := a.Save(dir, "base"); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
		if err != nil {
			t.Fatal(err)
		}
		var saved map[string]any
		if err := json.Unmarshal(raw, &saved); err != nil {
			t.Fatal(err)
		}
		if saved["use_rslora"] != lora.RSLoRA || saved["r"] != 2.0 || saved["lora_alpha"] != 3.0 || len(saved["target_modules"].([]any)) != len(lora.Targets) {
			t.Errorf("%+v is saved as %s", lora, raw)
		}
		loaded, err := LoadAdapter(dir, model.Config)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(lora.Targets)
		if !reflect.DeepEqual(loaded.Config, lora) {
			t.Errorf("%+v is loaded as %+v", lora, loaded.Config)
		}
		if len(lora.Targets) > 1 && len(lora.Targets) < len(loraTargets) { // compiling every subset takes long
			continue
		}
		_, gradients := gradientOf(t, engine, model, loaded, data.Examples, TrainConfig{Loss: Loss{Kind: LossSFT}})
		if len(gradients) != len(a.weights) {
			t.Errorf("%v: %d gradients, want %d", lora.Targets, len(gradients), len(a.weights))
		}
		for i, g := range gradients {
			if !slices.ContainsFunc(g, func(x float32) bool { return x != 0 }) {
				t.Errorf("%v: parameter %d has no gradient", lora.Targets, i)
			}
		}
	}
	if got := (&LoRA{Rank: 4, Alpha: 6, RSLoRA: true}).Scale(); got != 3 {
		t.Errorf("rank-stabilised scale %v, want alpha / sqrt(rank) = 3", got)
	}
}
