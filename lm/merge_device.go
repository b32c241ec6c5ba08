package lm

import (
	"fmt"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// mergedOperands are a model's weights with an adapter added, W + Scale · B A, summed on the device in float32 and
// rounded to the weight's type. It goes from weight to weight, and a base weight that is not on the device otherwise is
// there for its sum alone: it takes room for one model and one weight. own are the tensors that are the caller's.
func mergedOperands(engine *Engine, model *Model, adapter *Adapter) (o operands, own []*tensors.Tensor, err error) {
	o, err = operandsOf(nil, model, nil) // the rope tables
	if err != nil {
		return o, nil, err
	}
	o.names, o.tensors = o.names[:2:2], o.tensors[:2:2]
	p := newProgram(engine, "merge", func(n []*Node) []*Node {
		added := DotGeneral(n[2], []int{1}, nil, n[1], []int{0}, nil) // b [out, rank] times a [rank, in]
		return []*Node{ConvertDType(Add(widen(n[0]), MulScalar(added, adapter.Config.Scale())), n[0].DType())}
	})
	defer p.close()
	merge := func(w jointParameter) (*tensors.Tensor, error) {
		a, b, err := adapter.joint(&model.Config, w)
		if err != nil {
			return nil, err
		}
		if a == nil {
			return model.operand(engine, w)
		}
		defer release(a, b)
		base, giveBack, err := model.borrow(engine, w)
		if err != nil {
			return nil, err
		}
		defer giveBack()
		out, err := p.run(keep(base, a, b))
		if err != nil {
			return nil, err
		}
		own = append(own, out[0])
		return out[0], nil
	}
	for _, w := range programParameters(engine, model) {
		t, err := merge(w)
		if err != nil {
			return o, own, fmt.Errorf("merge %s: %w", w.name, err)
		}
		o.names, o.tensors = append(o.names, w.name), append(o.tensors, t)
	}
	return o, own, nil
}

// joint are the A's of a weight's parts, below each other, [ranks, in], and their B's along a diagonal, [out, ranks];
// nil where the adapter has none for them.
func (a *Adapter) joint(c *Config, w jointParameter) (down, up *tensors.Tensor, err error) {
	if len(w.shape) != 2 {
		return nil, nil, nil
	}
	var fa []float32
	type block struct {
		row, out int
		values   []float32
	}
	var blocks []block
	row := 0
	for _, part := range w.parts {
		module := strings.TrimSuffix(part, ".weight")
		if t := a.weights[module+".lora_A.weight"]; t != nil {
			values, err := floats(t)
			if err != nil {
				return nil, nil, err
			}
			fa = append(fa, values...)
			up := a.weights[module+".lora_B.weight"]
			if values, err = floats(up); err != nil {
				return nil, nil, err
			}
			blocks = append(blocks, block{row, up.Shape().Dimensions[0], values})
		}
		row += c.rowsOf(module)
	}
	if len(blocks) == 0 {
		return nil, nil, nil
	}
	rank := a.Config.Rank
	ranks := rank * len(blocks)
	fb := make([]float32, w.shape[0]*ranks)
	for i, b := range blocks {
		for o := range b.out {
			copy(fb[(b.row+o)*ranks+i*rank:], b.values[o*rank:(o+1)*rank])
		}
	}
	return tensors.FromFlatDataAndDimensions(fa, ranks, w.shape[1]), tensors.FromFlatDataAndDimensions(fb, w.shape[0], ranks), nil
}
