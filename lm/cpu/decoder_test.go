//go:build cgo

package cpu_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes/bfloat16"

	"github.com/esclab/esclab/lm/cpu"
)

// decoderShapes have sizes that fill neither panels nor vectors, one head a
// group and many, and heads of several sizes.
var decoderShapes = []cpu.DecoderShape{
	{Hidden: 48, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8, Intermediate: 40, Vocab: 70, Positions: 64, NormEps: 1e-6},
	{Hidden: 20, Layers: 3, Heads: 7, KVHeads: 1, HeadDim: 12, Intermediate: 33, Vocab: 31, Positions: 64, NormEps: 1e-5},
	{Hidden: 96, Layers: 1, Heads: 2, KVHeads: 2, HeadDim: 80, Intermediate: 16, Vocab: 32, Positions: 64, NormEps: 1e-6},
	{Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 64, Intermediate: 688, Vocab: 300, Positions: 64, NormEps: 1e-6},
	{Hidden: 64, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 128, Intermediate: 100, Vocab: 64, Positions: 64, NormEps: 1e-6},
}

// testDecoder is a decoder with the weights and embeddings that it has.
type testDecoder struct {
	cpu.DecoderShape
	weights cpu.DecoderWeights
	embed   []float32
}

func newTestDecoder(s cpu.DecoderShape, bias bool) *testDecoder {
	r := rand.New(rand.NewPCG(1, uint64(s.Hidden)))
	random := func(n int, scale float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() * scale)
		}
		return v
	}
	d := &testDecoder{DecoderShape: s, embed: random(s.Vocab*s.Hidden, 1)}
	heads, kv, in := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim, 1/math.Sqrt(float64(s.Hidden))
	for range s.Layers {
		l := cpu.DecoderLayer{
			Query: random(heads*s.Hidden, 2*in), Key: random(kv*s.Hidden, 2*in), Value: random(kv*s.Hidden, in), Out: random(s.Hidden*heads, in),
			Gate: random(s.Intermediate*s.Hidden, in), Up: random(s.Intermediate*s.Hidden, in), Down: random(s.Hidden*s.Intermediate, in),
			InputNorm: random(s.Hidden, 1), PostAttentionNorm: random(s.Hidden, 1),
		}
		if bias {
			l.QueryBias, l.KeyBias, l.ValueBias = random(heads, 1), random(kv, 1), random(kv, 1)
		}
		d.weights.Layers = append(d.weights.Layers, l)
	}
	d.weights.Norm, d.weights.Head = random(s.Hidden, 1), random(s.Vocab*s.Hidden, in)
	for p := range s.Positions {
		for i := range s.HeadDim / 2 {
			angle := float64(p) * math.Pow(100, -2*float64(i)/float64(s.HeadDim))
			d.weights.Cos, d.weights.Sin = append(d.weights.Cos, float32(math.Cos(angle))), append(d.weights.Sin, float32(math.Sin(angle)))
		}
	}
	return d
}

// adapted gives every projection but one a low-rank adapter, of various ranks.
func (d *testDecoder) adapted() *testDecoder {
	r := rand.New(rand.NewPCG(4, uint64(d.Hidden)))
	for i := range d.weights.Layers {
		l := &d.weights.Layers[i]
		for a, w := range [][]float32{l.Query, l.Key, l.Value, l.Out, l.Gate, l.Up, l.Down} {
			in := [...]int{d.Hidden, d.Hidden, d.Hidden, d.Heads * d.HeadDim, d.Hidden, d.Hidden, d.Intermediate}[a]
			if a == (i+2)%7 {
				continue
			}
			low := cpu.LowRank{Rank: 1 + a%3}
			for range len(w) / in * low.Rank {
				low.Up = append(low.Up, float32(r.NormFloat64()/2))
			}
			for range low.Rank * in {
				low.Down = append(low.Down, float32(r.NormFloat64()/math.Sqrt(float64(in))))
			}
			l.Adapters[a] = low
		}
	}
	return d
}

// halved keeps matrices in bfloat16, which represents them exactly.
func (d *testDecoder) halved() *testDecoder {
	d.weights.Half = true
	matrices := [][]float32{d.weights.Head}
	for _, l := range d.weights.Layers {
		matrices = append(matrices, l.Query, l.Key, l.Value, l.Out, l.Gate, l.Up, l.Down)
		for _, a := range l.Adapters {
			matrices = append(matrices, a.Up, a.Down)
		}
	}
	for _, m := range matrices {
		for i, v := range m {
			m[i] = bfloat16.FromFloat32(v).Float32()
		}
	}
	return d
}

