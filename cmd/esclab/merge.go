package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/lm"
)

type mergeOptions struct {
	model, adapter, out string
	compare, dtype      string
	engine              string
	asJSON              bool
}

func (a *app) mergeCommand() *cobra.Command {
	var f mergeOptions
	c := &cobra.Command{
		Use:   "merge --model DIR --adapter DIR --out DIR",
		Short: "Add a LoRA adapter into its model's weights, and say what that changes",
		Long: `Add a LoRA adapter into the weights of the model that it was trained on, for
servers and converters that load no adapters: W + scale · B A, computed in
float64 and rounded once.

--model is a Llama or Qwen2 model in Hugging Face's layout, --adapter a LoRA
adapter in PEFT's, such as the sft and dpo stages leave. --out must not exist, or
be empty; it becomes a model in Hugging Face's layout: config.json,
model.safetensors (above 5 GB shards and their index), and the base's tokenizer,
chat template and generation_config.json. It appears whole or not at all.

--dtype float32 (the default) keeps the merged model within float32's rounding of
base and adapter. bfloat16 halves the files, and rounds each weight to 8 bits: an
adapter's small changes of large weights are partly lost. How much that matters,
--compare shows: JSON lines {"ids": [...]}, as esclab tokenize writes them, on which
base with adapter and the merged files are compared:

  log-probability   how far a token's moved, at most and on average, in nats
  KL                mean over tokens of the divergence of the merged model's next
                    token from that of base with adapter, in nats

Give text that the adapter was trained for. As a measure: 0.001 nats is a tenth of
a percent of a token's probability; where bfloat16 costs more than the adapter
gained, write float32. Merging holds one tensor in memory, comparing both models.`,
		Example: `  esclab merge --model path/to/Qwen2.5-7B-Instruct --adapter rg-dpo/ --out rg-merged/ --dtype bfloat16
  esclab tokenize --tokenizer base/ replies.jsonl > ids.jsonl
  esclab merge --model base/ --adapter sft/ --out merged/ --compare ids.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runMerge(c.Context(), f, c.InOrStdin(), c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.model, "model", "", "directory with config.json and model.safetensors (required)")
	flags.StringVar(&f.adapter, "adapter", "", "directory with adapter_config.json and adapter_model.safetensors (required)")
	flags.StringVar(&f.out, "out", "", "new directory for the merged model (required)")
	flags.StringVar(&f.compare, "compare", "", "JSON lines of token ids to compare on; - for standard input")
	flags.StringVar(&f.dtype, "dtype", "float32", "of the merged weights: float32 or bfloat16")
	flags.StringVar(&f.engine, "engine", "auto", "engine that compares: auto, go, onnx, xla:cuda, xla:cpu")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	for _, name := range []string{"model", "adapter", "out"} {
		_ = c.MarkFlagRequired(name) // fails only for a flag that is not there
	}
	return c
}

// merging is what merge prints.
type merging struct {
	Out        string         `json:"out"`
	DType      string         `json:"dtype"`
	Matrices   int            `json:"matrices"` // that the adapter changed
	Files      []string       `json:"files"`    // of weights
	Bytes      int64          `json:"bytes"`    // of weights
	Copied     []string       `json:"copied"`
	Divergence *mergeDistance `json:"divergence,omitempty"`
}

type mergeDistance struct {
	Sequences int     `json:"sequences"`
	Tokens    int     `json:"tokens"`
	MaxAbs    float64 `json:"max_abs"`
	MeanAbs   float64 `json:"mean_abs"`
	KL        float64 `json:"kl"`
	MaxKL     float64 `json:"max_kl"`
}

// merge merges. What can be refused is refused before anything is written.
func (a *app) runMerge(ctx context.Context, f mergeOptions, stdin io.Reader, out io.Writer) error {
	config, err := lm.ReadConfig(f.model)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	adapter, err := lm.LoadAdapter(f.adapter, config)
	if err != nil {
		return fmt.Errorf("--adapter: %w", err)
	}
	var examples []lm.Example
	var engine *lm.Engine
	if f.compare != "" {
		err := withInput([]string{f.compare}, stdin, func(in io.Reader, name string) error {
			examples, err = sequences(ctx, in, name, config)
			return err
		})
		if err != nil {
			return fmt.Errorf("--compare: %w", err)
		}
		if engine, err = a.openEngine(f.engine); err != nil {
			return fmt.Errorf("--engine: %w", err)
		}
		defer engine.Close()
	}
	merged, err := adapter.MergeFiles(ctx, f.model, f.out, lm.MergeOptions{DType: f.dtype})
	if err != nil {
		return err
	}
	result := merging{Out: f.out, DType: merged.DType, Matrices: merged.Matrices, Files: merged.Files, Bytes: merged.Bytes, Copied: merged.Copied}
	if examples != nil {
		a.log.Debug().Str("out", f.out).Str("engine", engine.Name).Msg("merged; comparing")
		if result.Divergence, err = compareMerged(ctx, engine, f, adapter, examples); err != nil {
			return failed(fmt.Errorf("%s is written, but not compared: %w", f.out, err))
		}
	}
	if f.asJSON {
		return failed(writeLine(out, result))
	}
	_, err = io.WriteString(out, result.text())
	return failed(err)
}

// sequences reads what to compare on, every token labelled.
func sequences(ctx context.Context, in io.Reader, name string, config lm.Config) ([]lm.Example, error) {
	var examples []lm.Example
	for l, err := range jsonLines(ctx, in, name) {
		var s inspected
		if err == nil {
			s, err = l.sequence(config)
		}
		if err != nil {
			return nil, err
		}
		if len(s.ids) > 1 { // a single token has nothing to be predicted from
			examples = append(examples, lm.Example{Sequences: []lm.Sequence{{Tokens: s.ids, LossFrom: 1}}})
		}
	}
	if len(examples) == 0 {
		return nil, fmt.Errorf("%s: no sequence of two ids or more", name)
	}
	return examples, nil
}

// compareMerged measures the files that were written, not what was in memory: rounding is part of them.
func compareMerged(ctx context.Context, engine *lm.Engine, f mergeOptions, adapter *lm.Adapter, examples []lm.Example) (*mergeDistance, error) {
	base, err := lm.LoadModel(f.model)
	if err != nil {
		return nil, err
	}
	merged, err := lm.LoadModel(f.out)
	if err != nil {
		return nil, err
	}
	d, err := lm.Diverge(ctx, engine, base, adapter, merged, examples, lm.LogProbsOptions{})
	if err != nil {
		return nil, err
	}
	return &mergeDistance{Sequences: len(examples), Tokens: d.Tokens, MaxAbs: d.MaxAbs, MeanAbs: d.MeanAbs, KL: d.KL, MaxKL: d.MaxKL}, nil
}

// text is the result for a person.
func (m *merging) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d matrices merged, %s, %.1f MB\n", m.Out, m.Matrices, m.DType, float64(m.Bytes)/1e6)
	fmt.Fprintf(&b, "weights: %s\n", strings.Join(m.Files, ", "))
	if len(m.Copied) > 0 {
		fmt.Fprintf(&b, "copied: %s\n", strings.Join(m.Copied, ", "))
	}
	d := m.Divergence
	if d == nil {
		fmt.Fprintf(&b, "divergence: not measured; --compare FILE with token ids does\n")
		return b.String()
	}
	fmt.Fprintf(&b, "divergence from base and adapter over %d tokens of %d sequences, in nats:\n", d.Tokens, d.Sequences)
	fmt.Fprintf(&b, "  log-probability  at most %.2g, mean %.2g\n", d.MaxAbs, d.MeanAbs)
	fmt.Fprintf(&b, "  KL               at most %.2g, mean %.2g\n", d.MaxKL, d.KL)
	return b.String()
}
