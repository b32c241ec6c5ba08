package benchlm

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/bench"
	"github.com/esclab/esclab/lm"
)

// generate measures answering test turns, or scoring their strategies, with
// each packing in turns.
func (b *benchRun) generate(ctx context.Context, name string, packings []lm.Packing) error {
	measure, err := b.generation(name)
	if err != nil {
		return err
	}
	rounds := map[lm.Packing][]bench.Generation{}
	for round := range b.flags.rounds {
		for _, packing := range packings {
			r, err := measure(ctx, packing)
			if err != nil {
				return err
			}
			rounds[packing] = append(rounds[packing], r)
			b.host.Log.Info().Str("workload", name).Str("packing", string(packing)).Int("round", round+1).
				Float64("samples_per_second", r.SamplesPerSecond).Msg("measured")
		}
	}
	speedUp := 0.0
	if len(packings) == 2 {
		speedUp = bench.Compare(name, lm.PackTree, "samples/s", speeds(rounds[lm.PackTree]), speeds(rounds[lm.PackNone])).Ratio.Median
	}
	for _, packing := range packings {
		list := rounds[packing]
		slices.SortFunc(list, func(x, y bench.Generation) int { return cmp.Compare(x.SamplesPerSecond, y.SamplesPerSecond) })
		r := list[len(list)/2]
		if packing == lm.PackTree {
			r.SpeedUp = speedUp
		}
		b.report.Generation = append(b.report.Generation, r)
	}
	return nil
}

func speeds(rounds []bench.Generation) []float64 {
	list := make([]float64, len(rounds))
	for i, r := range rounds {
		list[i] = r.SamplesPerSecond
	}
	return list
}

// generation prepares a workload of generation or scoring and returns what
// measures it.
func (b *benchRun) generation(name string) (func(context.Context, lm.Packing) (bench.Generation, error), error) {
	prepared := bench.Options{Prompts: b.flags.prompts, MaxTokens: b.flags.maxTokens, Dialogues: b.flags.dialogues, Seed: 1}
	if prepared.Dialogues > 0 {
		prepared.Dialogues = max(1, prepared.Dialogues/10)
	}
	if name == scoreSP {
		examples, err := bench.Choices(b.tok, b.corpus.Test, prepared)
		return func(ctx context.Context, packing lm.Packing) (bench.Generation, error) {
			return bench.Score(ctx, b.engine, b.model, examples, packing)
		}, err
	}
	options := bench.GenerationOptions{Role: esc.VM, New: b.flags.new, Slots: b.flags.slots[0], Seed: 1}
	if name == generateSP {
		longest, err := bench.PlanTokens(b.tok, b.corpus.Test, prepared)
		if err != nil {
			return nil, err
		}
		options.Role, options.New = esc.SP, min(longest, b.flags.new)
	}
	requests, err := bench.Requests(b.tok, b.corpus.Test, options.Role, options.New, prepared)
	return func(ctx context.Context, packing lm.Packing) (bench.Generation, error) {
		options := options
		options.Packing = packing
		return bench.Generate(ctx, b.engine, b.model, requests, options)
	}, err
}

// decode measures plain decoding, beside the peer where there is one.
func (b *benchRun) decode(ctx context.Context, slots int) error {
	options := bench.DecodingOptions{Slots: slots, Prompt: b.flags.promptTokens, New: b.flags.new, TopP: b.flags.topP, Seed: 1}
	var ours []bench.Decoding
	var prefill, decode, peerPrefill, peerDecode []float64
	for round := range b.flags.rounds {
		r, err := bench.Decode(ctx, b.engine, b.model, options)
		if err != nil {
			return err
		}
		ours = append(ours, r)
		prefill, decode = append(prefill, r.PrefillTokensPerSecond), append(decode, r.DecodeTokensPerSecond)
		b.host.Log.Info().Str("workload", decoding).Int("round", round+1).Float64("decode_tokens_per_second", r.DecodeTokensPerSecond).Msg("measured")
		if b.flags.peer == "" {
			continue
		}
		p, err := b.peer().Generate(ctx, filepath.Join(b.data, "config.json"), options.Prompt, options.New, options.Slots)
		if err != nil {
			return err
		}
		peerPrefill, peerDecode = append(peerPrefill, p.PrefillTokensPerSecond), append(peerDecode, p.DecodeTokensPerSecond)
		b.host.Log.Info().Str("workload", decoding).Str("side", "peer").Int("round", round+1).Float64("decode_tokens_per_second", p.DecodeTokensPerSecond).Msg("measured")
	}
	if peerDecode != nil {
		b.report.Beside = append(b.report.Beside, bench.Compare("prefill", lm.PackNone, "tokens/s", prefill, peerPrefill),
			bench.Compare("decode", lm.PackNone, "tokens/s", decode, peerDecode))
	}
	slices.SortFunc(ours, func(x, y bench.Decoding) int { return cmp.Compare(x.DecodeTokensPerSecond, y.DecodeTokensPerSecond) })
	b.report.Decoding = append(b.report.Decoding, ours[len(ours)/2])
	return nil
}
