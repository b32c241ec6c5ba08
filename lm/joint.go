package lm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// Where products take operands of bfloat16, matrices of a base that read the same input lie below each other in one
// matrix, so that one product serves them all.

// jointModules has the joint matrix of the modules that have one.
var jointModules = map[string]string{
	"self_attn.q_proj": "self_attn.qkv_proj", "self_attn.k_proj": "self_attn.qkv_proj", "self_attn.v_proj": "self_attn.qkv_proj",
	"mlp.gate_proj": "mlp.gate_up_proj", "mlp.up_proj": "mlp.gate_up_proj",
}

// jointName is the weight that serves a module ("model.layers.0.self_attn.q_proj"): the joint one or its own.
func jointName(module string) string {
	at := strings.LastIndex(module, ".")
	at = strings.LastIndex(module[:max(at, 0)], ".") + 1
	if joint, ok := jointModules[module[at:]]; ok {
		return module[:at] + joint + ".weight"
	}
	return module + ".weight"
}

// A jointParameter is a weight as programs take it: one of the architecture, or several below each other.
type jointParameter struct {
	parameter
	parts []string
}

// jointParameters lists the architecture's weights with those joined that read the same input.
func (c *Config) jointParameters() []jointParameter {
	var list []jointParameter
	at := map[string]int{}
	for _, p := range c.parameters() {
		name := p.name
		if module, ok := strings.CutSuffix(name, ".weight"); ok {
			name = jointName(module)
		}
		i, known := at[name]
		if !known {
			at[name] = len(list)
			list = append(list, jointParameter{parameter{name, slices.Clone(p.shape)}, []string{p.name}})
			continue
		}
		list[i].shape[0] += p.shape[0]
		list[i].parts = append(list[i].parts, p.name)
	}
	return list
}

// rowsOf is the size of a module's output.
func (c *Config) rowsOf(module string) int {
	for _, m := range c.projections() {
		if strings.HasSuffix(module, m.name) {
			return m.out
		}
	}
	return 0
}

// join makes a weight of several parts on the engine. It has no copy on the host, and its parts, which no program takes
// then, none on the device.
func (m *Model) join(engine *Engine, p jointParameter) (*tensors.Tensor, error) {
	shape := shapes.Make(dtypes.BFloat16, p.shape...)
	data := make([]byte, 0, shape.ByteSize())
	for _, part := range p.parts {
		err := m.weights[part].ConstBytes(func(bytes []byte) { data = append(data, bytes...) })
		if err != nil {
			return nil, fmt.Errorf("weight %s: %w", part, err)
		}
	}
	t, err := tensors.FromRaw(engine.Backend, 0, shape, data)
	if err != nil {
		return nil, fmt.Errorf("weight %s: %w", p.name, err)
	}
	engine.loaded.Add(t.ByteSize())
	return t, nil
}

// programParameters lists a model's weights as programs of the engine take them.
func programParameters(engine *Engine, model *Model) []jointParameter {
	if engine != nil && halved(engine.Backend, model.weights[embeddingWeight].DType()) && !engine.ablated[ablateJoint] {
		return model.Config.jointParameters()
	}
	return model.Config.singleParameters()
}

// singleParameters lists the architecture's weights as programs take them that join none.
func (c *Config) singleParameters() []jointParameter {
	var list []jointParameter
	for _, p := range c.parameters() {
		list = append(list, jointParameter{p, []string{p.name}})
	}
	return list
}

// operand is the tensor of a parameter. A joint one stays on the engine as long as the model.
func (m *Model) operand(engine *Engine, p jointParameter) (*tensors.Tensor, error) {
	if len(p.parts) == 1 {
		return m.weights[p.name], nil
	}
	m.joining.Lock()
	defer m.joining.Unlock()
	if t := m.joined[p.name]; t != nil {
		return t, nil
	}
	t, err := m.join(engine, p)
	if err != nil {
		return nil, err
	}
	if m.joined == nil {
		m.joined = map[string]*tensors.Tensor{}
	}
	m.joined[p.name] = t
	return t, nil
}

// borrow is operand for a moment: what is not on the device yet is taken off it again by giveBack.
func (m *Model) borrow(engine *Engine, p jointParameter) (t *tensors.Tensor, giveBack func(), err error) {
	if len(p.parts) == 1 {
		t = m.weights[p.name]
		if t.IsOnAnyDevice() || engine.Backend.HasSharedBuffers() {
			return t, func() {}, nil
		}
		return t, func() { _ = t.InvalidateOnDevice() }, nil // fails on what is gone already
	}
	m.joining.Lock()
	defer m.joining.Unlock()
	if t = m.joined[p.name]; t != nil {
		return t, func() {}, nil
	}
	t, err = m.join(engine, p)
	return t, func() { release(t) }, err
}

// Unload takes the weights off the device that they were used on; what uses them next uploads them again. Nothing that was
// made with the model may be in use. Where a device is the host's own memory they stay, but for those of several parts.
func (m *Model) Unload() {
	m.joining.Lock()
	defer m.joining.Unlock()
	release(slices.Collect(maps.Values(m.joined))...)
	clear(m.joined)
	for _, t := range slices.AppendSeq(m.rope[:], maps.Values(m.weights)) {
		_ = t.InvalidateOnDevice() // fails on what is gone already
	}
}
