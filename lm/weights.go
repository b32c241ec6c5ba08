package lm

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"golang.org/x/sync/errgroup"
)

// Model is a configuration with its weights, in float32 or, where they are not trained, in bfloat16 (LoadOptions). The
// weights are never changed by this package; once used on an engine they stay with it (load a second Model for a second
// engine).
type Model struct {
	Config  Config
	weights map[string]*tensors.Tensor // by Hugging Face name
	mapped  map[string]*tensorFile     // of the weights that are left in their files
	rope    [2]*tensors.Tensor         // cos, sin: [MaxPositionEmbeddings, HeadDim/2]

	uploading sync.Mutex
	uploaded  map[string]*tensors.Tensor // weights without a copy in the host's memory, on the engine that the model is used on
}

// initialDeviation is Hugging Face's initializer_range.
const initialDeviation = 0.02

// NewModel makes a model with random weights: matrices and embeddings normal with deviation 0.02, biases 0, norms
// 1, each drawn from (seed, its name).
func NewModel(config Config, seed uint64) (*Model, error) {
	return NewModelWith(config, seed, LoadOptions{})
}

// NewModelWith is NewModel with the weights kept as the options say, drawn on all processors.
func NewModelWith(config Config, seed uint64, options LoadOptions) (*Model, error) {
	if err := options.BaseType.check(); err != nil {
		return nil, err
	}
	if err := config.complete(); err != nil {
		return nil, err
	}
	return gatherModel(config, options, func(p parameter, dtype dtypes.DType) (*tensors.Tensor, error) {
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
		if dtype == dtypes.BFloat16 {
			return tensors.FromFlatDataAndDimensions(bfloat16.FromFloat32s(values...), p.shape...), nil
		}
		return tensors.FromFlatDataAndDimensions(values, p.shape...), nil
	})
}

