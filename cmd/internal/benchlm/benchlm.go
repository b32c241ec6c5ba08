// Package benchlm is the command `bench lm`, which measures training and
// generation, for the programs that have it.
package benchlm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/internal/bench"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// The workloads that train nothing.
const (
	generateSP = "sp-generate" // the planner's strategies
	generateVM = "vm-generate" // the vanilla model's whole answers
	scoreSP    = "sp-score"    // all strategies after every turn
	decoding   = "generate"    // random prompts, greedily or by --top-p
)

type benchFlags struct {
	corpus, splitIndex, tokenizer, shape string
	split                                string
	engine, prompts, packing, export     string
	dtype                                string
	workloads                            []string
	peer                                 string
	without                              []string
	slots                                []int
	topP                                 float64
	batch, steps, rank, packTokens, new  int
	dialogues, maxTokens, length, rounds int
	promptTokens                         int
	recompute, prepareOnly, asJSON       bool
}

// Host is the program that a command belongs to.
type Host struct {
	OpenEngine func(name string) (*lm.Engine, error)
	Log        *zerolog.Logger       // may be set up after the command is made
	Failed     func(err error) error // marks what failed at work, not by wrong flags
}

// Command is `bench` with its one subcommand, lm.
func Command(host Host) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine makes of the paper's work",
	}
	c.AddCommand(host.lmCommand())
	return c
}

