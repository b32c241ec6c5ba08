package bench

import (
	"context"
	"fmt"
	"strconv"

	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
)

// DecodingOptions are the sizes of plain decoding.
type DecodingOptions struct {
	Slots  int     // prompts, decoded together
	Prompt int     // tokens of a prompt
	New    int     // tokens of an answer, at least 2
	TopP   float64 // 0: greedily; else sampled at temperature 1
	Seed   uint64
}

// Decoding is what was measured of plain decoding: prompts that share nothing
// continued, all to the same length.
type Decoding struct {
	Slots  int `json:"slots"`
	Prompt int `json:"prompt_tokens"`
	New    int `json:"new_tokens"`

	// Up to the first new token of each prompt, and from there on.
	PrefillTokensPerSecond float64 `json:"prefill_tokens_per_second"`
	DecodeTokensPerSecond  float64 `json:"decode_tokens_per_second"`

	CompileSeconds float64 `json:"compile_seconds"` // what the first time took longer than the second
	Compiled       int     `json:"compiled_shapes"`
	PeakBytes      int64   `json:"peak_bytes"`
}

// Decode continues random prompts, as the usual loop over a key-value
// cache does, twice, and measures the second time. A prompt's last token is
// computed by a step like the others, which counts as prefill.
func Decode(ctx context.Context, engine *lm.Engine, model *lm.Model, options DecodingOptions) (Decoding, error) {
	r := Decoding{Slots: options.Slots, Prompt: options.Prompt, New: options.New}
	if options.Prompt < 1 || options.New < 2 || options.Prompt+options.New > model.Config.MaxPositionEmbeddings {
		return r, fmt.Errorf("decoding: prompts of %d tokens and %d new ones: give at least 1 and 2, and no more than the model's %d positions together",
			options.Prompt, options.New, model.Config.MaxPositionEmbeddings)
	}
	requests := make([]lm.Request, options.Slots)
	for i := range requests {
		prompt := make([]int32, options.Prompt)
		for j := range prompt {
			prompt[j] = int32(draw(options.Seed, "prompt", uint64(i), uint64(j))[0] % uint64(model.Config.VocabSize))
		}
		requests[i] = lm.Request{Prompt: prompt, Group: strconv.Itoa(i)}
	}
	memory.ResetPeak()
	config := lm.GenerateConfig{MaxNewTokens: options.New, Slots: options.Slots, MaxTokens: options.Prompt + options.New, Seed: options.Seed}
	if options.TopP > 0 {
		config.Temperature, config.TopP = 1, options.TopP
	}
	generator, err := lm.NewGenerator(engine, model, nil, config)
	if err != nil {
		return r, fmt.Errorf("decoding: %w", err)
	}
	defer generator.Close()
	var before lm.GenerateStats
	var first float64
	for i := range 2 {
		before = generator.Stats()
		if _, err := generator.Generate(ctx, requests, nil); err != nil {
			return r, fmt.Errorf("decoding: %w", err)
		}
		if i == 0 {
			first = generator.Stats().PrefillSeconds + generator.Stats().DecodeSeconds
		}
	}
	after := generator.Stats()
	prefill, decode := after.PrefillSeconds-before.PrefillSeconds, after.DecodeSeconds-before.DecodeSeconds
	step := decode / float64(after.Steps-before.Steps)
	r.PrefillTokensPerSecond = float64(options.Slots*options.Prompt) / (prefill + step)
	r.DecodeTokensPerSecond = float64(options.Slots*(options.New-1)) / (decode - step)
	r.CompileSeconds = max(0, first-prefill-decode)
	r.Compiled = after.Shapes
	r.PeakBytes = memory.PeakBytes()
	return r, nil
}
