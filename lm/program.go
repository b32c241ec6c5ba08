package lm

import (
	"fmt"
	"strings"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// A program is a graph function compiled once for each shape of its inputs. It is the border between graph code,
// which panics, and the rest, which returns errors.
type program struct {
	engine *Engine
	name   string
	build  func(inputs []*graph.Node) []*graph.Node

	mu     sync.Mutex
	graphs map[string]*graph.Graph
}

func newProgram(engine *Engine, name string, build func(inputs []*graph.Node) []*graph.Node) *program {
	return &program{engine: engine, name: name, build: build, graphs: map[string]*graph.Graph{}}
}

// An input is a tensor given to a program; a donated one is consumed, its memory free for the results.
type input struct {
	tensor *tensors.Tensor
	donate bool
}

// keep and donate wrap tensors as inputs.
func keep(list ...*tensors.Tensor) []input   { return wrap(list, false) }
func donate(list ...*tensors.Tensor) []input { return wrap(list, true) }

func wrap(list []*tensors.Tensor, donated bool) []input {
	inputs := make([]input, len(list))
	for i, t := range list {
		inputs[i] = input{t, donated}
	}
	return inputs
}

// shapes is the number of compiled graphs.
func (p *program) shapes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.graphs)
}

// run executes the graph for the inputs' shapes, compiling it first where it is new. Results stay on the device.
func (p *program) run(inputs []input) (results []*tensors.Tensor, err error) {
	defer recovered(p.name, &err)
	g, err := p.graph(inputs)
	if err != nil {
		return nil, err
	}
	backend := p.engine.Backend
	buffers, donated := make([]compute.Buffer, len(inputs)), make([]bool, len(inputs))
	for i, in := range inputs {
		donated[i] = in.donate
		if !in.tensor.IsOnAnyDevice() {
			p.engine.loaded.Add(in.tensor.ByteSize())
		}
		if in.donate {
			buffers[i], err = in.tensor.DonateBuffer(backend, 0)
		} else {
			buffers[i], err = in.tensor.Buffer(backend, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: input %d of %s: %w", p.name, i, in.tensor.Shape(), err)
		}
	}
	return g.RunWithBuffers(buffers, donated, 0), nil
}

// graph returns the compiled graph for the inputs' shapes.
func (p *program) graph(inputs []input) (*graph.Graph, error) {
	var key strings.Builder
	for _, in := range inputs {
		shape := in.tensor.Shape()
		fmt.Fprintf(&key, "%d%v", shape.DType, shape.Dimensions)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.graphs[key.String()]; g != nil {
		return g, nil
	}
	g := p.engine.newGraph(p.name)
	nodes := make([]*graph.Node, len(inputs))
	for i, in := range inputs {
		nodes[i] = graph.Parameter(g, fmt.Sprintf("p%d", i), in.tensor.Shape())
	}
	if err := g.Compile(p.build(nodes)...); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	p.graphs[key.String()] = g
	p.engine.shapes.Add(1)
	return g, nil
}

// close releases the compiled graphs.
func (p *program) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.graphs {
		g.Finalize()
	}
	clear(p.graphs)
}

// recovered turns a panic of graph code into an error.
func recovered(name string, err *error) {
	switch r := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("%s: %w", name, r)
	default:
		*err = fmt.Errorf("%s: %v", name, r)
	}
}

// scalar reads a result's only number.
func scalar(t *tensors.Tensor) (value float64, err error) {
	err = tensors.ConstFlatData(t, func(flat []float32) { value = float64(flat[0]) })
	return value, err
}

// floats copies a tensor of float32 or bfloat16 to the host, as float32.
func floats(t *tensors.Tensor) ([]float32, error) {
	if t.DType() != dtypes.BFloat16 {
		return tensors.CopyFlatData[float32](t)
	}
	values := make([]float32, t.Size())
	err := tensors.ConstFlatData(t, func(flat []bfloat16.BFloat16) {
		for i, v := range flat {
			values[i] = v.Float32()
		}
	})
	return values, err
}

// appendRows appends rows of d numbers of a tensor of float32 or bfloat16.
func appendRows(list []float32, t *tensors.Tensor, d int, rows []int32) ([]float32, error) {
	if t.DType() != dtypes.BFloat16 {
		err := tensors.ConstFlatData(t, func(flat []float32) {
			for _, r := range rows {
				list = append(list, flat[int(r)*d:(int(r)+1)*d]...)
			}
		})
		return list, err
	}
	err := tensors.ConstFlatData(t, func(flat []bfloat16.BFloat16) {
		for _, r := range rows {
			for _, v := range flat[int(r)*d : (int(r)+1)*d] {
				list = append(list, v.Float32())
			}
		}
	})
	return list, err
}

// release frees tensors on every device at once rather than at the garbage collector's leisure.
func release(list ...*tensors.Tensor) {
	for _, t := range list {
		if t != nil {
			_ = t.FinalizeAll() // only fails on tensors that are gone already
		}
	}
}