// decoderKinds are the ways to keep the weights of a shape.
func decoderKinds(s cpu.DecoderShape, bias bool) map[string]*testDecoder {
	return map[string]*testDecoder{
		"float32": newTestDecoder(s, bias), "adapted": newTestDecoder(s, bias).adapted(),
		"bfloat16": newTestDecoder(s, bias).halved(), "adapted bfloat16": newTestDecoder(s, bias).adapted().halved(),
	}
}

// forward computes the logits of every token of a sequence in float64, as the
// formulas say.
func (d *testDecoder) forward(ids []int32) [][]float64 {
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = wide(d.embed[int(id)*d.Hidden : (int(id)+1)*d.Hidden])
	}
	half, group := d.HeadDim/2, d.Heads/d.KVHeads
	for _, l := range d.weights.Layers {
		var keys, values [][]float64
		for i := range x {
			h := d.norm(x[i], l.InputNorm)
			q, k, v := adaptedLinear(h, l.Query, l.QueryBias, l.Adapters[0]), adaptedLinear(h, l.Key, l.KeyBias, l.Adapters[1]), adaptedLinear(h, l.Value, l.ValueBias, l.Adapters[2])
			for _, heads := range [][]float64{q, k} {
				for head := range slices.Chunk(heads, d.HeadDim) {
					for j := range half {
						cos, sin := float64(d.weights.Cos[i*half+j]), float64(d.weights.Sin[i*half+j])
						head[j], head[half+j] = head[j]*cos-head[half+j]*sin, head[half+j]*cos+head[j]*sin
					}
				}
			}
			keys, values = append(keys, k), append(values, v)
			att := make([]float64, len(q))
			for head := range d.Heads {
				from, at := head*d.HeadDim, head/group*d.HeadDim
				var p []float64
				sum := 0.0
				for j := range keys {
					s := 0.0
					for c := range d.HeadDim {
						s += q[from+c] * keys[j][at+c]
					}
					p = append(p, math.Exp(s/math.Sqrt(float64(d.HeadDim))))
					sum += p[j]
				}
				for j := range keys {
					for c := range d.HeadDim {
						att[from+c] += p[j] / sum * values[j][at+c]
					}
				}
			}
			add(x[i], adaptedLinear(att, l.Out, nil, l.Adapters[3]))
			h = d.norm(x[i], l.PostAttentionNorm)
			gate, up := adaptedLinear(h, l.Gate, nil, l.Adapters[4]), adaptedLinear(h, l.Up, nil, l.Adapters[5])
			for j, g := range gate {
				up[j] *= g / (1 + math.Exp(-g))
			}
			add(x[i], adaptedLinear(up, l.Down, nil, l.Adapters[6]))
		}
	}
	logits := make([][]float64, len(ids))
	for i := range x {
		logits[i] = linear(d.norm(x[i], d.weights.Norm), d.weights.Head, nil)
	}
	return logits
}

func wide(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

func add(x, y []float64) {
	for i := range x {
		x[i] += y[i]
	}
}

func linear(x []float64, w, bias []float32) []float64 {
	out := make([]float64, len(w)/len(x))
	for o := range out {
		for i := range x {
			out[o] += x[i] * float64(w[o*len(x)+i])
		}
		if bias != nil {
			out[o] += float64(bias[o])
		}
	}
	return out
}

func adaptedLinear(x []float64, w, bias []float32, a cpu.LowRank) []float64 {
	out := linear(x, w, bias)
	if a.Rank > 0 {
		add(out, linear(linear(x, a.Down, nil), a.Up, nil))
	}
	return out
}

func (d *testDecoder) norm(x []float64, w []float32) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] / math.Sqrt(sum/float64(len(x))+d.NormEps) * float64(w[i])
	}
	return out
}

// path is a sequence whose tokens have nodes of a cache.
type path struct{ ids, nodes []int32 }

// tokens are tokens [from,to) of paths, all with outputs.
func (d *testDecoder) tokens(from, to int, paths ...path) *cpu.Tokens {
	t := &cpu.Tokens{SeenFrom: []int{0}}
	for _, p := range paths {
		for i := from; i < min(to, len(p.ids)); i++ {
			t.Embeddings = append(t.Embeddings, d.embed[int(p.ids[i])*d.Hidden:(int(p.ids[i])+1)*d.Hidden]...)
			t.Outputs = append(t.Outputs, int32(len(t.Positions)))
			t.Positions, t.Nodes = append(t.Positions, int32(i)), append(t.Nodes, p.nodes[i])
			var seen []cpu.Seen
			for _, node := range p.nodes[:i+1] {
				seen = cpu.Path(seen, node)
			}
			t.Seen = append(t.Seen, seen...)
			t.SeenFrom = append(t.SeenFrom, len(t.Seen))
		}
	}
	t.Logits = make([]float32, len(t.Outputs)*d.Vocab)
	return t
}

