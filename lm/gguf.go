package lm

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/lm/tokens"
	"github.com/gomlx/go-huggingface/models/gguf"
	"github.com/gomlx/gomlx/core/tensors"
)

// GGUF is an opened GGUF file of a Llama or Qwen2 model: llama.cpp's format, weights and tokenizer in one file, the
// weights mostly quantised. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
type GGUF struct {
	// Config is the model's configuration, as a config.json would have it.
	Config Config
	// Types counts the tensors by the type in which the file keeps them: F32, F16, BF16, Q4_1, Q6_K …
	Types map[string]int

	path      string
	file      *gguf.File
	alias     map[string]string // by a tensor's name, the name under which the library finds it
	tokenizer tokens.GGUF
}

// ggufTypes are the types of tensors that can be read.
var ggufTypes = []gguf.TensorType{
	gguf.TensorTypeF32, gguf.TensorTypeF16, gguf.TensorTypeBF16,
	gguf.TensorTypeQ4_0, gguf.TensorTypeQ4_1, gguf.TensorTypeQ5_0, gguf.TensorTypeQ5_1, gguf.TensorTypeQ8_0,
	gguf.TensorTypeQ2_K, gguf.TensorTypeQ3_K, gguf.TensorTypeQ4_K, gguf.TensorTypeQ5_K, gguf.TensorTypeQ6_K,
}

// OpenGGUF reads the header of a GGUF file and checks that all of it is understood: every key that changes what is
// computed, every tensor with its shape, and the tokenizer. What this package would compute differently is an error.
func OpenGGUF(path string) (*GGUF, error) {
	file, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g := &GGUF{path: path, file: file, Types: map[string]int{}, alias: map[string]string{}}
	for _, check := range []func() error{g.readConfig, g.checkTensors, g.readTokenizer} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return g, nil
}

// checkTensors says whether the file has exactly the tensors of the architecture, in their shapes and whole.
func (g *GGUF) checkTensors() error {
	info, err := os.Stat(g.path)
	if err != nil {
		return err
	}
	// The library remembers where each tensor stands in the file's list and sorts that list afterwards: a name may
	// find another tensor. Asking for each name once tells which name finds which tensor.
	for _, name := range g.file.ListTensorNames() {
		if found, ok := g.file.GetTensorInfo(name); ok {
			g.alias[found.Name] = name
		}
	}
	known := map[string]bool{ropeFactors: true}
	for _, p := range g.Config.parameters() {
		name := g.name(p.name)
		known[name] = true
		t, ok := g.tensor(name)
		if !ok {
			return fmt.Errorf("tensor %s is missing", name)
		}
		if _, shape := t.GoMLXShape(); !slices.Equal(shape, p.shape) {
			return fmt.Errorf("tensor %s has shape %v, the metadata say %v", name, shape, p.shape)
		}
	}
	for _, t := range g.file.TensorInfos {
		switch end := int64(t.Offset) + t.NumBytes(); {
		case !known[t.Name]:
			return fmt.Errorf("tensor %s has no place in a %s model", t.Name, g.Config.ModelType)
		case !slices.Contains(ggufTypes, t.Type):
			return fmt.Errorf("tensor %s is of type %s, which is not supported: take a file in one of %v", t.Name, t.Type, ggufTypes)
		case t.Shape[0]%uint64(t.Type.BlockSize()) != 0:
			return fmt.Errorf("tensor %s: rows of %d are not made of blocks of %d, as type %s has them", t.Name, t.Shape[0], t.Type.BlockSize(), t.Type)
		case int64(t.Offset) < 0 || end < 0 || end > info.Size()-g.file.DataOffset():
			return fmt.Errorf("tensor %s ends behind the file's %d bytes: the file is truncated; get it again", t.Name, info.Size())
		}
		g.Types[t.Type.String()]++
	}
	return nil
}

// tensor finds what the file says of a tensor.
func (g *GGUF) tensor(name string) (gguf.TensorInfo, bool) {
	return g.file.GetTensorInfo(g.alias[name])
}

// ggufNames are llama.cpp's names of the weights (gguf-py/gguf/constants.py, TENSOR_NAMES).
var ggufNames = strings.NewReplacer(
	"model.layers.", "blk.", "model.embed_tokens", "token_embd", "model.norm", "output_norm", "lm_head", "output",
	"input_layernorm", "attn_norm", "post_attention_layernorm", "ffn_norm",
	"self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k", "self_attn.v_proj", "attn_v", "self_attn.o_proj", "attn_output",
	"mlp.gate_proj", "ffn_gate", "mlp.up_proj", "ffn_up", "mlp.down_proj", "ffn_down",
)

// name is llama.cpp's name of a weight.
func (*GGUF) name(hugging string) string { return ggufNames.Replace(hugging) }

// Quantization says in which types the file keeps its weights, the most frequent first: "210 Q4_1, 61 F32, 1 Q8_0".
func (g *GGUF) Quantization() string { return QuantizationText(g.Types) }

