package lm

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// LoRA configures low-rank adapters (Hu et al. 2021): y = W x + Scale · B A dropout(x).
type LoRA struct {
	Rank    int
	Alpha   float64
	Dropout float64  // of an adapter's input, in training only
	RSLoRA  bool     // scale by alpha/sqrt(rank) rather than alpha/rank (Kalajdzievski 2023)
	Targets []string // of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj; empty: all
}

// Scale is the factor of the low-rank product.
func (l *LoRA) Scale() float64 {
	if l.RSLoRA {
		return l.Alpha / math.Sqrt(float64(l.Rank))
	}
	return l.Alpha / float64(l.Rank)
}

var loraTargets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

func (l *LoRA) check() error {
	if l.Rank <= 0 || l.Alpha <= 0 || l.Dropout < 0 || l.Dropout >= 1 {
		return fmt.Errorf("LoRA rank %d, alpha %v, dropout %v: rank and alpha must be positive, dropout in [0, 1)", l.Rank, l.Alpha, l.Dropout)
	}
	for _, t := range l.Targets {
		if !slices.Contains(loraTargets, t) {
			return fmt.Errorf("LoRA target %q: it must be one of %s", t, strings.Join(loraTargets, ", "))
		}
	}
	return nil
}

// parameters lists A [rank, in] and B [out, rank] of every target.
func (l *LoRA) parameters(c *Config) []parameter {
	var list []parameter
	for i := range c.NumHiddenLayers {
		for _, m := range c.projections() {
			_, short, _ := strings.Cut(m.name, ".")
			if len(l.Targets) > 0 && !slices.Contains(l.Targets, short) {
				continue
			}
			name := layerName(i) + m.name
			list = append(list, parameter{name + ".lora_A.weight", []int{l.Rank, m.in}},
				parameter{name + ".lora_B.weight", []int{m.out, l.Rank}})
		}
	}
	return list
}

// Adapter is a LoRA adapter for models of one architecture. Like a Model's, its weights are never changed.
type Adapter struct {
	Config  LoRA
	weights map[string]*tensors.Tensor // "model.layers.0.self_attn.q_proj.lora_A.weight" ...
}

// NewAdapter makes an adapter that changes nothing yet: A uniform in ±1/sqrt(in) (PEFT's Kaiming with a = sqrt 5),
// drawn from (seed, name), B zero.
func NewAdapter(config Config, lora LoRA, seed uint64) (*Adapter, error) {
	if err := lora.check(); err != nil {
		return nil, err
	}
	weights := map[string]*tensors.Tensor{}
	for _, p := range lora.parameters(&config) {
		values := make([]float32, shapeSize(p.shape))
		if strings.HasSuffix(p.name, ".lora_A.weight") {
			s, bound := newStream(seed, purposeAdapter, named(p.name)), 1/math.Sqrt(float64(p.shape[1]))
			for i := range values {
				values[i] = float32((2*s.uniform() - 1) * bound)
			}
		}
		weights[p.name] = tensors.FromFlatDataAndDimensions(values, p.shape...)
	}
	return &Adapter{Config: lora, weights: weights}, nil
}

// peftPrefix is what PEFT puts before a module's name.
const peftPrefix = "base_model.model."

// peftConfig is what is written of PEFT's adapter_config.json; readPEFT says what of it is read.
type peftConfig struct {
	BaseModel     string         `json:"base_model_name_or_path"`
	Bias          string         `json:"bias"`
	FanInFanOut   bool           `json:"fan_in_fan_out"`
	InferenceMode bool           `json:"inference_mode"`
	Alpha         float64        `json:"lora_alpha"`
	Dropout       float64        `json:"lora_dropout"`
	ModulesToSave []string       `json:"modules_to_save"`
	PEFTType      string         `json:"peft_type"`
	Rank          int            `json:"r"`
	RankPattern   map[string]int `json:"rank_pattern"`
	AlphaPattern  map[string]any `json:"alpha_pattern"`
	Targets       []string       `json:"target_modules"`
	TaskType      string         `json:"task_type"`
	UseDoRA       bool           `json:"use_dora"`
	UseRSLoRA     bool           `json:"use_rslora"`
}

