package activities

import (
	"math"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/results/models/modelstest"
)

// Strategies that are drawn come as often as the model finds them likely at the
// temperature, and every reply has one, though a random model names none itself.
func TestDrawnStrategies(t *testing.T) {
	engine, err := lm.EngineOptions{}.Open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	b := &models.Backbone{Engine: engine, Params: experiments.ModelParams{Prompts: experiments.PromptsTiny, Packing: experiments.PackTree, MaxTokens: 160, PackTokens: 512}}
	b.Model, b.Tok = modelstest.Random(t, t.TempDir(), 256)
	said := []esc.Message{{Role: esc.UserRole, Content: "I lost my job."}}
	turns := make([]esc.Turn, 1000)
	for i := range turns {
		turns[i] = esc.Turn{Dialogue: i / 4, Index: i % 4, Context: said, Strategy: esc.Question}
	}
	planner, err := b.Planner(esc.SP, nil, lm.LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(planner.Close)
	scores, err := planner.Score(t.Context(), turns[:1])
	if err != nil {
		t.Fatal(err)
	}
	for _, temperature := range []float64{0, 0.7} {
		params := experiments.GenerateParams{Sampling: experiments.Sampling{Temperature: temperature}, Seed: 3}
		drawn, err := drawStrategies(b, esc.SP, nil, params)
		if err != nil {
			t.Fatal(err)
		}
		strategies, err := drawn.draw(t.Context(), turns)
		if err != nil {
			t.Fatal(err)
		}
		again, err := drawn.draw(t.Context(), turns[500:501])
		if err != nil || again[0] != strategies[500] {
			t.Errorf("at %v: a turn by itself draws %v (%v), among others %v", temperature, again, err, strategies[500])
		}
		drawn.close()
		counts := map[esc.Strategy]float64{}
		for _, s := range strategies {
			counts[s]++
		}
		n := float64(len(turns))
		for s, p := range (results.StrategyNames{Tokens: planner.Names}).Probabilities(results.StrategyScores{LogProbabilities: scores[0]}, temperature) {
			if off := math.Abs(counts[esc.Strategy(s)] - n*p); off > 4*math.Sqrt(n*p*(1-p)) {
				t.Errorf("at %v: %s is drawn %v times of %v, its probability is %v", temperature, esc.Strategy(s), counts[esc.Strategy(s)], n, p)
			}
		}
	}

	sampling := experiments.Sampling{Temperature: 1, TopP: 1, MaxNewTokens: 12, DecodeBatch: 8}
	for _, role := range []esc.Role{esc.VM, esc.SP} {
		drawn, err := drawStrategies(b, role, nil, experiments.GenerateParams{Sampling: sampling})
		if err != nil {
			t.Fatal(err)
		}
		writes := esc.VM
		if role == esc.SP {
			writes = esc.RG
		}
		writer, err := b.Sampler(writes, nil, sampling, 1)
		if err != nil {
			t.Fatal(err)
		}
		var s system = &vanillaSystem{writer, drawn}
		if role == esc.SP {
			s = &decoupledSystem{drawn: drawn, rg: writer}
		}
		answers, err := s.reply(t.Context(), turns[:40], func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		want, err := drawn.draw(t.Context(), turns[:40])
		if err != nil {
			t.Fatal(err)
		}
		texts := map[string]bool{}
		for i, a := range answers {
			if p := predict(turns[i], a); a.Strategy != want[i] || p.Strategy != want[i].String() || p.Response == "" {
				t.Errorf("%s: reply %d is %+v, want one under %s", role, i, p, want[i])
			}
			texts[a.Response] = true
		}
		if len(texts) < 2 {
			t.Errorf("%s: replies under different strategies are all %q", role, answers[0].Response)
		}
		s.close()
	}
}
