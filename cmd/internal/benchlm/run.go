package benchlm

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/bench"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// benchRun is one execution of bench lm.
type benchRun struct {
	host   Host
	flags  benchFlags
	corpus esc.Corpus
	tok    *tokens.Tokenizer
	engine *lm.Engine
	model  *lm.Model
	report benchReport
	data   string // where token data is exported; "": nowhere
}

func (b *benchRun) run(ctx context.Context, packings []lm.Packing) error {
	b.data = b.flags.export
	if b.data == "" && b.flags.peer != "" {
		var err error
		if b.data, err = os.MkdirTemp("", "esclab-bench"); err != nil {
			return err
		}
		defer os.RemoveAll(b.data)
	}
	if b.data != "" {
		if err := bench.ExportConfig(b.data, b.model.Config); err != nil {
			return err
		}
	}
	if !b.flags.prepareOnly {
		size, rounds := 1024, 10
		if b.engine.Name == "xla:cuda" {
			size = 8192 // a card is not busy with less
		}
		var err error
		if b.report.PeakFLOPS, err = b.engine.PeakFLOPS(ctx, size, rounds); err != nil {
			return fmt.Errorf("peak: %w", err)
		}
	}
	for _, name := range b.flags.workloads {
		var err error
		if name == bench.Equal || slices.Contains(bench.Names(), name) {
			err = b.train(ctx, name, packings)
		} else if name == decoding && !b.flags.prepareOnly {
			for _, slots := range b.flags.slots {
				if err = b.decode(ctx, slots); err != nil {
					break
				}
			}
		} else if !b.flags.prepareOnly {
			err = b.generate(ctx, name, packings)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *benchRun) train(ctx context.Context, name string, packings []lm.Packing) error {
	w, err := b.prepare(name)
	if err != nil {
		return err
	}
	described := benchWorkload{Name: name, Examples: len(w.Examples), Skipped: w.Skipped, Sharing: lm.SharingOf(w.Examples)}
	for _, e := range w.Examples {
		for _, s := range e.Sequences {
			described.Tokens += len(s.Tokens)
		}
	}
	b.report.Workloads = append(b.report.Workloads, described)
	options := bench.TrainingOptions{Batch: b.flags.batch, Steps: b.flags.steps, Rank: b.flags.rank, Pack: b.flags.packTokens, Recompute: b.flags.recompute, Beta: 0.2, Seed: 1}
	if b.data != "" {
		order, err := bench.Order(b.engine, b.model, w, options)
		if err != nil {
			return err
		}
		if err := bench.Export(b.data, w, order); err != nil {
			return err
		}
	}
	if b.flags.prepareOnly {
		return nil
	}
	if name == bench.Equal {
		packings = []lm.Packing{lm.PackNone} // there is nothing to share
	}
	return b.measure(ctx, w, packings, options)
}

// prepare makes a workload's token data.
func (b *benchRun) prepare(name string) (bench.Workload, error) {
	options := bench.Options{Prompts: b.flags.prompts, MaxTokens: b.flags.maxTokens, Dialogues: b.flags.dialogues, Seed: 1}
	dialogues := map[string][]esc.Dialogue{"train": b.corpus.Train, "valid": b.corpus.Valid, "test": b.corpus.Test}[b.flags.split]
	if name == bench.Equal {
		return bench.PrepareEqual(b.tok, dialogues, b.flags.length, options)
	}
	return bench.Prepare(b.tok, dialogues, name, options)
}

// measure takes a workload's steps on our side and the peer's, in turns, so
// that what else the machine does weighs on both.
func (b *benchRun) measure(ctx context.Context, w bench.Workload, packings []lm.Packing, options bench.TrainingOptions) error {
	ours := map[lm.Packing][]bench.Training{}
	var theirs []bench.PeerTraining
	for round := range b.flags.rounds {
		for _, packing := range packings {
			options.Packing = packing
			r, err := bench.Train(ctx, b.engine, b.model, w, options)
			if err != nil {
				return err
			}
			r.ShareOfPeak = r.FLOPS / b.report.PeakFLOPS
			ours[packing] = append(ours[packing], r)
			b.host.Log.Info().Str("workload", w.Name).Str("packing", string(packing)).Int("round", round+1).
				Float64("samples_per_second", r.SamplesPerSecond).Msg("measured")
		}
		if b.flags.peer == "" {
			continue
		}
		r, err := b.peer().Train(ctx, filepath.Join(b.data, "config.json"), filepath.Join(b.data, w.Name+".jsonl"), w, options)
		if err != nil {
			return err
		}
		theirs = append(theirs, r)
		b.host.Log.Info().Str("workload", w.Name).Str("side", "peer").Int("round", round+1).
			Float64("samples_per_second", r.SamplesPerSecond).Msg("measured")
	}
	for _, packing := range packings {
		rounds := ours[packing]
		if theirs != nil {
			b.report.Beside = append(b.report.Beside, beside(w, packing, rounds, theirs))
		}
		slices.SortFunc(rounds, func(x, y bench.Training) int { return cmp.Compare(x.SamplesPerSecond, y.SamplesPerSecond) })
		b.report.Training = append(b.report.Training, rounds[len(rounds)/2])
	}
	return nil
}

// beside compares the rounds of the two sides.
func beside(w bench.Workload, packing lm.Packing, ours []bench.Training, theirs []bench.PeerTraining) bench.Comparison {
	x, y := make([]float64, len(ours)), make([]float64, len(ours))
	var peak, peerPeak int64
	for i := range ours {
		x[i], y[i] = ours[i].SamplesPerSecond, theirs[i].SamplesPerSecond
		peak, peerPeak = max(peak, ours[i].PeakBytes>>20), max(peerPeak, theirs[i].PeakMiB)
	}
	c := bench.Compare(w.Name, packing, "samples/s", x, y)
	c.PeakMiB, c.PeerPeakMiB = peak, peerPeak
	return c
}

func (b *benchRun) peer() bench.Peer {
	return bench.Peer{Command: strings.Fields(b.flags.peer), Threads: runtime.GOMAXPROCS(0)}
}