// Save writes adapter_config.json and adapter_model.safetensors in PEFT's layout; base is the name or path of the
// base model that PEFT shall load.
func (a *Adapter) Save(dir, base string) error {
	targets := slices.Clone(a.Config.Targets)
	if len(targets) == 0 {
		targets = slices.Clone(loraTargets)
	}
	sort.Strings(targets)
	err := writeJSON(filepath.Join(dir, "adapter_config.json"), peftConfig{
		BaseModel: base, Bias: "none", InferenceMode: true, Alpha: a.Config.Alpha, Dropout: a.Config.Dropout,
		PEFTType: "LORA", Rank: a.Config.Rank, RankPattern: map[string]int{}, AlphaPattern: map[string]any{},
		Targets: targets, TaskType: "CAUSAL_LM", UseRSLoRA: a.Config.RSLoRA,
	})
	if err != nil {
		return err
	}
	named := map[string]*tensors.Tensor{}
	for name, t := range a.weights {
		named[peftPrefix+name] = t
	}
	return writeFile(filepath.Join(dir, "adapter_model.safetensors"), func(w io.Writer) error {
		return writeSafetensors(w, named, map[string]string{"format": "pt"})
	})
}

// maxSums bounds the sums of weights and adapters that exist at once, in numbers: 256 MiB.
const maxSums = 1 << 26

// addsLoRAToWeights says whether training multiplies with W + Scale · B A rather than with both, one after the other:
// on ONNX Runtime, for which passes over [T, out] cost as much as the products with W themselves, where the sums, which
// live until the way back, are small. A dropped input is another for the adapter than for W.
func (d *decoder) addsLoRAToWeights(g *Graph) bool {
	if !onOnnx(g) || !d.training || d.dropout != nil || d.checkpointing {
		return false
	}
	size := 0
	for _, m := range d.config.projections() {
		size += m.in * m.out
	}
	return size*d.config.NumHiddenLayers <= maxSums
}

// wholeProduct is x [T, in] times (w + scale · b a) transposed: [T, out]. The gradient with respect to x is that of the
// whole; those of a [rank, in] and b [out, rank] are taken from the low-rank product, of which the way there computes
// nothing of size [T, out].
func wholeProduct(x, w, a, b *Node, scale float64) *Node {
	sum := Add(w, MulScalar(DotGeneral(b, []int{1}, nil, a, []int{0}, nil), scale)) // [out, in]
	fixed := StopGradient(sum)
	low := func() *Node {
		return product(MulScalar(product(StopGradient(x), a), scale), b)
	}
	y, ok := InternalFusedOpCaller(
		func() *Node { return product(x, sum) },
		func() *Node { return Add(product(x, fixed), low()) }, true) // where the gradient goes
	if !ok { // GOMLX_FUSION is off: y is x with the low-rank product twice
		y = Sub(y, StopGradient(low()))
	}
	return y
}

// dropout drops inputs of adapters. Its noise is drawn once a micro-batch from counters, on the host, one number
// for each token and feature, and turned into an independent mask for each module by multiplying with an odd
// number of the module's own (multiply-shift hashing), which is one pass over the data and the same on every engine.
type dropout struct {
	rate  float64
	noise *Node // [T, widest input], int32
}

// apply zeroes elements of x [T, in] with probability rate, without rescaling.
func (d *dropout) apply(x *Node, module string) *Node {
	noise := d.noise
	if width := x.Shape().Dimensions[1]; width != noise.Shape().Dimensions[1] {
		noise = SliceAxis(noise, 1, AxisRangeFromStart(width))
	}
	g := x.Graph()
	odd := int32(uint32(mix(named(module)))) | 1
	threshold := int32(math.Round(d.rate*(1<<32)) - 1<<31) // the lowest rate·2³² of all int32 fall below it
	kept := GreaterOrEqual(Mul(noise, Const(g, odd)), Const(g, threshold))
	return Where(kept, x, Const(g, float32(0)))
}

// dropoutWidth is the widest input of any module, the features that noise is drawn for.
func dropoutWidth(c *Config) int {
	w := 0
	for _, m := range c.projections() {
		w = max(w, m.in)
	}
	return w
}
