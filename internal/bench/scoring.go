package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// Choices encodes the dialogues' supporter turns with every strategy that the
// planner could answer, to be scored: one example a turn, one sequence a
// strategy. What is longer than MaxTokens is left out.
func Choices(tok *tokens.Tokenizer, dialogues []esc.Dialogue, options Options) ([]lm.Example, error) {
	p, err := newPreparer(tok, options)
	if err != nil {
		return nil, err
	}
	var examples []lm.Example
	for _, turn := range esc.AllTurns(drawDialogues(dialogues, options.Dialogues, options.Seed)) {
		var answers []string
		for strategy := range esc.Strategy(esc.NumStrategies) {
			answers = append(answers, p.prompts.Answer(esc.SP, strategy, ""))
		}
		example, ok, err := p.example(esc.SP, turn, answers)
		if err != nil {
			return nil, fmt.Errorf("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
		if ok {
			examples = append(examples, example)
		}
	}
	if len(examples) == 0 {
		return nil, fmt.Errorf("no turn has at most %d tokens with a strategy: allow longer ones", options.MaxTokens)
	}
	return examples, nil
}

// PlanTokens is the number of tokens of the planner's longest answer, with the
// one that ends it.
func PlanTokens(tok *tokens.Tokenizer, dialogues []esc.Dialogue, options Options) (int, error) {
	options.Dialogues = 1 // the answers are the same after every context
	choices, err := Choices(tok, dialogues, options)
	if err != nil {
		return 0, err
	}
	longest := 0
	for _, s := range choices[0].Sequences {
		longest = max(longest, len(s.Tokens)-s.LossFrom)
	}
	return longest, nil
}

// Score scores the examples twice with a model of random weights, on the native
// decoder where there is one, and measures the second time. Samples are the
// examples.
func Score(ctx context.Context, engine *lm.Engine, model *lm.Model, examples []lm.Example, packing lm.Packing) (Generation, error) {
	r := Generation{Workload: "sp-score", Packing: packing, Samples: len(examples)}
	memory.ResetPeak()
	scorer, err := lm.NewScorer(engine, model, nil, lm.LogProbsOptions{Packing: packing, Native: true})
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.Workload, err)
	}
	defer scorer.Close()
	var seconds [2]float64
	for i := range seconds {
		start := time.Now()
		if _, err := scorer.LogProbs(ctx, examples); err != nil {
			return r, fmt.Errorf("%s: %w", r.Workload, err)
		}
		seconds[i] = time.Since(start).Seconds()
	}
	sharing := lm.SharingOf(examples)
	r.PromptTokens, r.PrefillTokens = sharing.Unpacked, sharing.Tokens
	if packing == lm.PackNone {
		r.PrefillTokens = sharing.Unpacked
	}
	r.Seconds, r.CompileSeconds = seconds[1], max(0, seconds[0]-seconds[1])
	r.SamplesPerSecond = float64(r.Samples) / r.Seconds
	r.TokensPerSecond = float64(r.PrefillTokens) / r.Seconds
	r.PlainTokensPerSecond = float64(r.PromptTokens) / r.Seconds
	r.Compiled = scorer.CompiledShapes()
	r.PeakBytes = memory.PeakBytes()
	return r, nil
}
