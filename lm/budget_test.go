package lm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// asXLA is Go's backend under XLA's name: what asks for the name builds XLA's graph, which is looked at and not run.
type asXLA struct{ compute.Backend }

func (asXLA) Name() string { return "xla" }

// A graphBudget is what a training graph costs, by its nodes alone.
type graphBudget struct {
	flops, wideFLOPs float64 // of matrix products; of those whose operands are float32
	products         int
	saved            int    // bytes that the way back takes from the way there
	square           string // a saved tensor with two axes of a row's length; "" without one
	uploads          int    // inputs of a step that are not operands or sums
}

// gradientBudget builds the gradient of a LoRA training without any weights, and counts.
func gradientBudget(t *testing.T, config Config, rows, length int, dropout float64) graphBudget {
	t.Helper()
	backend, err := gobackend.New("")
	if err != nil {
		t.Fatal(err)
	}
	g := graph.NewGraph(asXLA{backend}, "budget")
	lora := &LoRA{Rank: 16, Alpha: 16, Dropout: dropout}
	trainer := &Trainer{config: TrainConfig{Loss: Loss{Kind: LossSFT}}, adapter: &Adapter{Config: *lora},
		operands: operands{config: &config, lora: lora, names: []string{"rope.cos", "rope.sin"}}, model: &Model{Config: config}}
	var nodes []*graph.Node
	add := func(dtype dtypes.DType, dims ...int) {
		nodes = append(nodes, graph.Parameter(g, fmt.Sprintf("p%d", len(nodes)), shapes.Make(dtype, dims...)))
	}
	for range 2 {
		add(dtypes.Float32, config.MaxPositionEmbeddings, config.HeadDim/2)
	}
	for _, p := range config.parameters() {
		trainer.operands.names = append(trainer.operands.names, p.name)
		add(BFloat16.dtype(p), p.shape...)
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
	uploads := len(nodes) - operands
	for _, p := range trained {
		add(dtypes.Float32, p.shape...)
	}
	outputs, weights, _ := trainer.buildLoss(nodes, true)
	border := graph.NodeId(len(g.Nodes()))
	outputs = append(outputs, graph.Gradient(outputs[0], weights...)...)
	b := countGraph(outputs, border, length)
	b.uploads = uploads
	return b
}

// countGraph walks what the outputs need. Nodes from border on are the way back.
func countGraph(outputs []*graph.Node, border graph.NodeId, length int) graphBudget {
	var b graphBudget
	seen, kept := map[*graph.Node]bool{}, map[*graph.Node]bool{}
	var walk func(n *graph.Node)
	walk = func(n *graph.Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n.Type() == graph.NodeTypeDotGeneral {
			flops := productFLOPs(n)
			b.products++
			b.flops += flops
			if n.Inputs()[0].DType() == dtypes.Float32 {
				b.wideFLOPs += flops
			}
		}
		for _, in := range n.Inputs() {
			if padded := through(in, graph.NodeTypeIdentity); n.Type() == graph.NodeTypeSlice && padded.Type() == graph.NodeTypePad &&
				padded.Inputs()[0].Shape().Equal(n.Shape()) {
				in = padded.Inputs()[0] // XLA takes a fill and the cut that undoes it away
			}
			if n.Id() >= border && in.Id() < border {
				b.keep(in, kept, length)
			}
			walk(in)
		}
	}
	for _, n := range outputs {
		walk(n)
	}
	return b
}

// through goes back over nodes of a type.
func through(n *graph.Node, over graph.NodeType) *graph.Node {
	for n.Type() == over {
		n = n.Inputs()[0]
	}
	return n
}

// keep counts a tensor that lives until the way back, once. What only lies or is written otherwise is made of what it
// was: a widened bfloat16 is kept as that, a part of a tensor is counted whole.
func (b *graphBudget) keep(n *graph.Node, kept map[*graph.Node]bool, length int) {
	for {
		switch n.Type() {
		case graph.NodeTypeReshape, graph.NodeTypeTranspose, graph.NodeTypeBroadcastInDim, graph.NodeTypeIdentity, graph.NodeTypeSlice:
		case graph.NodeTypeConvertDType:
			if n.DType() != dtypes.Float32 {
				in := n.Inputs()[0] // rounded: kept once, whoever rounds it
				if in.Type() == graph.NodeTypeConvertDType && in.Inputs()[0].DType() == n.DType() {
					n = in
					break
				}
				for other := range kept {
					if other.Type() == graph.NodeTypeConvertDType && other.DType() == n.DType() && other.Inputs()[0] == in {
						return
					}
				}
				b.add(n, kept, length)
				return
			}
		case graph.NodeTypeConcatenate: // its parts lie side by side
			for _, in := range n.Inputs() {
				b.keep(in, kept, length)
			}
			return
		default:
			b.add(n, kept, length)
			return
		}
		n = n.Inputs()[0]
	}
}

// add counts a tensor that is kept as it is.
func (b *graphBudget) add(n *graph.Node, kept map[*graph.Node]bool, length int) {
	if kept[n] || n.Type() == graph.NodeTypeParameter || n.Type() == graph.NodeTypeConstant || n.IsConstantExpression() {
		return
	}
	kept[n] = true
	bytes := int(n.Shape().ByteSize())
	b.saved += bytes
	dims := n.Shape().Dimensions // the mask, [B, 1, N, N], is one for all layers and heads
	if len(dims) == 4 && dims[1] > 1 && dims[2] == length && dims[3] == length {
		b.square = n.Shape().String()
	}
}

var dotAxes = regexp.MustCompile(`(lhsContractingAxes|lhsBatchAxes)=\[([\d ]*)\]`)

// productFLOPs are 2·batch·m·n·k: every number of the result sums k products.
func productFLOPs(n *graph.Node) float64 {
	k := 1.0
	for _, m := range dotAxes.FindAllStringSubmatch(n.String(), -1) {
		if m[1] != "lhsContractingAxes" {
			continue
		}
		for _, axis := range strings.Fields(m[2]) {
			i, _ := strconv.Atoi(axis)
			k *= float64(n.Inputs()[0].Shape().Dimensions[i])
		}
	}
	return 2 * float64(n.Shape().Size()) * k
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
				b := gradientBudget(t, config, test.rows, test.length, dropout)
				wide, products := b.wideFLOPs/b.flops, float64(b.products)/float64(config.NumHiddenLayers)
				saved := float64(b.saved) / float64(test.rows*test.length)
				t.Logf("%.3g FLOPs, %.2f %% in float32; %.1f products a layer; %.2f MB a token kept; %d uploads",
					b.flops, 100*wide, products, saved/1e6, b.uploads)
				if wide > 0.005 {
					t.Errorf("%.2f %% of the FLOPs are in float32, want at most 0.5 %%", 100*wide)
				}
				if products > 46 {
					t.Errorf("%.1f products a layer, want at most 46", products)
				}
				if saved > test.saved {
					t.Errorf("%.2f MB a token are kept for the way back, want at most %.2f", saved/1e6, test.saved/1e6)
				}
				if b.square != "" {
					t.Errorf("%s is kept for the way back: attention's scores are to be computed again", b.square)
				}
				if b.uploads > 6 {
					t.Errorf("%d uploads a micro-batch, want at most 6", b.uploads)
				}
			})
		}
	}
}
