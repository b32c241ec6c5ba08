//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// llama is a small Llama training step written for these tests alone: grouped
// query attention in [batch, kv head, group*seq, dim], weights [out, in], cross
// entropy by gather, Adam inside the graph.
type llama struct {
	vocab, hidden, layers, heads, kvHeads, headDim, ffn int
	rank                                                int // LoRA rank, 0: full training.
	batch, seq                                          int

	frozen, trained []*tensors.Tensor
	frozenIndex     map[string]int
	trainedIndex    map[string]int
	moments         []*tensors.Tensor
}

// smallLlama is the 5.0M-parameter model that the benchmarks use.
func smallLlama(rank int) *llama {
	return &llama{vocab: 4096, hidden: 256, layers: 4, heads: 4, kvHeads: 2, headDim: 64, ffn: 688, rank: rank, batch: 8, seq: 256}
}

// tinyLlama is small enough for the stock executors in a test, with odd sizes.
func tinyLlama(rank int) *llama {
	return &llama{vocab: 97, hidden: 40, layers: 2, heads: 4, kvHeads: 2, headDim: 10, ffn: 52, rank: rank, batch: 3, seq: 19}
}

// splitMix is a counter-based generator: value i of stream seed.
func splitMix(seed, i uint64) uint64 {
	z := seed*0x9E3779B97F4A7C15 + (i+1)*0xBF58476D1CE4E5B9
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}

// uniform returns n values in [-scale, scale).
func uniform(seed uint64, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		u := float64(splitMix(seed, uint64(i))>>11) / (1 << 53)
		v[i] = float32((2*u - 1) * scale)
	}
	return v
}

func (m *llama) init() {
	m.frozenIndex, m.trainedIndex = map[string]int{}, map[string]int{}
	m.frozen, m.trained, m.moments = nil, nil, nil
	seed := uint64(0)
	add := func(name string, base bool, scale float64, dims ...int) {
		seed++
		n := 1
		for _, d := range dims {
			n *= d
		}
		values := uniform(seed, n, scale)
		if scale == 0 {
			for i := range values {
				values[i] = 1
			}
		}
		t := tensors.FromFlatDataAndDimensions(values, dims...)
		if base && m.rank > 0 {
			m.frozenIndex[name] = len(m.frozen)
			m.frozen = append(m.frozen, t)
			return
		}
		m.trainedIndex[name] = len(m.trained)
		m.trained = append(m.trained, t)
		for range 2 {
			m.moments = append(m.moments, tensors.FromFlatDataAndDimensions(make([]float32, n), dims...))
		}
	}
	linear := func(name string, out, in int) {
		add(name, true, math.Sqrt(3/float64(in)), out, in)
		if m.rank > 0 {
			add(name+".a", false, math.Sqrt(3/float64(in)), m.rank, in)
			add(name+".b", false, 0.02, out, m.rank)
		}
	}
	add("embed", true, 0.5, m.vocab, m.hidden)
	for l := range m.layers {
		p := fmt.Sprintf("%d.", l)
		add(p+"norm1", true, 0, m.hidden)
		add(p+"norm2", true, 0, m.hidden)
		linear(p+"q", m.heads*m.headDim, m.hidden)
		linear(p+"k", m.kvHeads*m.headDim, m.hidden)
		linear(p+"v", m.kvHeads*m.headDim, m.hidden)
		linear(p+"o", m.hidden, m.heads*m.headDim)
		linear(p+"gate", m.ffn, m.hidden)
		linear(p+"up", m.ffn, m.hidden)
		linear(p+"down", m.hidden, m.ffn)
	}
	add("norm", true, 0, m.hidden)
}

