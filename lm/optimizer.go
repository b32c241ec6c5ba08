package lm

import (
	"fmt"
	"math"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
)

// Schedule names how the learning rate changes over the steps.
type Schedule string

const (
	ScheduleCosine   Schedule = "cosine"   // half a cosine from the peak to 0
	ScheduleLinear   Schedule = "linear"   // straight from the peak to 0
	ScheduleConstant Schedule = "constant" // the peak throughout
)

// learningRate is the rate of step (from 0) of total, as transformers' get_cosine_schedule_with_warmup,
// get_linear_schedule_with_warmup and get_constant_schedule_with_warmup: warm-up is linear and begins at 0.
func (c *TrainConfig) learningRate(step, total int) float64 {
	warmup := int(math.Ceil(float64(total) * c.WarmupRatio))
	if step < warmup {
		return c.LearningRate * float64(step) / float64(warmup)
	}
	progress := float64(step-warmup) / float64(max(1, total-warmup))
	switch c.Schedule {
	case ScheduleCosine:
		return c.LearningRate * 0.5 * (1 + math.Cos(math.Pi*progress))
	case ScheduleLinear:
		return c.LearningRate * max(0, 1-progress)
	}
	return c.LearningRate
}

// AdamW's constants, PyTorch's and transformers' defaults.
const (
	adamBeta1   = 0.9
	adamBeta2   = 0.999
	adamEpsilon = 1e-8
)

// hyper is what changes from step to step in the update: learning rate, and AdamW's two bias corrections.
// step counts from 0.
func (c *TrainConfig) hyper(step, total int) []float32 {
	t := float64(step + 1)
	return []float32{
		float32(c.learningRate(step, total)),
		float32(1 / (1 - math.Pow(adamBeta1, t))),
		float32(1 / math.Sqrt(1-math.Pow(adamBeta2, t))),
	}
}

// decays reports whether weight decay applies to a parameter: to matrices, not to norms and biases.
func decays(name string) bool {
	return !strings.HasSuffix(name, "norm.weight") && !strings.HasSuffix(name, ".bias")
}

// adamW updates n parameters, given as weights, first moments, second moments and summed gradients (4n nodes), and
// hyper [3]. It returns the gradient's global norm before clipping, then weights, moments and zeroed gradients.
// (Loshchilov and Hutter 2019, in PyTorch's order of operations; clipping as torch.nn.utils.clip_grad_norm_.)
func adamW(names []string, weightDecay, clipNorm float64, nodes []*Node) []*Node {
	n := len(names)
	weights, first, second, gradients, hyper := nodes[:n], nodes[n:2*n], nodes[2*n:3*n], nodes[3*n:4*n], nodes[4*n]
	at := func(i int) *Node { return Reshape(SliceAxis(hyper, 0, AxisElem(i))) }
	rate, correct1, correct2 := at(0), at(1), at(2)
	var squares *Node
	for _, g := range gradients {
		s := ReduceAllSum(Square(g))
		if squares == nil {
			squares = s
		} else {
			squares = Add(squares, s)
		}
	}
	norm := Sqrt(squares)
	scale := OnesLike(norm)
	if clipNorm > 0 {
		scale = MinScalar(Div(Scalar(norm.Graph(), norm.DType(), clipNorm), AddScalar(norm, 1e-6)), 1)
	}
	out := make([]*Node, 1+4*n)
	out[0] = norm
	for i, name := range names {
		w, g := weights[i], gradients[i]
		if clipNorm > 0 {
			g = Mul(g, scale)
		}
		m := Add(MulScalar(first[i], adamBeta1), MulScalar(g, 1-adamBeta1))
		v := Add(MulScalar(second[i], adamBeta2), MulScalar(Square(g), 1-adamBeta2))
		if weightDecay > 0 && decays(name) {
			w = Mul(w, OneMinus(MulScalar(rate, weightDecay)))
		}
		step := Div(m, AddScalar(Mul(Sqrt(v), correct2), adamEpsilon))
		out[1+i] = Sub(w, Mul(step, Mul(rate, correct1)))
		out[1+n+i], out[1+2*n+i], out[1+3*n+i] = m, v, ZerosLike(gradients[i])
	}
	return out
}

// TrainConfig says how to train. Zero values mean what their comments say.
type TrainConfig struct {
	Loss         Loss
	Epochs       int     // passes over the data
	MaxSteps     int     // stop earlier; 0: never
	BatchSize    int     // examples (turns, pairs) a step
	LearningRate float64 // the peak
	Schedule     Schedule
	WarmupRatio  float64 // of all steps
	WeightDecay  float64
	ClipNorm     float64 // of the global gradient norm; 0: off
	Seed         uint64  // of data order and dropout

	Batching         Batching `json:",omitzero"` // "": neighbours
	Packing          Packing  // "": tree
	RowTokens        int      // nodes of a row, more only where one example alone is larger; 0: 1024
	MicroBatchTokens int      // nodes of a micro-batch, B·N, more only where one row is longer; 0: 2048
	MaxShapes        int      // planned shapes; 0: 8, on XLA 3
	Checkpointing    bool     // recompute activations on the way back: half the memory, a third more time, the same bits
	// MemoryLimit is what the trained model and what is kept for the way back may take, in bytes, before Checkpointing
	// is turned on; 0: it never is. It changes no result.
	MemoryLimit int64 `json:"-"`
}

// defaultShapes is how many shapes a plan may have, but on engines that compile slowly (Engine.mostShapes).
const defaultShapes = 8

func (c *TrainConfig) complete() error {
	if c.Packing == "" {
		c.Packing = PackTree
	}
	if c.Schedule == "" {
		c.Schedule = ScheduleCosine
	}
	for _, d := range []struct {
		value *int
		or    int
	}{{&c.RowTokens, 1024}, {&c.MicroBatchTokens, 2048}, {&c.MaxShapes, defaultShapes}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if c.Batching == BatchNeighbours { // one spelling, so that one training has one digest
		c.Batching = ""
	}
	switch {
	case c.Batching != "" && c.Batching != BatchShuffled:
		return fmt.Errorf("batching %q: it must be neighbours or shuffled", c.Batching)
	case c.Packing != PackTree && c.Packing != PackNone:
		return fmt.Errorf("packing %q: it must be tree or none", c.Packing)
	case c.Schedule != ScheduleCosine && c.Schedule != ScheduleLinear && c.Schedule != ScheduleConstant:
		return fmt.Errorf("schedule %q: it must be cosine, linear or constant", c.Schedule)
	case c.Epochs <= 0 || c.BatchSize <= 0 || c.LearningRate <= 0:
		return fmt.Errorf("epochs %d, batch size %d and learning rate %v must be positive", c.Epochs, c.BatchSize, c.LearningRate)
	case c.MaxSteps < 0 || c.WarmupRatio < 0 || c.WarmupRatio > 1 || c.WeightDecay < 0 || c.ClipNorm < 0:
		return fmt.Errorf("max steps %d, warm-up ratio %v, weight decay %v, clip norm %v: none may be negative, the ratio at most 1",
			c.MaxSteps, c.WarmupRatio, c.WeightDecay, c.ClipNorm)
	case c.RowTokens < 0 || c.MicroBatchTokens < 0 || c.MaxShapes < 0:
		return fmt.Errorf("row tokens %d, micro-batch tokens %d and shapes %d must be positive", c.RowTokens, c.MicroBatchTokens, c.MaxShapes)
	}
	return nil
}