// gatherModel makes a model of tensors that are made one by one, on all processors; nil of those that are elsewhere.
func gatherModel(config Config, options LoadOptions, one func(p parameter, dtype dtypes.DType) (*tensors.Tensor, error)) (*Model, error) {
	parameters := config.parameters()
	made := make([]*tensors.Tensor, len(parameters))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range parameters {
		group.Go(func() (err error) {
			made[i], err = one(p, options.BaseType.dtype(p))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	weights := make(map[string]*tensors.Tensor, len(parameters))
	for i, p := range parameters {
		if made[i] != nil {
			weights[p.name] = made[i]
		}
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

// LoadOptions tune how a model is read or made; the zero value is a good default.
type LoadOptions struct {
	BaseType BaseType // "": float32
	// Mapped leaves weights in their files that lie there in the type that they are kept in. It is for engines that
	// upload weights (Engine.Uploads), which take them from there. Nobody may change the files while there is the model.
	Mapped bool
}

// LoadModel reads a directory in Hugging Face's layout: config.json and model.safetensors or its shards in f32, f16 or
// bf16, converted to float32. Every tensor the architecture has must be there with its shape, and every tensor there
// must be used.
func LoadModel(dir string) (*Model, error) { return LoadModelWith(dir, LoadOptions{}) }

// LoadModelWith is LoadModel with options. Files are mapped and tensors converted straight into their place, on all
// processors: nothing is read twice, and besides the model itself nothing stays in memory.
func LoadModelWith(dir string, options LoadOptions) (*Model, error) {
	if err := options.BaseType.check(); err != nil {
		return nil, err
	}
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	files, closeAll, err := tensorFiles(dir, "model")
	if err != nil {
		return nil, err
	}
	var model *Model
	defer func() {
		if model == nil || len(model.mapped) == 0 {
			closeAll()
		}
	}()
	if err := checkTensors(dir, &config, files); err != nil {
		return nil, err
	}
	left := func(p parameter, dtype dtypes.DType) bool {
		return options.Mapped && files[p.name].keeps(p.name, dtype)
	}
	model, err = gatherModel(config, options, func(p parameter, dtype dtypes.DType) (*tensors.Tensor, error) {
		if left(p, dtype) {
			return nil, nil
		}
		return readTensorAs(files, p, dtype)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	model.mapped = map[string]*tensorFile{}
	for _, p := range config.parameters() {
		if left(p, options.BaseType.dtype(p)) {
			model.mapped[p.name] = files[p.name]
		}
	}
	if len(model.mapped) > 0 {
		runtime.AddCleanup(model, func(unmap func()) { unmap() }, closeAll)
	}
	return model, nil
}

// weight is a weight in the host's memory, nil where the model has none of that name. Of one that is left in its file it
// is a copy, which the model does not keep.
func (m *Model) weight(name string) (*tensors.Tensor, error) {
	f := m.mapped[name]
	if f == nil {
		return m.weights[name], nil
	}
	t, err := readTensorAs(m.mapped, parameter{name, f.tensors[name].Shape}, m.dtype(name))
	runtime.KeepAlive(m) // the mapping is
	return t, err
}

// dtype is the type that a weight is kept in.
func (m *Model) dtype(name string) dtypes.DType {
	if f := m.mapped[name]; f != nil {
		return f.dtype(name)
	}
	return m.weights[name].DType()
}

// baseDType is the type that the matrices are kept in.
func (m *Model) baseDType() dtypes.DType { return m.dtype(embeddingWeight) }

// CheckModel says whether LoadModel would find what it needs in a directory, from the files' headers alone.
func CheckModel(dir string) error {
	config, err := ReadConfig(dir)
	if err != nil {
		return err
	}
	files, closeAll, err := tensorFiles(dir, "model")
	if err != nil {
		return err
	}
	defer closeAll()
	return checkTensors(dir, &config, files)
}

// checkTensors says whether a directory has exactly the tensors of the architecture, in their shapes.
func checkTensors(dir string, config *Config, files map[string]*tensorFile) error {
	known := map[string]bool{}
	for _, p := range config.parameters() {
		if _, err := findTensor(files, p); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		known[p.name] = true
	}
	var unused []string
	for name := range files {
		// Old checkpoints carry the rotary frequencies, and tied ones sometimes the head again: both are derived.
		if known[name] || strings.HasSuffix(name, "rotary_emb.inv_freq") {
			continue
		}
		if config.TieWordEmbeddings && name == headWeight {
			if !sameTensor(files, headWeight, embeddingWeight) {
				return fmt.Errorf("%s: tie_word_embeddings is true, but %s is another matrix than %s: "+
					"set tie_word_embeddings to false in config.json if the model was trained with a head of its own, or remove the tensor",
					dir, headWeight, embeddingWeight)
			}
			continue
		}
		unused = append(unused, name)
	}
	if len(unused) > 0 {
		sort.Strings(unused)
		return fmt.Errorf("%s: %d tensors have no place in a %s model, the first is %s: is config.json another model's?",
			dir, len(unused), config.ModelType, unused[0])
	}
	return nil
}

// The two matrices over the vocabulary.
const (
	embeddingWeight = "model.embed_tokens.weight"
	headWeight      = "lm_head.weight"
)

// sameTensor says whether two tensors have the same type, shape and bytes.
func sameTensor(files map[string]*tensorFile, one, other string) bool {
	f, g := files[one], files[other]
	a, b := f.tensors[one], g.tensors[other]
	return a.DType == b.DType && slices.Equal(a.Shape, b.Shape) &&
		bytes.Equal(f.data[a.Offsets[0]:a.Offsets[1]], g.data[b.Offsets[0]:b.Offsets[1]])
}

// findTensor is the file that has a parameter, in the right shape.
func findTensor(files map[string]*tensorFile, p parameter) (*tensorFile, error) {
	f := files[p.name]
	if f == nil {
		return nil, fmt.Errorf("tensor %s %v is missing", p.name, p.shape)
	}
	if shape := f.tensors[p.name].Shape; !slices.Equal(shape, p.shape) {
		return nil, fmt.Errorf("%s: tensor %s has shape %v, the configuration says %v", f.path, p.name, shape, p.shape)
	}
	return f, nil
}

// readTensor reads one parameter from the file that has it, as float32.
func readTensor(files map[string]*tensorFile, p parameter) (*tensors.Tensor, error) {
	return readTensorAs(files, p, dtypes.Float32)
}

// readTensorAs reads one parameter from the file that has it, as float32 or bfloat16.
func readTensorAs(files map[string]*tensorFile, p parameter, dtype dtypes.DType) (*tensors.Tensor, error) {
	f, err := findTensor(files, p)
	if err != nil {
		return nil, err
	}
	h, data, err := f.floatData(p.name)
	if err != nil {
		return nil, err
	}
	return newTensor(h.DType, data, dtype, p.shape), nil
}

// Save writes config.json and model.safetensors (float32) into dir, which is created if need be.
func (m *Model) Save(dir string) error {
	if err := m.Config.save(dir); err != nil {
		return err
	}
	all := maps.Clone(m.weights)
	for name := range m.mapped {
		var err error
		if all[name], err = m.weight(name); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error {
		return writeSafetensors(w, all, map[string]string{"format": "pt"})
	})
}

// Parameters is the number of weights.
func (m *Model) Parameters() int { return m.Config.Parameters() }

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

	maxLogits int             // of its decoders
	ablated   map[string]bool // the engine's
}

// operandsOf lists the rope tables, the model's weights and, with an adapter, its weights, as programs of the engine
// take them; without an engine each of the model's weights by itself.
func operandsOf(engine *Engine, model *Model, adapter *Adapter) (operands, error) {
	o := operands{config: &model.Config, names: []string{"rope.cos", "rope.sin"}, tensors: slices.Clone(model.rope[:])}
	if engine != nil {
		o.ablated = engine.ablated
	}
	add := func(name string, t *tensors.Tensor) { o.names, o.tensors = append(o.names, name), append(o.tensors, t) }
	for _, p := range programParameters(engine, model) {
		t, err := model.operand(engine, p)
		if err != nil {
			return operands{}, err
		}
		add(p.name, t)
	}
	if adapter != nil {
		o.lora = &adapter.Config
		for _, p := range adapter.Config.parameters(&model.Config) {
			add(p.name, adapter.weights[p.name])
		}
	}
	return o, nil
}

// decoder binds the operands' graph nodes, in the same order, to a decoder.
func (o operands) decoder(nodes []*graph.Node) *decoder {
	d := &decoder{config: o.config, lora: o.lora, weights: map[string]*graph.Node{}, maxLogits: o.maxLogits, ablated: o.ablated}
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
