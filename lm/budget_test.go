package lm

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/esclab/esclab/internal/memory"
)

// asXLA is Go's backend under XLA's name: what asks for the name builds XLA's graph, which is looked at and not run.
type asXLA struct{ compute.Backend }

func (asXLA) Name() string { return "xla" }

// gradientBudget builds the gradient of a LoRA training without any weights and without some changes, and counts.
func gradientBudget(t *testing.T, config Config, rows, length int, dropout float64, without ...string) (b graphBudget, uploads int) {
	t.Helper()
	backend, err := gobackend.New("")
	if err != nil {
		t.Fatal(err)
	}
	g := graph.NewGraph(asXLA{backend}, "budget")
	lora := &LoRA{Rank: 16, Alpha: 16, Dropout: dropout}
	ablated := &Engine{}
	if err := ablated.Ablate(without...); err != nil {
		t.Fatal(err)
	}
	trainer := &Trainer{config: TrainConfig{Loss: Loss{Kind: LossSFT}}, adapter: &Adapter{Config: *lora},
		operands: operands{config: &config, lora: lora, names: []string{"rope.cos", "rope.sin"}, ablated: ablated.ablated}, model: &Model{Config: config}}
	var nodes []*graph.Node
	add := func(dtype dtypes.DType, dims ...int) {
		nodes = append(nodes, graph.Parameter(g, fmt.Sprintf("p%d", len(nodes)), shapes.Make(dtype, dims...)))
	}
	for range 2 {
		add(dtypes.Float32, config.MaxPositionEmbeddings, config.HeadDim/2)
	}
	base := config.jointParameters()
	if ablated.ablated[ablateJoint] {
		base = config.singleParameters()
	}
	for _, p := range base {
		trainer.operands.names = append(trainer.operands.names, p.name)
		add(BFloat16.dtype(p.parameter), p.shape...)
	}
	trained := lora.parameters(&config)
	for _, p := range trained {
		trainer.trainable = append(trainer.trainable, len(trainer.operands.names))
		trainer.operands.names = append(trainer.operands.names, p.name)
		add(dtypes.Float32, p.shape...)
	}
	operands := len(nodes)
	tokens := rows * length
	add(dtypes.Int32, 4, rows, length)
	add(dtypes.Int32, tokens/2)
	add(dtypes.Int32, 3, tokens/2)
	add(dtypes.Float32, tokens/2)
	add(dtypes.Float32) // the scale of sft
	if dropout > 0 {
		add(dtypes.Uint32, 2)
	}
	uploads = len(nodes) - operands
	for _, p := range trained {
		add(dtypes.Float32, p.shape...)
	}
	outputs, weights, _ := trainer.buildLoss(nodes, true)
	border := graph.NodeId(len(g.Nodes()))
	outputs = append(outputs, graph.Gradient(outputs[0], weights...)...)
	b = countGraph(outputs, border, length)
	return b, uploads
}

// TestGraphBudget bounds what a training step costs on an accelerator, by the graph that XLA is given: without running
// it, and without a card.
func TestGraphBudget(t *testing.T) {
	for _, test := range []struct {
		name         string
		rows, length int
		saved        float64 // bytes a token
	}{{"qwen2.5-0.5b", 16, 512, 1.1e6}, {"qwen2.5-7b", 8, 1024, 5e6}} {
		for _, dropout := range []float64{0, 0.05} {
			t.Run(fmt.Sprint(test.name, " dropout ", dropout), func(t *testing.T) {
				config, err := ReadConfig(filepath.Join("..", "internal", "bench", "gpu", test.name))
				if err != nil {
					t.Fatal(err)
				}
				b, uploads := gradientBudget(t, config, test.rows, test.length, dropout)
				wide, products := b.wideFLOPs/b.flops, float64(b.products)/float64(config.NumHiddenLayers)
				saved := float64(b.saved) / float64(test.rows*test.length)
				t.Logf("%.3g FLOPs, %.2f %% in float32; %.1f products a layer; %.2f MB a token kept; %d uploads",
					b.flops, 100*wide, products, saved/1e6, uploads)
				if wide > 0.005 {
					t.Errorf("%.2f %% of the FLOPs are in float32, want at most 0.5 %%", 100*wide)
				}
				if products > 35 {
					t.Errorf("%.1f products a layer, want at most 35", products)
				}
				if saved > test.saved {
					t.Errorf("%.2f MB a token are kept for the way back, want at most %.2f", saved/1e6, test.saved/1e6)
				}
				if b.square != "" {
					t.Errorf("%s is kept for the way back: attention's scores are to be computed again", b.square)
				}
				if uploads > 6 {
					t.Errorf("%d uploads a micro-batch, want at most 6", uploads)
				}
			})
		}
	}
}

