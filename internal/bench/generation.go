package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
)

// GenerationOptions say how answers are generated.
type GenerationOptions struct {
	Role    esc.Role
	Packing lm.Packing // tree: prefixes computed once; none: every prompt on its own
	New     int        // tokens of an answer, at most
	Slots   int        // answers decoded together
	Seed    uint64
}

// Generation is what was measured of answering prompts.
type Generation struct {
	Workload string     `json:"workload"` // sp-generate, rg-generate, vm-generate or sp-score
	Packing  lm.Packing `json:"packing"`
	Slots    int        `json:"slots"` // none in sp-score

	Samples              int     `json:"samples"`
	Seconds              float64 `json:"seconds"`
	SamplesPerSecond     float64 `json:"samples_per_second"`
	NewTokensPerSecond   float64 `json:"new_tokens_per_second"`
	TokensPerSecond      float64 `json:"tokens_per_second"`          // prompts and answers, computed
	PlainTokensPerSecond float64 `json:"tokens_unpacked_per_second"` // as if nothing were shared

	PromptTokens  int `json:"prompt_tokens"`  // as if nothing were shared
	PrefillTokens int `json:"prefill_tokens"` // of them computed
	NewTokens     int `json:"new_tokens"`

	SpeedUp float64 `json:"speed_up,omitempty"` // samples/s over those of packing none in the same rounds, median

	CompileSeconds float64 `json:"compile_seconds"` // what the first time took longer than the second
	Compiled       int     `json:"compiled_shapes"`
	PeakBytes      int64   `json:"peak_bytes"`
}

// Generate answers the requests twice with a model of random weights, each
// answer sampled to its limit, and measures the second time. The limit is
// reached always: nothing stops a sample, so that machines and engines do the
// same work.
func Generate(ctx context.Context, engine *lm.Engine, model *lm.Model, requests []lm.Request, options GenerationOptions) (Generation, error) {
	r := Generation{Workload: string(options.Role) + "-generate", Packing: options.Packing, Slots: options.Slots, Samples: len(requests)}
	memory.ResetPeak()
	generator, err := lm.NewGenerator(engine, model, nil, lm.GenerateConfig{
		MaxNewTokens: options.New, Temperature: 1, Slots: options.Slots, Seed: options.Seed, NoReuse: options.Packing == lm.PackNone,
	})
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.Workload, err)
	}
	defer generator.Close()
	var first float64
	var before lm.GenerateStats
	for _, measured := range []bool{false, true} {
		start := time.Now()
		if _, err := generator.Generate(ctx, requests, nil); err != nil {
			return r, fmt.Errorf("%s: %w", r.Workload, err)
		}
		if seconds := time.Since(start).Seconds(); measured {
			r.Seconds = seconds
		} else {
			first, before = seconds, generator.Stats()
		}
	}
	after := generator.Stats()
	r.CompileSeconds = max(0, first-r.Seconds)
	r.PromptTokens = after.PromptTokens - before.PromptTokens
	r.PrefillTokens = after.PrefillTokens - before.PrefillTokens
	r.NewTokens = after.NewTokens - before.NewTokens
	r.SamplesPerSecond = float64(r.Samples) / r.Seconds
	r.NewTokensPerSecond = float64(r.NewTokens) / r.Seconds
	r.TokensPerSecond = float64(r.PrefillTokens+r.NewTokens) / r.Seconds
	r.PlainTokensPerSecond = float64(r.PromptTokens+r.NewTokens) / r.Seconds
	r.Compiled = after.Shapes
	r.PeakBytes = memory.PeakBytes()
	return r, nil
}
