package lm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
)

const (
	torchPython = "/usr/bin/python3" // Debian's: python3-torch installs there
	torchScript = "../../shared/bench/torch_reference.py"
)

// torchDriver runs the reference's main once for each line of standard input, a JSON list of its arguments: PyTorch
// takes longer to import than all comparisons take.
const torchDriver = `
import importlib.util, json, sys
try:
    import torch
except ImportError as error:
    print(json.dumps(str(error)), flush=True)
    sys.exit()
print(json.dumps(""), flush=True)
spec = importlib.util.spec_from_file_location("torch_reference", sys.argv[1])
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
for line in sys.stdin:
    sys.argv = ["torch_reference.py", *json.loads(line)]
    reference.main()
    sys.stdout.flush()
`

// torchAnswer is what the reference prints.
type torchAnswer struct {
	LogProbs          [][]float64 `json:"logprobs"`
	Loss              float64     `json:"loss"`
	LabelledTokens    int         `json:"labelled_tokens"`
	Chosen            []float64   `json:"chosen"`
	Rejected          []float64   `json:"rejected"`
	ReferenceChosen   []float64   `json:"reference_chosen"`
	ReferenceRejected []float64   `json:"reference_rejected"`
}

// torchReference starts the reference, or skips the test, and returns a function that asks it.
func torchReference(t *testing.T) torchAsk {
	t.Helper()
	for path, remedy := range map[string]string{torchPython: "install Debian's python3-torch", torchScript: "it is no part of the project"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("the PyTorch reference needs %s, which is absent: %s", path, remedy)
		}
	}
	c := exec.Command(torchPython, "-B", "-c", torchDriver, torchScript)
	c.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	stderr := &strings.Builder{}
	c.Stderr = stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Skipf("%s does not start: %v", torchPython, err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out) // nothing is expected here
		if err := c.Wait(); err != nil && !t.Failed() {
			t.Errorf("torch_reference.py: %v\n%s", err, stderr)
		}
	})
	answers := json.NewDecoder(bufio.NewReader(out))
	var missing string
	if err := answers.Decode(&missing); err != nil {
		t.Skipf("%s does not run: %v", torchPython, err)
	}
	if missing != "" {
		t.Skipf("%s cannot import torch (%s): install Debian's python3-torch", torchPython, missing)
	}
	return func(t *testing.T, rows []any, arguments ...string) torchAnswer {
		t.Helper()
		var data []byte
		for _, row := range rows {
			line, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			data = append(append(data, line...), '\n')
		}
		path := filepath.Join(t.TempDir(), "data.jsonl")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(append(arguments, "--threads", "1", "--data", path))
		if err != nil {
			t.Fatal(err)
		}
		var answer torchAnswer
		if _, err = in.Write(append(line, '\n')); err == nil {
			err = answers.Decode(&answer)
		}
		if err != nil {
			t.Fatalf("torch_reference.py %s: %v\n%s", arguments, err, stderr)
		}
		return answer
	}
}

// torchCase is one model to compare on; every part of the architecture that changes what is computed is in one.
type torchCase struct {
	name             string
	config           Config
	lora             LoRA
	dialogues, turns int
}

func torchCases() []torchCase {
	base := Config{HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2,
		VocabSize: 61, MaxPositionEmbeddings: 512, RMSNormEps: 1e-6, RopeTheta: 10000, HiddenAct: "silu"}
	with := func(modelType string, change func(c *Config)) Config {
		c := base
		c.ModelType = modelType
		change(&c)
		return c
	}
	// With 16 dimensions a head the wavelengths are 6, 20, 63, 199, 628 …: on both sides of 64 and 256, and between.
	scaling := &RopeScaling{RopeType: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 256}
	return []torchCase{
		{"qwen2, tied", with("qwen2", func(c *Config) { c.TieWordEmbeddings = true }), LoRA{Rank: 4, Alpha: 8}, 3, 4},
		{"qwen2, untied, one key-value head, wide heads", with("qwen2", func(c *Config) {
			c.NumKeyValueHeads, c.HeadDim, c.RopeTheta = 1, 16, 1e6
		}), LoRA{Rank: 3, Alpha: 2, Targets: []string{"q_proj", "v_proj", "down_proj"}}, 2, 5},
		{"llama, grouped heads, scaled rope", with("llama", func(c *Config) {
			c.HeadDim, c.RopeScaling, c.NumHiddenLayers = 16, scaling, 3
		}), LoRA{Rank: 8, Alpha: 16}, 3, 4},
		{"llama, tied, as many key-value heads", with("llama", func(c *Config) {
			c.NumKeyValueHeads, c.TieWordEmbeddings, c.RMSNormEps = 4, true, 1e-5
		}), LoRA{Rank: 1, Alpha: 1}, 1, 6},
		// Rows long enough that attention is computed in blocks of queries.
		{"llama, long, scaled rope", with("llama", func(c *Config) {
			c.HeadDim, c.RopeScaling, c.RopeTheta = 16, scaling, 500
		}), LoRA{Rank: 4, Alpha: 4}, 1, 44},
	}
}