// TestAblations: what is left out for a benchmark is left out of the graph.
func TestAblations(t *testing.T) {
	config, err := ReadConfig(filepath.Join("..", "internal", "bench", "gpu", "qwen2.5-0.5b"))
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := gradientBudget(t, config, 16, 512, 0)
	for _, without := range []string{ablateBeside, ablateJoint, ablateAttention} {
		b, _ := gradientBudget(t, config, 16, 512, 0, without)
		t.Logf("without %s: %.1f products a layer, %.2f %% of the FLOPs in float32, kept of a row's square: %s",
			without, float64(b.products)/float64(config.NumHiddenLayers), 100*b.wideFLOPs/b.flops, b.square)
		if derived := b.square != "" && b.wideFLOPs > 0.05*b.flops; derived != (without == ablateAttention) {
			t.Errorf("without %s attention's gradient is derived in float32: %v", without, derived)
		}
		if b.products <= whole.products {
			t.Errorf("without %s there are %d products, want more than the %d with all changes", without, b.products, whole.products)
		}
	}
}

// TestMemoryLimit: a training that would take more than its limit computes layers again, with the same bits, and goes
// on from the state of one that does not.
func TestMemoryLimit(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	model := tinyModel(t, config)
	data := Dataset{Examples: nestedExamples(6, 3, 4, config.VocabSize, false)}
	trainer := func(limit int64) *Trainer {
		trainer, err := NewTrainer(engine, model, trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6, Dropout: 0.1}), data, TrainConfig{
			Loss: Loss{Kind: LossSFT}, Epochs: 2, BatchSize: 3, LearningRate: 1e-3, MemoryLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(trainer.Close)
		return trainer
	}
	free := trainer(0)
	kept, err := free.keeps()
	if err != nil {
		t.Fatal(err)
	}
	roomy, tight := trainer(kept), trainer(kept-1)
	if free.Recomputes() || roomy.Recomputes() || !tight.Recomputes() {
		t.Fatalf("with %d bytes needed, recomputing without a limit, at it and below it: %v, %v, %v; want false, false, true",
			kept, free.Recomputes(), roomy.Recomputes(), tight.Recomputes())
	}
	again, err := tight.keeps()
	if err != nil || again >= kept {
		t.Errorf("recomputing takes %d bytes, %v; want less than %d", again, err, kept)
	}
	var state bytes.Buffer
	for step := range 4 {
		want, err := free.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if step == 2 {
			if err := tight.Restore(&state); err != nil {
				t.Fatalf("the state of a training that keeps everything: %v", err)
			}
		}
		got, err := tight.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Loss != want.Loss || got.GradNorm != want.GradNorm {
			t.Errorf("step %d: recomputing gives loss %v, norm %v; keeping %v, %v", step+1, got.Loss, got.GradNorm, want.Loss, want.GradNorm)
		}
		if step == 1 {
			if err := free.Save(&state); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestMemoryEstimate: what a training is said to take is what the process is seen to take, and recomputing layers takes
// less than half of it.
func TestMemoryEstimate(t *testing.T) {
	engine := testEngine(t)
	if engine.Name != "go" || memory.PeakBytes() == 0 {
		t.Skip("the process's peak tells of Go's engine, where the system tells of the peak")
	}
	config := Config{ModelType: "llama", HiddenSize: 128, IntermediateSize: 512, NumHiddenLayers: 12, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, VocabSize: 512, MaxPositionEmbeddings: 512, RMSNormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu",
		TieWordEmbeddings: true}
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	model, err := NewModel(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	var examples []Example
	for i := range 8 {
		s := Sequence{LossFrom: 1}
		for j := range 257 {
			s.Tokens = append(s.Tokens, int32((i*7919+j*104729)%500))
		}
		examples = append(examples, Example{Group: fmt.Sprint(i), Sequences: []Sequence{s}})
	}
	grown := map[bool]float64{}
	for _, recompute := range []bool{true, false} {
		adapter, err := NewAdapter(config, LoRA{Rank: 4, Alpha: 4}, 1)
		if err != nil {
			t.Fatal(err)
		}
		memory.ResetPeak()
		before := memory.PeakBytes()
		trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: examples}, TrainConfig{Loss: Loss{Kind: LossSFT},
			Epochs: 1, BatchSize: 8, LearningRate: 1e-3, Checkpointing: recompute})
		if err != nil {
			t.Fatal(err)
		}
		estimate, err := trainer.keeps()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trainer.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		trainer.Close()
		grown[recompute] = float64(memory.PeakBytes() - before)
		t.Logf("recompute %v: estimated %.0f MiB, grown by %.0f MiB", recompute, float64(estimate)/(1<<20), grown[recompute]/(1<<20))
		if ratio := grown[recompute] / float64(estimate); !recompute && (ratio < 0.6 || ratio > 1.6) {
			t.Errorf("the process has grown by %.2f times the estimate, want 0.6 to 1.6", ratio)
		}
	}
	if grown[true] > grown[false]/2 {
		t.Errorf("recomputing took %.0f MiB, keeping %.0f: want less than half", grown[true]/(1<<20), grown[false]/(1<<20))
	}
}
