//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// decode returns one decoding step of m with a cache of length positions: it
// maps (tokens, position, weights, caches) to (logits' maxima, caches). The
// caches are written by scattering into zeros.
func (m *llama) decode(length int) func(in []*Node) []*Node {
	return func(in []*Node) []*Node {
		tokens, position, in := in[0], in[1], in[2:]
		weights, caches := in[:len(m.trained)], in[len(m.trained):]
		g := tokens.Graph()
		get := func(name string) *Node { return weights[m.trainedIndex[name]] }
		linear := func(name string, x *Node) *Node { return DotGeneral(x, []int{1}, nil, get(name), []int{1}, nil) }
		norm := func(x, w *Node) *Node {
			v := ReduceAndKeep(Square(x), ReduceMean, -1)
			return Mul(Mul(x, Reciprocal(Sqrt(AddScalar(v, 1e-5)))), InsertAxes(w, 0))
		}
		b, d, kv, group := m.batch, m.headDim, m.kvHeads, m.heads/m.kvHeads
		i32 := func(axis int) *Node { return Iota(g, shapes.Make(dtypes.Int32, b*kv, 1), axis) }
		index := Concatenate([]*Node{i32(0), BroadcastToDims(Reshape(position, 1, 1), b*kv, 1)}, -1)
		visible := LessOrEqual(Iota(g, shapes.Make(dtypes.Int32, b*kv, group, length), 2), BroadcastToDims(Reshape(position, 1, 1, 1), b*kv, group, length))
		var out []*Node
		write := func(i int, x *Node) *Node {
			c := ScatterSum(caches[i], index, Reshape(x, b*kv, d), false, true)
			out = append(out, c)
			return c
		}
		x := Gather(get("embed"), InsertAxes(tokens, -1))
		for l := range m.layers {
			p := fmt.Sprintf("%d.", l)
			h := norm(x, get(p+"norm1"))
			q := Reshape(MulScalar(linear(p+"q", h), 1/math.Sqrt(float64(d))), b*kv, group, d)
			k, v := write(2*l, linear(p+"k", h)), write(2*l+1, linear(p+"v", h))
			scores := DotGeneral(q, []int{2}, []int{0}, k, []int{2}, []int{0})
			scores = Where(visible, scores, FillScalar(g, scores.Shape(), -1e9))
			att := DotGeneral(Softmax(scores, -1), []int{2}, []int{0}, v, []int{1}, []int{0})
			x = Add(x, linear(p+"o", Reshape(att, b, m.heads*d)))
			h = norm(x, get(p+"norm2"))
			gate := linear(p+"gate", h)
			x = Add(x, linear(p+"down", Mul(Mul(gate, Sigmoid(gate)), linear(p+"up", h))))
		}
		logits := linear("embed", norm(x, get("norm")))
		return append([]*Node{ReduceMax(logits, -1)}, out...)
	}
}

// decoder decodes with a cache of 256 positions.
type decoder struct {
	m       *llama
	backend compute.Backend
	exec    *Exec
	caches  []*tensors.Tensor
}

const decodeLength = 256

func newDecoder(tb testing.TB, backend compute.Backend, batch int) *decoder {
	m := smallLlama(0)
	m.batch = batch
	m.init()
	d := &decoder{m: m, backend: backend, exec: MustNewExec(backend, m.decode(decodeLength))}
	for range 2 * m.layers {
		d.caches = append(d.caches, tensors.FromFlatDataAndDimensions(make([]float32, batch*m.kvHeads*decodeLength*m.headDim), batch*m.kvHeads, decodeLength, m.headDim))
	}
	return d
}

func (d *decoder) step(tb testing.TB, i int) {
	args := []any{tensors.FromFlatDataAndDimensions(make([]int32, d.m.batch), d.m.batch), tensors.FromFlatDataAndDimensions([]int32{int32(i % decodeLength)}, 1)}
	for _, t := range d.m.trained {
		args = append(args, t)
	}
	for _, t := range d.caches {
		donated, err := DonateTensorBuffer(t, d.backend, 0)
		if err != nil {
			tb.Fatal(err)
		}
		args = append(args, donated)
	}
	d.caches = d.exec.MustCall(args...)[1:]
}

func BenchmarkDecode(b *testing.B) {
	for _, batch := range []int{1, 16, 64} {
		for _, config := range []string{"ops_sequential,creation_order", "parallelism=-1,creation_order"} {
			b.Run(fmt.Sprintf("batch=%d/%s", batch, config), func(b *testing.B) {
				backend, err := gobackend.New(config)
				if err != nil {
					b.Fatal(err)
				}
				d := newDecoder(b, backend, batch)
				d.step(b, 0)
				start := cpuTime()
				b.ResetTimer()
				for i := range b.N {
					d.step(b, i)
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "tok/s")
				b.ReportMetric((cpuTime()-start).Seconds()*1e6/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// TestProfileDecode prints where a decoding step spends its time.
func TestProfileDecode(t *testing.T) {
	if os.Getenv("PROFILE") != "decode" {
		t.Skip("set PROFILE=decode")
	}
	backend, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	install(t, cpu.Options{Threads: 1})
	for _, batch := range []int{1, 16} {
		d := newDecoder(t, backend, batch)
		d.step(t, 0)
		stop := cpu.Profile()
		for i := range 20 {
			d.step(t, i)
		}
		fmt.Println(stop(25))
	}
}