func newDecoder64(t testing.TB, d *testDecoder) *cpu.Decoder {
	t.Helper()
	decoder, err := cpu.NewDecoder(d.DecoderShape, d.weights)
	if err != nil {
		t.Fatal(err)
	}
	return decoder
}

func (d *testDecoder) sequence(r *rand.Rand, n int) path {
	var p path
	for _, node := range r.Perm(4 * n)[:n] {
		p.ids, p.nodes = append(p.ids, int32(r.IntN(d.Vocab))), append(p.nodes, int32(node))
	}
	return p
}

// The decoder computes what the formulas say, wherever its nodes lie: in
// bfloat16 too, up to what rounding the operands of its products costs.
func TestDecoder(t *testing.T) {
	levels(t, func(t *testing.T) {
		for i, s := range decoderShapes {
			for kind, d := range decoderKinds(s, i%2 == 1) {
				decoder := newDecoder64(t, d)
				for _, n := range []int{1, 2, 13, 45} {
					p := d.sequence(rand.New(rand.NewPCG(2, uint64(n))), n)
					tokens := d.tokens(0, n, p)
					tokens.LogSum = make([]float32, n)
					if err := decoder.Forward(decoder.NewCache(4*n), tokens); err != nil {
						t.Fatal(err)
					}
					for at, want := range d.forward(p.ids) {
						bound, largest := 2e-5, 1.0
						if d.weights.Half && cpu.MultipliesHalf() {
							bound = 0.05 // four roundings to 8 bits a layer
							for _, w := range want {
								largest = max(largest, math.Abs(w))
							}
						}
						got, sum := tokens.Logits[at*s.Vocab:(at+1)*s.Vocab], 0.0
						for v, w := range want {
							if math.Abs(float64(got[v])-w) > bound*max(largest, math.Abs(w)) {
								t.Fatalf("shape %d, %s, token %d of %d, logit %d: %v, want %v", i, kind, at, n, v, got[v], w)
							}
							sum += math.Exp(w)
						}
						if math.Abs(float64(tokens.LogSum[at])-math.Log(sum)) > bound*max(largest, math.Log(sum)) {
							t.Fatalf("shape %d, %s, token %d: log of sum %v, want %v", i, kind, at, tokens.LogSum[at], math.Log(sum))
						}
					}
				}
			}
		}
	})
}

// No bit of a token's logits depends on how a sequence is cut into forwards, on
// the nodes that it has, on other tokens, on which outputs are asked for, or on
// threads.
func TestDecoderInvariance(t *testing.T) {
	levels(t, func(t *testing.T) {
		status := install(t, cpu.Options{})
		for i, s := range decoderShapes {
			d, r := newTestDecoder(s, i%2 == 0), rand.New(rand.NewPCG(3, uint64(i)))
			if i > 0 {
				d.adapted()
			}
			if i > 1 {
				d.halved()
			}
			const n = 37
			var paths []path
			for range 19 {
				p := d.sequence(r, n)
				for j := range p.nodes {
					p.nodes[j] += int32(len(paths)) * 4 * n
				}
				paths = append(paths, p)
			}
			nodes := 4 * n * len(paths)
			decoder := newDecoder64(t, d)
			all := d.tokens(0, n, paths...)
			all.Best = make([]int32, len(all.Outputs))
			if err := decoder.Forward(decoder.NewCache(nodes), all); err != nil {
				t.Fatal(err)
			}
			for _, threads := range []int{1, 3} {
				install(t, cpu.Options{Kernels: status.Kernels, Threads: threads})
				decoder := newDecoder64(t, d)
				for which, p := range paths[:5] {
					moved := path{p.ids, nil}
					for j := range p.nodes {
						moved.nodes = append(moved.nodes, int32(nodes-1-17*j))
					}
					cache := decoder.NewCache(nodes)
					for from := 0; from < n; {
						to := min(n, from+1+r.IntN(which*3+1))
						part := d.tokens(from, to, moved)
						part.Outputs = part.Outputs[r.IntN(2):] // sometimes not the first
						part.Best = make([]int32, len(part.Outputs))
						if err := decoder.Forward(cache, part); err != nil {
							t.Fatal(err)
						}
						for o, token := range part.Outputs {
							at := which*n + from + int(token)
							if got, want := part.Logits[o*s.Vocab:(o+1)*s.Vocab], all.Logits[at*s.Vocab:(at+1)*s.Vocab]; !slices.Equal(got, want) {
								t.Fatalf("shape %d, %d threads, path %d, token %d: other logits", i, threads, which, from+int(token))
							}
							best := 0
							for v, l := range all.Logits[at*s.Vocab : (at+1)*s.Vocab] {
								if l > all.Logits[at*s.Vocab+best] {
									best = v
								}
							}
							if part.Best[o] != int32(best) || all.Best[at] != int32(best) {
								t.Fatalf("shape %d, token %d: best %d and %d, want %d", i, at, part.Best[o], all.Best[at], best)
							}
						}
						from = to
					}
				}
			}
		}
	})
}

