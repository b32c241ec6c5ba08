package activities

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/esclab/esclab/results/models"
)

// A reply says whether its text reached the limit of new tokens.
func TestRepliesCut(t *testing.T) {
	engine, err := lm.EngineOptions{}.Open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	turn := esc.Turn{Context: []esc.Message{{Role: "user", Content: "I lost my job."}}, Response: "I am sorry.", Strategy: esc.Question}
	texts := func(yield func(string) bool) { yield(strings.Repeat("I lost my job. I am sorry. ", 9)) }
	tok, err := tokens.TrainBPE(t.Context(), texts, t.TempDir(), tokens.BPEOptions{VocabSize: 280})
	if err != nil {
		t.Fatal(err)
	}
	model, err := lm.NewModel(lm.Config{ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: 16, IntermediateSize: 16, NumHiddenLayers: 1,
		NumAttentionHeads: 1, NumKeyValueHeads: 1, MaxPositionEmbeddings: 512, RMSNormEps: 1e-6, RopeTheta: 1e4, HiddenAct: "silu", TieWordEmbeddings: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := &models.Backbone{Engine: engine, Model: model, Tok: tok, Params: experiments.ModelParams{Prompts: "tiny", MaxTokens: 512, Longer: experiments.LongerSkip}}
	cut := 0
	for seed := range uint64(40) {
		// A random model ends about one text in 280 at each token.
		s, err := b.Sampler(esc.VM, nil, experiments.Sampling{Temperature: 1, TopP: 1, MaxNewTokens: 200, DecodeBatch: 1}, seed)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := replies(context.Background(), s, esc.VM, []esc.Turn{turn}, nil, func(int) {})
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(predict(turn, answers[0]))
		if err != nil || strings.Contains(string(data), `"cut":true`) != answers[0].cut {
			t.Fatalf("%v: %s", err, data)
		}
		if answers[0].cut {
			cut++
		}
	}
	if cut == 0 || cut == 40 {
		t.Errorf("%d of 40 replies cut", cut)
	}
}