func (h Host) lmCommand() *cobra.Command {
	f := benchFlags{}
	c := &cobra.Command{
		Use:   "lm",
		Short: "Measure training and generation: samples/s, tokens/s, FLOP/s, memory",
		Long: `Prepare the paper's five trainings (SP-SFT, RG-SFT, SP-DPO, RG-DPO, VM-DPO) and
generation from a corpus, and take a few steps of each on random weights.

Nothing is mined here: a rejected side is another strategy (sp), another turn's
response (rg) or both (vm), drawn from counters. Training is LoRA on all seven
projections without dropout. One step warms up; a step that compiles is taken
again, and its first time counts as compiling. Generation answers the test
turns, sampling every answer to its limit, the second time measured.

tokens/s counts the tokens computed, plain/s those of the sequences as they
are: with --packing tree a shared prefix is computed once, with none each
sequence on its own. FLOP/s counts what the model needs of the computed tokens:
` + bench.FLOPFormula + `.
Its share is of the peak that plain float32 matrix products reach on the same
engine, measured just before. Memory is the peak of the process during the
workload.

--export writes the token data unpacked, in the order of the steps, with
config.json: one {"ids", "loss_from"} or {"prompt", "chosen", "rejected"} a
line, for other implementations to take the same batches.

--peer names such an implementation: it is run on the same batches, in turns
with ours, --rounds times, and both sides are printed with median, spread and
ratio. It is called as

  PEER bench --config FILE --data FILE --kind sft|dpo --batch N --steps N --rank N --threads N

and prints one JSON object with samples_per_second, tokens_per_second and
peak_rss_mb. The workload "equal" is for kernels alone: the corpus's text in
sequences of --length tokens, nothing shared and nothing padded. So is
"generate": --slots random prompts of --prompt-tokens continued by --new tokens,
for each number of slots, greedily or sampled by --top-p, on the peer's side by

  PEER generate --config FILE --prompt N --new N --batch N --threads N

with prefill_tokens_per_second and decode_tokens_per_second.

sp-score scores the planner's eight strategies after every test turn. With
--packing both, generation and scoring alternate between the packings, --rounds
times, and the speed of tree over none is printed.`,
		Example: `  esclab bench lm
  esclab bench lm --corpus path/to/esconv --packing both --steps 5 --json
  esclab bench lm --corpus path/to/esconv --tokenizer path/to/Qwen2.5-0.5B --config path/to/Qwen2.5-0.5B
  esclab bench lm --corpus path/to/esconv --export data --prepare-only
  esclab bench lm --corpus path/to/esconv --workloads equal --batch 8 --peer "python3 torch_reference.py"
  esclab bench lm --workloads generate --slots 16 --new 64 --rounds 5 --peer "python3 torch_reference.py"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return h.benchLM(c.Context(), f, c.OutOrStdout()) },
	}
	flags := c.Flags()
	flags.StringVar(&f.corpus, "corpus", "", "directory of train.json, valid.json and test.json, or a file in ESConv's layout (default: the demo corpus)")
	flags.StringVar(&f.splitIndex, "split-index", "", "file with the positions of the parts of a corpus that is one file (default: 8:1:1)")
	flags.StringVar(&f.split, "split", "train", "part of the corpus that trainings are prepared from: train, valid or test")
	flags.StringVar(&f.tokenizer, "tokenizer", "", "directory of a tokenizer with a chat template (default: BPE of 4096 trained on the corpus)")
	flags.StringVar(&f.shape, "config", "", "config.json of the model, or its directory (default: a Llama of about 5 million parameters)")
	flags.StringVar(&f.engine, "engine", "auto", "auto, go, onnx, xla:cuda or xla:cpu")
	flags.StringVar(&f.dtype, "dtype", string(lm.Float32), "how the base model's matrices are kept: float32 or bfloat16")
	flags.StringVar(&f.prompts, "prompts", "tiny", "tiny: a few words; full: with the strategies' definitions")
	flags.StringVar(&f.packing, "packing", "tree", "tree: shared prefixes once; none: each sequence on its own; both")
	flags.StringSliceVar(&f.workloads, "workloads", append(bench.Names(), generateSP, generateVM, scoreSP), "which; also equal and generate")
	flags.IntVar(&f.batch, "batch", 32, "turns or pairs a step")
	flags.IntVar(&f.steps, "steps", 5, "measured steps a workload")
	flags.IntVar(&f.rank, "rank", 16, "of LoRA; 0 trains every weight")
	flags.IntVar(&f.packTokens, "pack-tokens", 0, "tokens of a micro-batch; 0: 2048")
	flags.BoolVar(&f.recompute, "recompute", false, "compute layers again on the way back, as memory: recompute does, rather than keep their activations")
	flags.IntSliceVar(&f.slots, "slots", []int{16}, "answers decoded together; generate takes several numbers, one after the other")
	flags.Float64Var(&f.topP, "top-p", 0, "of generate: sample at temperature 1 instead of greedily")
	flags.StringSliceVar(&f.without, "without", nil, "changes of graphs for XLA to leave out, to see what each is worth: "+strings.Join(lm.Ablations(), ", "))
	flags.IntVar(&f.new, "new", 32, "tokens of an answer (sp-generate: of the longest strategy)")
	flags.IntVar(&f.dialogues, "dialogues", 100, "train dialogues, drawn at random; a tenth of them for generation; 0: all")
	flags.IntVar(&f.maxTokens, "max-tokens", 1024, "leave longer sequences out")
	flags.StringVar(&f.export, "export", "", "directory to write the token data and config.json into")
	flags.StringVar(&f.peer, "peer", "", "program to run beside ours, with its first arguments, in one string")
	flags.IntVar(&f.rounds, "rounds", 1, "times to measure each workload; the median is printed")
	flags.IntVar(&f.promptTokens, "prompt-tokens", 64, "tokens of a prompt of generate")
	flags.IntVar(&f.length, "length", 256, "tokens of a sequence of equal")
	flags.BoolVar(&f.prepareOnly, "prepare-only", false, "measure nothing: count tokens, and export")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	return c
}

// benchReport is the output of bench lm.
type benchReport struct {
	Engine     string   `json:"engine"`
	Cores      int      `json:"cores"`
	Parameters int      `json:"parameters"`
	Vocabulary int      `json:"vocabulary"`
	DType      string   `json:"dtype"` // of the base model
	Rank       int      `json:"rank"`
	Prompts    string   `json:"prompts"`
	MaxTokens  int      `json:"max_tokens"`
	Without    []string `json:"without,omitempty"` // left out of graphs for XLA
	PeakFLOPS  float64  `json:"peak_flops,omitempty"`
	Formula    string   `json:"flop_formula"`

	Workloads  []benchWorkload    `json:"workloads"`
	Training   []bench.Training   `json:"training"`
	Generation []bench.Generation `json:"generation"`
	Decoding   []bench.Decoding   `json:"decoding,omitempty"`
	Beside     []bench.Comparison `json:"beside,omitempty"` // the peer's side
}

// benchWorkload describes the data of a workload.
type benchWorkload struct {
	Name     string `json:"name"`
	Examples int    `json:"examples"`
	Skipped  int    `json:"skipped"` // longer than max_tokens
	Tokens   int    `json:"tokens"`  // of the sequences as they are

	Sharing lm.Sharing `json:"sharing"` // with each dialogue one prefix tree
}

func (h Host) benchLM(ctx context.Context, f benchFlags, out io.Writer) error {
	packings, err := f.check()
	if err != nil {
		return err
	}
	corpus, err := benchCorpus(f)
	if err != nil {
		return err
	}
	tok, cleanup, err := benchTokenizer(ctx, f, corpus)
	if err != nil {
		return err
	}
	defer cleanup()
	config, err := benchConfig(f, tok)
	if err != nil {
		return err
	}
	engine, err := h.OpenEngine(f.engine)
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := engine.Ablate(f.without...); err != nil {
		return fmt.Errorf("--without: %w", err)
	}
	base := lm.BaseType(f.dtype)
	if err := engine.Keeps(base); err != nil {
		return fmt.Errorf("--dtype: %w", err)
	}
	model, err := lm.NewModelWith(config, 1, lm.LoadOptions{BaseType: base})
	if err != nil {
		return err
	}
	b := &benchRun{
		host: h, flags: f, corpus: corpus, tok: tok, engine: engine, model: model,
		report: benchReport{
			Engine: engine.Identity(base), Cores: runtime.NumCPU(), Parameters: model.Parameters(), Vocabulary: config.VocabSize, DType: string(base),
			Without: f.without, Rank: f.rank, Prompts: f.prompts, MaxTokens: f.maxTokens, Formula: bench.FLOPFormula,
			Workloads: []benchWorkload{}, Training: []bench.Training{}, Generation: []bench.Generation{},
		},
	}
	if err := b.run(ctx, packings); err != nil {
		return h.Failed(err)
	}
	if f.asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(b.report)
	}
	b.report.print(out)
	return nil
}

// check refuses what cannot be measured, and reads the packings.
func (f *benchFlags) check() ([]lm.Packing, error) {
	for _, w := range f.workloads {
		if all := append(bench.Names(), generateSP, generateVM, scoreSP, bench.Equal, decoding); !slices.Contains(all, w) {
			return nil, fmt.Errorf("--workloads %s: there are %s", w, strings.Join(all, ", "))
		}
	}
	if len(f.slots) == 0 || f.topP < 0 || f.topP > 1 || f.packTokens < 0 {
		return nil, fmt.Errorf("--slots %v, --top-p %v, --pack-tokens %d: give slots, a top-p in [0, 1], and no negative number", f.slots, f.topP, f.packTokens)
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"batch", f.batch}, {"steps", f.steps}, {"slots", slices.Min(f.slots)}, {"new", f.new}, {"max-tokens", f.maxTokens}, {"rounds", f.rounds}, {"prompt-tokens", f.promptTokens}} {
		if n.value < 1 {
			return nil, fmt.Errorf("--%s %d: give a positive number", n.name, n.value)
		}
	}
	if !slices.Contains(esc.PromptSets(), f.prompts) {
		return nil, fmt.Errorf("--prompts %q: use %s", f.prompts, strings.Join(esc.PromptSets(), " or "))
	}
	if !slices.Contains([]string{"train", "valid", "test"}, f.split) {
		return nil, fmt.Errorf("--split %q: use train, valid or test", f.split)
	}
	switch f.packing {
	case "tree", "none":
		return []lm.Packing{lm.Packing(f.packing)}, nil
	case "both":
		return []lm.Packing{lm.PackTree, lm.PackNone}, nil
	}
	return nil, fmt.Errorf("--packing %q: use tree, none or both", f.packing)
}

func benchCorpus(f benchFlags) (esc.Corpus, error) {
	if f.corpus != "" {
		return esc.ReadCorpus(esc.Source{Path: f.corpus, SplitIndex: f.splitIndex})
	}
	dialogues, err := esc.ReadDialogues("demo corpus", strings.NewReader(string(democorpus.JSON())), esc.DefaultLimits())
	if err != nil {
		return esc.Corpus{}, err
	}
	return esc.Split(dialogues, 0)
}

// benchTokenizer loads the tokenizer, or trains one that cleanup removes.
func benchTokenizer(ctx context.Context, f benchFlags, corpus esc.Corpus) (tok *tokens.Tokenizer, cleanup func(), err error) {
	if f.tokenizer != "" {
		if tok, err = tokens.Load(f.tokenizer); err != nil {
			return nil, nil, fmt.Errorf("--tokenizer %s: %w", f.tokenizer, err)
		}
		return tok, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "esclab-bench")
	if err != nil {
		return nil, nil, fmt.Errorf("a tokenizer's directory: %w", err)
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	if tok, err = bench.TrainTokenizer(ctx, corpus.Train, dir, 4096); err != nil {
		cleanup()
		return nil, nil, err
	}
	return tok, cleanup, nil
}

// benchConfig reads the model's shape. A vocabulary that the tokenizer does
// not fit into, or too few positions, are errors.
func benchConfig(f benchFlags, tok *tokens.Tokenizer) (lm.Config, error) {
	config := bench.DefaultConfig(tok)
	if f.shape != "" {
		path := f.shape
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = filepath.Join(path, "config.json")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return config, fmt.Errorf("--config: %w", err)
		}
		if config, err = lm.ParseConfig(data); err != nil {
			return config, fmt.Errorf("--config %s: %w", path, err)
		}
	}
	if tok.VocabSize() > config.VocabSize {
		return config, fmt.Errorf("the tokenizer has %d tokens, the model's vocab_size is %d: give the --tokenizer that belongs to --config", tok.VocabSize(), config.VocabSize)
	}
	if f.maxTokens > config.MaxPositionEmbeddings {
		return config, fmt.Errorf("--max-tokens %d: the model has %d positions", f.maxTokens, config.MaxPositionEmbeddings)
	}
	return config, nil
}