func TestDecoderErrors(t *testing.T) {
	d := newTestDecoder(decoderShapes[0], false)
	install(t, cpu.Options{Kernels: "off"})
	if _, err := cpu.NewDecoder(d.DecoderShape, d.weights); !errors.Is(err, cpu.ErrNoDecoder) {
		t.Errorf("with the kernels off: error %v, want ErrNoDecoder", err)
	}
	install(t, cpu.Options{})
	odd := d.DecoderShape
	odd.HeadDim = 6
	if _, err := cpu.NewDecoder(odd, d.weights); !errors.Is(err, cpu.ErrNoDecoder) {
		t.Errorf("heads of 6: error %v, want ErrNoDecoder", err)
	}
	other := d.DecoderShape
	other.Intermediate++
	if _, err := cpu.NewDecoder(other, d.weights); err == nil {
		t.Error("weights of another shape: accepted")
	}
	decoder := newDecoder64(t, d)
	cache := decoder.NewCache(16)
	for name, change := range map[string]func(*cpu.Tokens){
		"node":     func(t *cpu.Tokens) { t.Nodes[1] = 16 },
		"position": func(t *cpu.Tokens) { t.Positions[1] = 64 },
		"block":    func(t *cpu.Tokens) { t.Seen[0].Block = 1 },
		"mask":     func(t *cpu.Tokens) { t.Seen[0].Mask = 1 << 16 },
		"nothing":  func(t *cpu.Tokens) { t.SeenFrom[1] = 0 },
		"outputs":  func(t *cpu.Tokens) { t.Outputs[1] = 0 },
		"room":     func(t *cpu.Tokens) { t.Logits = t.Logits[1:] },
		"both":     func(t *cpu.Tokens) { t.Best, t.LogSum = make([]int32, 3), make([]float32, 3) },
	} {
		tokens := d.tokens(0, 3, path{[]int32{1, 2, 3}, []int32{4, 5, 6}})
		change(tokens)
		if err := decoder.Forward(cache, tokens); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkDecoder decodes and loads with the shape of about 5M parameters.
func BenchmarkDecoder(b *testing.B) {
	shape := cpu.DecoderShape{Hidden: 256, Layers: 4, Heads: 4, KVHeads: 2, HeadDim: 64, Intermediate: 688, Vocab: 4096, Positions: 1024, NormEps: 1e-6}
	d := newTestDecoder(shape, false)
	decoder := newDecoder64(b, d)
	for _, c := range []struct{ batch, length int }{{1, 96}, {8, 96}, {16, 96}, {16, 544}, {64, 96}} {
		b.Run(fmt.Sprintf("batch=%d/length=%d", c.batch, c.length), func(b *testing.B) {
			var paths []path
			for range c.batch {
				var p path
				for i := range c.length {
					p.ids, p.nodes = append(p.ids, int32(i)), append(p.nodes, int32(len(paths)*c.length+i))
				}
				paths = append(paths, p)
			}
			cache := decoder.NewCache(c.batch * c.length)
			tokens := d.tokens(c.length-1, c.length, paths...)
			tokens.Best = make([]int32, c.batch)
			start := cpuTime()
			for b.Loop() {
				if err := decoder.Forward(cache, tokens); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "tok/s")
			b.ReportMetric((cpuTime()-start).Seconds()*1e6/float64(b.N), "cpu-us/op")
		})
	}
	for _, n := range []int{64, 256, 512} {
		b.Run(fmt.Sprintf("load=%d", n), func(b *testing.B) {
			var p path
			for i := range n {
				p.ids, p.nodes = append(p.ids, int32(i)), append(p.nodes, int32(i))
			}
			cache, tokens := decoder.NewCache(n), d.tokens(0, n, p)
			tokens.Outputs = nil
			for b.Loop() {
				if err := decoder.Forward(cache, tokens); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}
