package lm

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// fitMemory turns Checkpointing on where the model and what the largest micro-batch keeps for its way back are more than
// the configuration's limit. The graph is built for that, and not compiled.
func (t *Trainer) fitMemory() error {
	if t.config.MemoryLimit <= 0 || t.config.Checkpointing {
		return nil
	}
	bytes, err := t.keeps()
	if err != nil {
		return err
	}
	t.config.Checkpointing = bytes > t.config.MemoryLimit
	return nil
}

// Recomputes says whether layers are computed again on the way back.
func (t *Trainer) Recomputes() bool { return t.config.Checkpointing }

// keeps is about what a training takes: its operands, gradients and moments, and what the largest micro-batch keeps for
// its way back. Temporary tensors come on top of it.
func (t *Trainer) keeps() (bytes int64, err error) {
	defer recovered("estimate of memory", &err)
	var largest shape
	for _, s := range t.planner.shapes {
		if t.planner.cost.of(s) > t.planner.cost.of(largest) {
			largest = s
		}
	}
	p := (&microBatch{length: largest.length}).fill(largest)
	given := append(p.tensors(), t.extras(p, t.data.Examples, 1, BatchKL{})...)
	if t.drops() {
		given = append(given, t.dropoutInput(p, 0))
	}
	defer release(given...)
	g := t.engine.newGraph("estimate")
	defer g.Finalize()
	var nodes []*graph.Node
	for _, list := range [][]*tensors.Tensor{t.operands.tensors, given, t.sums} {
		for _, tensor := range list {
			nodes = append(nodes, graph.Parameter(g, "p"+strconv.Itoa(len(nodes)), tensor.Shape()))
		}
	}
	outputs, trained, _ := t.buildLoss(nodes, true)
	border := graph.NodeId(len(g.Nodes()))
	b := countGraph(append(outputs, graph.Gradient(outputs[0], trained...)...), border, largest.length)
	bytes = int64(b.saved)
	for _, o := range t.operands.tensors {
		bytes += int64(o.Shape().ByteSize())
	}
	for _, list := range [][]*tensors.Tensor{t.weights, t.first, t.second, t.sums} {
		for _, tensor := range list {
			bytes += int64(tensor.Shape().ByteSize())
		}
	}
	return bytes, nil
}

// A graphBudget is what a training graph costs, by its nodes alone.
type graphBudget struct {
	flops, wideFLOPs float64 // of matrix products; of those whose operands are float32
	products         int
	saved            int    // bytes that the way back takes from the way there
	square           string // a saved tensor with two axes of a row's length; "" without one
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
		case graph.NodeTypeReshape, graph.NodeTypeTranspose, graph.NodeTypeBroadcastInDim, graph.NodeTypeIdentity,
			graph.NodeTypeSlice, graph.NodeTypePad:
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
