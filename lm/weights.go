package lm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Model is a configuration with its weights, in float32. The weights are never changed by this package; once used
// on an engine they stay with it (load a second Model for a second engine).
type Model struct {
	Config  Config
	weights map[string]*tensors.Tensor // by Hugging Face name
	rope    [2]*tensors.Tensor         // cos, sin: [MaxPositionEmbeddings, HeadDim/2]
}

// initialDeviation is Hugging Face's initializer_range.
const initialDeviation = 0.02

// NewModel makes a model with random weights: matrices and embeddings normal with deviation 0.02, biases 0, norms
// 1, each drawn from (seed, its name).
func NewModel(config Config, seed uint64) (*Model, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	weights := map[string]*tensors.Tensor{}
	for _, p := range config.parameters() {
		values := make([]float32, shapeSize(p.shape))
		switch {
		case strings.HasSuffix(p.name, ".bias"):
		case len(p.shape) == 1:
			for i := range values {
				values[i] = 1
			}
		default:
			s := newStream(seed, purposeInit, named(p.name))
			for i := range values {
				values[i] = float32(s.normal() * initialDeviation)
			}
		}
		weights[p.name] = tensors.FromFlatDataAndDimensions(values, p.shape...)
	}
	return newModel(config, weights), nil
}

func newModel(config Config, weights map[string]*tensors.Tensor) *Model {
	cos, sin := config.ropeTables(config.MaxPositionEmbeddings)
	half := config.HeadDim / 2
	return &Model{Config: config, weights: weights, rope: [2]*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(cos, config.MaxPositionEmbeddings, half),
		tensors.FromFlatDataAndDimensions(sin, config.MaxPositionEmbeddings, half),
	}}
}

// LoadModel reads a directory in Hugging Face's layout: config.json and model.safetensors or its shards, converted
// to float32. Every tensor the architecture has must be there with its shape, and every tensor there must be used.
func LoadModel(dir string) (*Model, error) {
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	files, closeAll, err := tensorFiles(dir, "model")
	if err != nil {
		return nil, err
	}
	defer closeAll()
	weights := map[string]*tensors.Tensor{}
	for _, p := range config.parameters() {
		t, err := readTensor(files, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		weights[p.name] = t
		delete(files, p.name)
	}
	var unused []string
	for name := range files {
		// Old checkpoints carry the rotary frequencies, and tied ones sometimes the head again: both are derived.
		if strings.HasSuffix(name, "rotary_emb.inv_freq") || config.TieWordEmbeddings && name == "lm_head.weight" {
			continue
		}
		unused = append(unused, name)
	}
	if len(unused) > 0 {
		sort.Strings(unused)
		return nil, fmt.Errorf("%s: %d tensors have no place in a %s model, the first is %s: is config.json another model's?",
			dir, len(unused), config.ModelType, unused[0])
	}
	return newModel(config, weights), nil
}

// readTensor reads one parameter from the file that has it.
func readTensor(files map[string]*tensorFile, p parameter) (*tensors.Tensor, error) {
	f := files[p.name]
	if f == nil {
		return nil, fmt.Errorf("tensor %s %v is missing", p.name, p.shape)
	}
	if shape := f.tensors[p.name].Shape; !slices.Equal(shape, p.shape) {
		return nil, fmt.Errorf("%s: tensor %s has shape %v, the configuration says %v", f.path, p.name, shape, p.shape)
	}
	values, err := f.float32s(p.name)
	if err != nil {
		return nil, err
	}
	return tensors.FromFlatDataAndDimensions(values, p.shape...), nil
}

// Save writes config.json and model.safetensors (float32) into dir, which is created if need be.
func (m *Model) Save(dir string) error {
	config := struct {
		Architectures []string `json:"architectures"`
		Config
		TorchDType string `json:"torch_dtype"`
	}{[]string{map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[m.Config.ModelType]}, m.Config, "float32"}
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error {
		return writeSafetensors(w, m.weights, map[string]string{"format": "pt"})
	})
}

// Parameters is the number of weights.
func (m *Model) Parameters() int {
	n := 0
	for _, t := range m.weights {
		n += t.Size()
	}
	return n
}

// writeJSON writes a value indented, with a final newline.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// writeFile writes a file whole or not at all: into a temporary file beside it, then renamed.
func writeFile(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	buffered := bufio.NewWriterSize(file, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// shapeSize is the number of elements of a shape.
func shapeSize(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// operands are a model's weights and an adapter's in the fixed order in which programs take them.
type operands struct {
	config  *Config
	lora    *LoRA
	names   []string
	tensors []*tensors.Tensor

	maxLogits int // of its decoders
}

// operandsOf lists the rope tables, the model's weights and, with an adapter, its weights.
func operandsOf(model *Model, adapter *Adapter) operands {
	o := operands{config: &model.Config, names: []string{"rope.cos", "rope.sin"}, tensors: model.rope[:]}
	o.tensors = slices.Clone(o.tensors)
	for _, p := range model.Config.parameters() {
		o.names = append(o.names, p.name)
		o.tensors = append(o.tensors, model.weights[p.name])
	}
	if adapter != nil {
		o.lora = &adapter.Config
		for _, p := range adapter.Config.parameters(&model.Config) {
			o.names = append(o.names, p.name)
			o.tensors = append(o.tensors, adapter.weights[p.name])
		}
	}
	return o
}

// decoder binds the operands' graph nodes, in the same order, to a decoder.
func (o operands) decoder(nodes []*graph.Node) *decoder {
	d := &decoder{config: o.config, lora: o.lora, weights: map[string]*graph.Node{}, maxLogits: o.maxLogits}
	d.rope = [2]*graph.Node{nodes[0], nodes[1]}
	for i, name := range o.names[2:] {
		d.weights[name] = nodes[i+2]
	}
	return d
}

// zeros is a tensor of zeros.
func zeros(shape []int) *tensors.Tensor {
	return tensors.FromShape(shapes.Make(dtypes.Float32, shape...))
}
