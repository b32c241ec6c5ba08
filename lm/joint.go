package lm

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

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

// upload makes a weight on the engine that has no copy in the host's memory: of several parts, which no program takes then
// by themselves, or of what is left in its file.
func (m *Model) upload(engine *Engine, p jointParameter) (t *tensors.Tensor, err error) {
	shape := shapes.Make(m.dtype(p.parts[0]), p.shape...)
	place := func(data []byte) error {
		var err error
		t, err = tensors.FromRaw(engine.Backend, 0, shape, data)
		return err
	}
	if len(p.parts) == 1 {
		err = m.bytes(p.name, place)
	} else {
		all := make([]byte, 0, shape.ByteSize())
		for _, part := range p.parts {
			if err = m.bytes(part, func(data []byte) error { all = append(all, data...); return nil }); err != nil {
				break
			}
		}
		if err == nil {
			err = place(all)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("weight %s: %w", p.name, err)
	}
	engine.loaded.Add(t.ByteSize())
	return t, nil
}

// bytes gives a weight's to use, which may not keep them.
func (m *Model) bytes(name string, use func([]byte) error) error {
	if f := m.mapped[name]; f != nil {
		_, data, err := f.floatData(name)
		if err == nil {
			err = use(data)
		}
		runtime.KeepAlive(m) // the mapping is
		return err
	}
	var failed error
	err := m.weights[name].ConstBytes(func(data []byte) { failed = use(data) })
	return errors.Join(err, failed)
}

// programParameters lists a model's weights as programs of the engine take them.
func programParameters(engine *Engine, model *Model) []jointParameter {
	if engine != nil && halved(engine.Backend, model.baseDType()) && !engine.ablated[ablateJoint] {
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

// onHost says whether programs of the engine take a parameter's tensor from the host's memory.
func (m *Model) onHost(engine *Engine, p jointParameter) bool {
	return len(p.parts) == 1 && (m.mapped[p.name] == nil || engine == nil || !engine.Uploads())
}

// operand is the tensor of a parameter. One that is not in the host's memory stays on the engine until Unload.
func (m *Model) operand(engine *Engine, p jointParameter) (*tensors.Tensor, error) {
	if m.onHost(engine, p) {
		return m.weight(p.name)
	}
	m.uploading.Lock()
	defer m.uploading.Unlock()
	if t := m.uploaded[p.name]; t != nil {
		return t, nil
	}
	t, err := m.upload(engine, p)
	if err != nil {
		return nil, err
	}
	if m.uploaded == nil {
		m.uploaded = map[string]*tensors.Tensor{}
	}
	m.uploaded[p.name] = t
	return t, nil
}

// borrow is operand for a moment: what is not on the device yet is taken off it again by giveBack.
func (m *Model) borrow(engine *Engine, p jointParameter) (t *tensors.Tensor, giveBack func(), err error) {
	if m.onHost(engine, p) {
		t, err = m.weight(p.name)
		if err != nil || t.IsOnAnyDevice() || engine.Backend.HasSharedBuffers() {
			return t, func() {}, err
		}
		return t, func() { _ = t.InvalidateOnDevice() }, nil // fails on what is gone already
	}
	m.uploading.Lock()
	defer m.uploading.Unlock()
	if t = m.uploaded[p.name]; t != nil {
		return t, func() {}, nil
	}
	t, err = m.upload(engine, p)
	return t, func() { release(t) }, err
}

// Unload takes the weights off the device that they were used on; what uses them next uploads them again. Nothing that was
// made with the model may be in use. Where a device is the host's own memory those stay that are no copies.
func (m *Model) Unload() {
	m.uploading.Lock()
	defer m.uploading.Unlock()
	release(slices.Collect(maps.Values(m.uploaded))...)
	clear(m.uploaded)
	for _, t := range slices.AppendSeq(m.rope[:], maps.Values(m.weights)) {
		_ = t.InvalidateOnDevice() // fails on what is gone already
	}
}