// randomize adds noise to weights, the same for the same seed.
func randomize(weights map[string]*tensors.Tensor, seed uint64, deviation float64) {
	for name, w := range weights {
		tensors.MustMutableFlatData(w, func(flat []float32) {
			s := newStream(seed, named(name))
			for i := range flat {
				flat[i] += float32(deviation * s.normal())
			}
		})
	}
}

// disagreement is the largest difference of two lists, relative where a number is larger than 1.
func disagreement(t *testing.T, what string, got, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%s: %d numbers, the reference has %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(got[i]-want[i]) / max(1, math.Abs(want[i]))
		if math.IsNaN(d) {
			return d
		}
		worst = max(worst, d)
	}
	return worst
}

// torchTolerance is ten to a hundred times float32's rounding through these models.
const torchTolerance = 1e-5

// agree fails the test where two lists differ by more than torchTolerance.
func agree(t *testing.T, what string, got, want []float64) {
	t.Helper()
	worst := disagreement(t, what, got, want)
	t.Logf("%s: at most %.1e apart (%d numbers)", what, worst, len(got))
	if !(worst <= torchTolerance) { // NaN as well
		t.Errorf("%s: %.2g apart from PyTorch, at most %g is allowed", what, worst, torchTolerance)
	}
}

// TestTorch compares models and adapters, through the files that Save writes, with the PyTorch reference: what each
// sequence's tokens get, and the loss of SFT and DPO of the trainer's own first step over packed trees.
func TestTorch(t *testing.T) {
	ask := torchReference(t)
	engine := testEngine(t)
	for i, c := range torchCases() {
		t.Run(c.name, func(t *testing.T) {
			seed := uint64(i + 1)
			model, err := NewModel(c.config, seed)
			if err != nil {
				t.Fatal(err)
			}
			randomize(model.weights, seed, 0.2) // biases and norms, too
			dir := t.TempDir()
			if err := model.Save(dir); err != nil {
				t.Fatal(err)
			}
			adapter, adapterDir := torchAdapter(t, model.Config, c.lora, seed)
			reference, referenceDir := torchAdapter(t, model.Config, c.lora, seed+100)
			pairs := nestedExamples(seed, c.dialogues, c.turns, c.config.VocabSize, true)

			t.Run("log-probabilities", func(t *testing.T) {
				torchLogProbs(t, ask, engine, model, nil, dir, pairs)
			})
			t.Run("merged", func(t *testing.T) {
				merged := filepath.Join(t.TempDir(), "merged")
				if _, err := adapter.MergeFiles(t.Context(), dir, merged, MergeOptions{ShardBytes: 20_000}); err != nil {
					t.Fatal(err)
				}
				torchLogProbs(t, ask, engine, model, adapter, merged, pairs)
			})
			t.Run("sft", func(t *testing.T) {
				torchSFT(t, ask, engine, model, adapter, pairs, "--model", dir, "--adapter", adapterDir)
			})
			t.Run("dpo", func(t *testing.T) {
				torchDPO(t, ask, engine, model, adapter, reference, pairs,
					"--model", dir, "--adapter", adapterDir, "--reference-adapter", referenceDir)
			})
		})
	}
}

// torchAdapter is an adapter whose matrices are both random, and the directory it is saved in.
func torchAdapter(t *testing.T, config Config, lora LoRA, seed uint64) (*Adapter, string) {
	t.Helper()
	a, err := NewAdapter(config, lora, seed)
	if err != nil {
		t.Fatal(err)
	}
	randomize(a.weights, seed, 0.2)
	dir := t.TempDir()
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	return a, dir
}

type torchAsk = func(t *testing.T, rows []any, arguments ...string) torchAnswer