// QuantizationText lists counts of tensors by type, the most frequent first.
func QuantizationText(types map[string]int) string {
	names := slices.SortedFunc(maps.Keys(types), func(a, b string) int {
		if types[a] != types[b] {
			return types[b] - types[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", types[name], name)
	}
	return strings.Join(names, ", ")
}

// Write writes the model in Hugging Face's layout into dir, which is created if need be: config.json,
// model.safetensors in float32, tokenizer.json and tokenizer_config.json. One tensor at a time is in memory.
func (g *GGUF) Write(dir string) error {
	if err := g.WriteTokenizer(dir); err != nil {
		return err
	}
	if err := g.Config.save(dir); err != nil {
		return err
	}
	reader, err := gguf.NewReader(g.file)
	if err != nil {
		return err
	}
	shapes := map[string][]int{}
	for _, p := range g.Config.parameters() {
		shapes[p.name] = p.shape
	}
	err = writeFile(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error {
		return encodeSafetensors(w, "F32", shapes, map[string]string{"format": "pt"}, func(name string) ([]float32, error) {
			return g.values(reader, name, shapes[name])
		})
	})
	return errors.Join(err, reader.Close())
}

// WriteTokenizer writes tokenizer.json and tokenizer_config.json alone.
func (g *GGUF) WriteTokenizer(dir string) error {
	if err := g.tokenizer.Write(dir); err != nil {
		return fmt.Errorf("%s: %w", g.path, err)
	}
	return nil
}

// values reads a weight by its Hugging Face name, dequantised and in Hugging Face's order of rows.
func (g *GGUF) values(reader *gguf.Reader, name string, shape []int) ([]float32, error) {
	values, err := g.read(reader, g.name(name))
	if err != nil {
		return nil, err
	}
	if g.Config.ModelType == "llama" && (strings.Contains(name, "self_attn.q_proj") || strings.Contains(name, "self_attn.k_proj")) {
		values = unpermute(values, shape[0], g.Config.HeadDim)
	}
	for i, v := range values {
		if v-v != 0 { // infinite or no number
			return nil, fmt.Errorf("%s: tensor %s: value %d is %v: the file is damaged; get it again", g.path, g.name(name), i, v)
		}
	}
	return values, nil
}

// read reads a tensor by llama.cpp's name, as float32.
func (g *GGUF) read(reader *gguf.Reader, name string) ([]float32, error) {
	info, _ := g.tensor(name)
	if info.Type.IsQuantized() {
		t, err := reader.ReadTensor(nil, g.alias[name])
		if err != nil {
			return nil, err
		}
		return tensors.CopyFlatData[float32](t)
	}
	data, _, err := reader.ReadTensorRaw(g.alias[name])
	if err != nil {
		return nil, err
	}
	values := make([]float32, info.NumElements())
	decodeFloat32(values, info.Type.String(), data)
	return values, nil
}

// unpermute undoes what llama.cpp's converter does to the rows of q and k of the llama architecture, whose rotary
// positions it takes between neighbouring rows of a head, where Hugging Face takes them between its two halves
// (convert_hf_to_gguf.py, LlamaModel.permute). The rows of other architectures stay in order.
func unpermute(values []float32, rows, head int) []float32 {
	width, half := len(values)/rows, head/2
	out := make([]float32, len(values))
	for row := range rows {
		first, within := row/head*head, row%head
		from := first + within%half*2 + within/half
		copy(out[row*width:(row+1)*width], values[from*width:(from+1)*width])
	}
	return out
}

// readTokenizer takes the tokenizer over, and its ids into the configuration.
func (g *GGUF) readTokenizer() (err error) {
	g.tokenizer, err = tokens.ReadGGUF(func(key string) tokens.GGUFValue {
		v, _ := g.file.GetKeyValue(key)
		return v
	})
	if eos := g.tokenizer.EOS; eos >= 0 {
		g.Config.EOSTokenIDs = TokenIDs{eos}
	}
	if bos := g.tokenizer.BOS; bos >= 0 {
		g.Config.BOSTokenID = &bos
	}
	return err
}

// ropeFactors is the tensor with which llama.cpp keeps Llama 3's scaling of the rotary frequencies: what each is
// divided by.
const ropeFactors = "rope_freqs.weight"

// readConfig makes the configuration from the metadata. Every key of the architecture is used, known to change
// nothing, or an error that names it.
func (g *GGUF) readConfig() error {
	if v := g.file.Version; v != 2 && v != 3 {
		return fmt.Errorf("GGUF version %d is not supported: 2 and 3 are", v)
	}
	if v, ok := g.file.GetKeyValue("split.count"); ok && v.Int64() > 1 {
		return fmt.Errorf("it is one of %d parts of a model: join them with llama-gguf-split --merge", v.Int64())
	}
	architecture := g.file.Architecture()
	if architecture != "llama" && architecture != "qwen2" {
		return fmt.Errorf("general.architecture %q is not supported: llama and qwen2 are", architecture)
	}
	c := &g.Config
	*c = Config{ModelType: architecture, HiddenAct: "silu", RopeTheta: defaultRopeTheta}
	rotary, valueLength := 0, 0
	integers := map[string]*int{
		"block_count": &c.NumHiddenLayers, "context_length": &c.MaxPositionEmbeddings, "embedding_length": &c.HiddenSize,
		"feed_forward_length": &c.IntermediateSize, "attention.head_count": &c.NumAttentionHeads,
		"attention.head_count_kv": &c.NumKeyValueHeads, "attention.key_length": &c.HeadDim,
		"attention.value_length": &valueLength, "rope.dimension_count": &rotary, "vocab_size": new(int), // the embedding's rows count
	}
	floats := map[string]*float64{"attention.layer_norm_rms_epsilon": &c.RMSNormEps, "rope.freq_base": &c.RopeTheta}
	for _, kv := range g.file.KeyValues {
		key, ok := strings.CutPrefix(kv.Key, architecture+".")
		if !ok {
			continue
		}
		if into, ok := integers[key]; ok {
			*into = int(kv.Int64())
		} else if into, ok := floats[key]; ok {
			*into = shortest(kv.Float64())
		} else if !ggufNeutral(key, kv.Raw()) {
			return fmt.Errorf("%s %.60s is not supported", kv.Key, fmt.Sprint(kv.Raw()))
		}
	}
	for _, t := range g.file.TensorInfos { // GetTensorInfo may find another: see checkTensors
		switch t.Name {
		case "token_embd.weight":
			if _, shape := t.GoMLXShape(); len(shape) == 2 {
				c.VocabSize = shape[0]
			}
		case "blk.0.attn_q.bias":
			c.AttentionBias = true
		case "blk.0.ffn_up.bias":
			c.MLPBias = true
		}
	}
	c.TieWordEmbeddings = !slices.Contains(g.file.ListTensorNames(), "output.weight")
	if c.VocabSize == 0 {
		return errors.New("tensor token_embd.weight is missing: is it a whole model?")
	}
	if err := c.complete(); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if rotary != 0 && rotary != c.HeadDim || valueLength != 0 && valueLength != c.HeadDim {
		return fmt.Errorf("heads of %d with rope.dimension_count %d and attention.value_length %d are not supported: they have to be equal", c.HeadDim, rotary, valueLength)
	}
	return g.readRopeFactors()
}

// ggufNeutral says whether a key of the architecture changes nothing of what is computed here, with its value.
func ggufNeutral(key string, value any) bool {
	switch key {
	case "rope.scaling.type":
		return value == "none"
	case "rope.scaling.finetuned", "tensor_data_layout":
		return true
	case "attention.causal":
		return value == true
	}
	switch fmt.Sprint(value) {
	case "0", "false":
		return true
	}
	return false
}

// shortest is the decimal number that a float32 stands for: 1e-05, where the float32 itself is 9.99999974737875e-06.
func shortest(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', -1, 32), 64)
	if err != nil {
		return v
	}
	return short
}

// readRopeFactors finds the scaling that the factors of the rotary frequencies come from. Llama 3.1 to 3.3 have the one
// below, with a factor of 8 or 32.
func (g *GGUF) readRopeFactors() error {
	i := slices.IndexFunc(g.file.TensorInfos, func(t gguf.TensorInfo) bool { return t.Name == ropeFactors })
	if i < 0 {
		return nil
	}
	t, c := g.file.TensorInfos[i], &g.Config
	if t.Type != gguf.TensorTypeF32 || !slices.Equal(t.Shape, []uint64{uint64(c.HeadDim / 2)}) {
		return fmt.Errorf("tensor %s has shape %v and type %s, %d F32 are supported", ropeFactors, t.Shape, t.Type, c.HeadDim/2)
	}
	data := make([]byte, 4*c.HeadDim/2)
	file, err := os.Open(g.path)
	if err != nil {
		return err
	}
	_, err = file.ReadAt(data, g.file.DataOffset()+int64(t.Offset))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("tensor %s: %w", ropeFactors, err)
	}
	factors := make([]float32, c.HeadDim/2)
	decodeFloat32(factors, "F32", data)
	plain := c.ropeFrequencies()
	c.RopeScaling = &RopeScaling{RopeType: "llama3", Factor: float64(slices.Max(factors)), LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	for i, scaled := range c.ropeFrequencies() {
		if got := float64(factors[i]); !(math.Abs(got-plain[i]/scaled) < 1e-5*got) {
			return fmt.Errorf("tensor %s: factor %d is %v, which is not Llama 3's scaling with the factor %v: no other is supported", ropeFactors, i, got, c.RopeScaling.Factor)
		}
	}
	return nil
}