func (m *llama) loss(tokens, targets *Node, get func(string) *Node) *Node {
	g := tokens.Graph()
	linear := func(name string, x *Node) *Node {
		y := DotGeneral(x, []int{-1}, nil, get(name), []int{1}, nil)
		if m.rank > 0 {
			a := DotGeneral(x, []int{-1}, nil, get(name+".a"), []int{1}, nil)
			y = Add(y, MulScalar(DotGeneral(a, []int{-1}, nil, get(name+".b"), []int{1}, nil), 2))
		}
		return y
	}
	norm := func(x, w *Node) *Node {
		v := ReduceAndKeep(Square(x), ReduceMean, -1)
		x = Mul(x, Reciprocal(Sqrt(AddScalar(v, 1e-5))))
		return Mul(x, ExpandLeftToRank(w, x.Rank()))
	}
	b, s, d := m.batch, m.seq, m.headDim
	half := d / 2
	position := Iota(g, shapes.Make(dtypes.Float32, 1, 1, s, half), 2)
	frequency := Exp(MulScalar(Iota(g, shapes.Make(dtypes.Float32, 1, 1, s, half), 3), -math.Log(10000)/float64(half)))
	angle := Mul(position, frequency)
	cos, sin := Cos(angle), Sin(angle)
	rope := func(x *Node) *Node { // [b, h, s, d]
		lo := Slice(x, AxisRange(), AxisRange(), AxisRange(), AxisRangeFromStart(half))
		hi := Slice(x, AxisRange(), AxisRange(), AxisRange(), AxisRangeToEnd(half))
		return Concatenate([]*Node{Sub(Mul(lo, cos), Mul(hi, sin)), Add(Mul(hi, cos), Mul(lo, sin))}, -1)
	}
	group := m.heads / m.kvHeads
	row := Iota(g, shapes.Make(dtypes.Int32, 1, 1, 1, s, s), 3)
	column := Iota(g, shapes.Make(dtypes.Int32, 1, 1, 1, s, s), 4)
	causal := BroadcastToDims(GreaterOrEqual(row, column), b, m.kvHeads, group, s, s)
	causal = Reshape(causal, b, m.kvHeads, group*s, s)

	x := Gather(get("embed"), InsertAxes(tokens, -1)) // [b, s, hidden]
	for l := range m.layers {
		p := fmt.Sprintf("%d.", l)
		h := norm(x, get(p+"norm1"))
		split := func(y *Node, heads int) *Node {
			return TransposeAllAxes(Reshape(y, b, s, heads, d), 0, 2, 1, 3)
		}
		q := Reshape(rope(split(linear(p+"q", h), m.heads)), b, m.kvHeads, group*s, d)
		k := rope(split(linear(p+"k", h), m.kvHeads))
		v := split(linear(p+"v", h), m.kvHeads)
		scores := DotGeneral(q, []int{3}, []int{0, 1}, k, []int{3}, []int{0, 1})
		scores = MulScalar(scores, 1/math.Sqrt(float64(d)))
		scores = Where(causal, scores, FillScalar(g, scores.Shape(), -1e9))
		att := DotGeneral(Softmax(scores, -1), []int{3}, []int{0, 1}, v, []int{2}, []int{0, 1})
		att = TransposeAllAxes(Reshape(att, b, m.heads, s, d), 0, 2, 1, 3)
		x = Add(x, linear(p+"o", Reshape(att, b, s, m.heads*d)))
		h = norm(x, get(p+"norm2"))
		gate := linear(p+"gate", h)
		x = Add(x, linear(p+"down", Mul(Mul(gate, Sigmoid(gate)), linear(p+"up", h))))
	}
	x = norm(x, get("norm"))
	logits := DotGeneral(Reshape(x, b*s, m.hidden), []int{1}, nil, get("embed"), []int{1}, nil)
	maximum := StopGradient(ReduceAndKeep(logits, ReduceMax, -1))
	shifted := Sub(logits, maximum)
	logSum := Log(ReduceSum(Exp(shifted), -1))
	rows := Iota(g, shapes.Make(dtypes.Int32, b*s, 1), 0)
	picked := Gather(shifted, Concatenate([]*Node{rows, Reshape(targets, b*s, 1)}, -1))
	return ReduceAllMean(Sub(logSum, picked))
}

// step returns the executable training step: it maps (tokens, targets, frozen,
// trained, moments) to (loss, trained, moments).
func (m *llama) step(b compute.Backend) *Exec {
	return MustNewExec(b, func(in []*Node) []*Node {
		tokens, targets, in := in[0], in[1], in[2:]
		frozen, in := in[:len(m.frozen)], in[len(m.frozen):]
		trained, moments := in[:len(m.trained)], in[len(m.trained):]
		loss := m.loss(tokens, targets, func(name string) *Node {
			if i, ok := m.frozenIndex[name]; ok {
				return frozen[i]
			}
			return trained[m.trainedIndex[name]]
		})
		out := []*Node{loss}
		var newMoments []*Node
		for i, gradient := range Gradient(loss, trained...) {
			m1 := Add(MulScalar(moments[2*i], 0.9), MulScalar(gradient, 0.1))
			m2 := Add(MulScalar(moments[2*i+1], 0.999), MulScalar(Square(gradient), 0.001))
			out = append(out, Sub(trained[i], MulScalar(Div(m1, AddScalar(Sqrt(m2), 1e-6)), 1e-3)))
			newMoments = append(newMoments, m1, m2)
		}
		return append(out, newMoments...)
	})
}

// run executes n steps and returns the losses; the tensors are updated in place.
func (m *llama) run(tb testing.TB, b compute.Backend, exec *Exec, first, n int) []float32 {
	tb.Helper()
	var losses []float32
	for i := range n {
		tokens, targets := make([]int32, m.batch*m.seq), make([]int32, m.batch*m.seq)
		for j := range tokens {
			r := splitMix(uint64(1000+first+i), uint64(j))
			tokens[j] = int32(r % uint64(m.vocab))
			targets[j] = (tokens[j]*7 + 3) % int32(m.vocab)
		}
		args := []any{tensors.FromFlatDataAndDimensions(tokens, m.batch, m.seq), tensors.FromFlatDataAndDimensions(targets, m.batch, m.seq)}
		for _, t := range m.frozen {
			args = append(args, t)
		}
		for _, ts := range [][]*tensors.Tensor{m.trained, m.moments} {
			for _, t := range ts {
				donated, err := DonateTensorBuffer(t, b, 0)
				if err != nil {
					tb.Fatal(err)
				}
				args = append(args, donated)
			}
		}
		out := exec.MustCall(args...)
		losses = append(losses, tensors.ToScalar[float32](out[0]))
		m.trained = out[1 : 1+len(m.trained)]
		m.moments = out[1+len(m.trained):]
	}
	return losses
}