// torchLogProbs compares every token's log-probability, packed and one sequence at a time, with those of the model in dir.
func torchLogProbs(t *testing.T, ask torchAsk, engine *Engine, model *Model, adapter *Adapter, dir string, pairs []Example) {
	var rows []any
	whole := slices.Clone(pairs) // every token labelled
	for i := range whole {
		whole[i].Sequences = slices.Clone(whole[i].Sequences)
		for j := range whole[i].Sequences {
			whole[i].Sequences[j].LossFrom = 1
			rows = append(rows, map[string]any{"ids": whole[i].Sequences[j].Tokens})
		}
	}
	want := slices.Concat(ask(t, rows, "logprobs", "--model", dir).LogProbs...)
	for _, packing := range []Packing{PackTree, PackNone} {
		scores, err := LogProbs(t.Context(), engine, model, adapter, whole, LogProbsOptions{Packing: packing})
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		for i := range scores {
			for j := range scores[i] {
				for _, p := range scores[i][j].Tokens {
					got = append(got, float64(p))
				}
			}
		}
		agree(t, fmt.Sprintf("log-probabilities, packing %s", packing), got, want)
	}
}

// torchSFT compares the loss of the trainer's first step; every third example has a mask of its own.
func torchSFT(t *testing.T, ask torchAsk, engine *Engine, model *Model, adapter *Adapter, pairs []Example, arguments ...string) {
	var rows []any
	labels := 0
	examples := make([]Example, len(pairs))
	for i, e := range pairs {
		s := e.Sequences[0]
		if i%3 == 2 {
			s.Weights = make([]float32, len(s.Tokens))
			for k := len(s.Tokens) - 1; k > 0; k -= 2 {
				s.Weights[k] = 1
				labels++
			}
			rows = append(rows, map[string]any{"ids": s.Tokens, "mask": s.Weights})
		} else {
			labels += len(s.Tokens) - s.LossFrom
			rows = append(rows, map[string]any{"ids": s.Tokens, "loss_from": s.LossFrom})
		}
		examples[i] = Example{Group: e.Group, Sequences: []Sequence{s}}
	}
	want := ask(t, rows, append([]string{"loss", "--kind", "sft"}, arguments...)...)
	if want.LabelledTokens != labels {
		t.Errorf("the reference labels %d tokens, not %d", want.LabelledTokens, labels)
	}
	got, _ := gradientOf(t, engine, model, adapter, examples, TrainConfig{Loss: Loss{Kind: LossSFT}})
	agree(t, fmt.Sprintf("SFT loss %.6f", want.Loss), []float64{got.Loss}, []float64{want.Loss})
	base, _ := gradientOf(t, engine, model, nil, examples, TrainConfig{Loss: Loss{Kind: LossSFT}})
	if math.Abs(base.Loss-want.Loss) < 20*torchTolerance*want.Loss { // or the comparison would not notice its absence
		t.Errorf("the adapter changes nothing: loss %v without it, %v with it", base.Loss, want.Loss)
	}
}

// torchDPO compares the loss of the trainer's first step and every sum that it is made of.
func torchDPO(t *testing.T, ask torchAsk, engine *Engine, model *Model, adapter, reference *Adapter, pairs []Example, arguments ...string) {
	var rows []any
	for _, e := range pairs {
		chosen, rejected := e.Sequences[0], e.Sequences[1]
		rows = append(rows, map[string]any{"prompt": chosen.Tokens[:chosen.LossFrom],
			"chosen": chosen.Tokens[chosen.LossFrom:], "rejected": rejected.Tokens[rejected.LossFrom:]})
	}
	const beta = 0.15
	want := ask(t, rows, append([]string{"loss", "--kind", "dpo", "--beta", fmt.Sprint(beta)}, arguments...)...)
	sums := func(a *Adapter) (chosen, rejected []float64) {
		scores, err := LogProbs(t.Context(), engine, model, a, pairs, LogProbsOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range scores {
			chosen, rejected = append(chosen, scores[i][0].Sum()), append(rejected, scores[i][1].Sum())
		}
		return chosen, rejected
	}
	chosen, rejected := sums(adapter)
	agree(t, "policy, chosen", chosen, want.Chosen)
	agree(t, "policy, rejected", rejected, want.Rejected)
	chosen, rejected = sums(reference)
	agree(t, "reference, chosen", chosen, want.ReferenceChosen)
	agree(t, "reference, rejected", rejected, want.ReferenceRejected)
	examples := slices.Clone(pairs)
	for i := range examples {
		examples[i].Reference = []float64{chosen[i], rejected[i]}
	}
	got, _ := gradientOf(t, engine, model, adapter, examples, TrainConfig{Loss: Loss{Kind: LossDPO, Beta: beta}})
	agree(t, fmt.Sprintf("DPO loss %.6f", want.Loss), []float64{got.Loss}, []float64{want.Loss})
	if math.Abs(want.Loss-math.Ln2) < 20*torchTolerance {
		t.Errorf("the DPO loss is %v, log 2: policy and reference are the same", want.Loss)
	}
}
