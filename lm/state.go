package lm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/gomlx/gomlx/core/tensors"
)

// stateFormat names the layout of a trainer's state; change it when the layout or the meaning of a step changes.
const stateFormat = "esclab-trainer-1"

// Save writes the trainer's state between steps: trained weights, AdamW's moments and the step, from which data
// order, dropout and learning rate follow. One safetensors stream, the same bytes for the same state. After a step that
// went wrong before it changed a weight (DivergedError.Intact) it writes the state before that step.
func (t *Trainer) Save(w io.Writer) error {
	if t.failed != nil && !t.intact {
		return fmt.Errorf("save training state: %w", t.failed)
	}
	all := map[string]*tensors.Tensor{}
	for i, name := range t.trainedNames() {
		all["weights/"+name], all["first/"+name], all["second/"+name] = t.weights[i], t.first[i], t.second[i]
	}
	metadata := map[string]string{"format": stateFormat, "step": strconv.Itoa(t.step), "inputs": t.digest}
	if err := writeSafetensors(w, all, metadata); err != nil {
		return fmt.Errorf("save training state: %w", err)
	}
	return nil
}

// Restore continues from a saved state. It must come from a trainer of the same configuration, data and
// architecture; the frozen weights are the caller's to keep the same.
func (t *Trainer) Restore(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("restore training state: %w", err)
	}
	f, err := parseTensorFile("training state", data)
	if err != nil {
		return fmt.Errorf("restore training state: %w", err)
	}
	step, err := strconv.Atoi(f.metadata["step"])
	switch {
	case f.metadata["format"] != stateFormat:
		return fmt.Errorf("restore training state: format %q, not %q", f.metadata["format"], stateFormat)
	case f.metadata["inputs"] != t.digest:
		return fmt.Errorf("restore training state: it was saved with another configuration, data set or architecture (inputs %s, here %s)",
			f.metadata["inputs"], t.digest)
	case err != nil || step < 0 || step > t.Steps():
		return fmt.Errorf("restore training state: step %q of %d", f.metadata["step"], t.Steps())
	}
	names := t.trainedNames()
	if len(f.tensors) != 3*len(names) {
		return fmt.Errorf("restore training state: %d tensors, not %d", len(f.tensors), 3*len(names))
	}
	read := func(prefix string) ([]*tensors.Tensor, error) {
		list := make([]*tensors.Tensor, len(names))
		for i, name := range names {
			shape := t.operands.tensors[t.trainable[i]].Shape().Dimensions
			if h, ok := f.tensors[prefix+name]; ok && !slices.Equal(h.Shape, shape) {
				return nil, fmt.Errorf("tensor %s has shape %v, not %v", prefix+name, h.Shape, shape)
			}
			values, err := f.float32s(prefix + name)
			if err != nil {
				return nil, err
			}
			list[i] = tensors.FromFlatDataAndDimensions(values, shape...)
		}
		return list, nil
	}
	var parts [3][]*tensors.Tensor
	for i, prefix := range []string{"weights/", "first/", "second/"} {
		if parts[i], err = read(prefix); err != nil {
			return fmt.Errorf("restore training state: %w", err)
		}
	}
	for _, list := range [][]*tensors.Tensor{t.weights, t.first, t.second} {
		release(list...)
	}
	t.weights, t.first, t.second = parts[0], parts[1], parts[2]
	t.clearSums()
	t.step, t.failed, t.intact = step, nil, false
	return nil
}

// Adapter returns a copy of the adapter as trained so far.
func (t *Trainer) Adapter() (*Adapter, error) {
	if t.adapter == nil {
		return nil, fmt.Errorf("all weights are trained: there is no adapter, take the model")
	}
	weights, err := t.trained()
	if err != nil {
		return nil, err
	}
	return &Adapter{Config: t.adapter.Config, weights: weights}, nil
}

// Model returns a copy of the model as trained so far; with an adapter, the base model itself.
func (t *Trainer) Model() (*Model, error) {
	if t.adapter != nil {
		return t.model, nil
	}
	weights, err := t.trained()
	if err != nil {
		return nil, err
	}
	return newModel(t.model.Config, weights), nil
}

// trained copies the trained weights by name.
func (t *Trainer) trained() (map[string]*tensors.Tensor, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	weights := map[string]*tensors.Tensor{}
	for i, name := range t.trainedNames() {
		values, err := floats(t.weights[i])
		if err != nil {
			return nil, fmt.Errorf("weight %s: %w", name, err)
		}
		weights[name] = tensors.FromFlatDataAndDimensions(values, t.weights[i].Shape().Dimensions...)
	}
	return weights, nil
}

// inputDigest is the SHA-256 of everything but frozen weights that decides the steps.
func (t *Trainer) inputDigest() string {
	h := sha256.New()
	var lora *LoRA
	if t.adapter != nil {
		lora = &t.adapter.Config
	}
	config := t.config
	config.Checkpointing = false // the same bits, so a training goes on wherever it fits
	head, err := json.Marshal([]any{t.model.Config, lora, config, len(t.data.Examples)})
	if err != nil { // plain structs of numbers and strings
		panic(fmt.Sprintf("encode configuration: %v", err))
	}
	h.Write(head)
	for i := range t.data.Examples {
		e := &t.data.Examples[i]
		fmt.Fprintf(h, "\n%q %d %v", e.Group, len(e.Sequences), e.Reference)
		for j := range e.Sequences {
			s := &e.Sequences[j]
			fmt.Fprintf(h, " %d %d %v ", len(s.Tokens), s.LossFrom, s.Weights)
			_ = binary.Write(h, binary.LittleEndian, s.Tokens) // a hash does not fail
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
