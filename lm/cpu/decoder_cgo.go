//go:build cgo

package cpu

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"unsafe"

	"github.com/gomlx/compute/dtypes/bfloat16"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// Decoder is a Llama or Qwen2 model packed for forwards over a key-value cache,
// all layers in one call. Weights are streamed once a forward, for all tokens.
//
// What it computes for a token depends on the token, on its position and on the
// nodes that it sees: not on the tokens beside it, on which nodes of the cache
// hold what it sees, or on the number of threads. Only the instruction set
// changes a bit.
//
// It is not for concurrent use. It holds a copy of the weights.
type Decoder struct {
	shape   DecoderShape
	threads int
	model   *kernels.DecodeModel
	layers  []kernels.DecodeLayer
	held    []any                  // what the addresses above point to
	half    int64                  // how matrices are kept: in float32 (0), kernels.Pairs or kernels.Tiled
	free    []byte                 // of the memory that matrices are packed into
	most    struct{ h, inner int } // columns of the work arrays
	job     *kernels.DecodeJob
	work    struct{ y, h, qkv, inner, scores []float32 }
	// The operands of the forward that runs: kept here, they are on the heap,
	// where their addresses stay what they are.
	tokens Tokens
	from   []int64
	cache  *DecoderCache
}

// NewDecoder packs a model, or returns ErrNoDecoder.
func NewDecoder(shape DecoderShape, weights DecoderWeights) (*Decoder, error) {
	switch {
	case !current.on.Load():
		return nil, fmt.Errorf("%w: the kernels are off", ErrNoDecoder)
	case shape.HeadDim%4 != 0 || shape.KVHeads == 0 || shape.Heads%shape.KVHeads != 0:
		return nil, fmt.Errorf("%w for heads of %d, %d over %d", ErrNoDecoder, shape.HeadDim, shape.Heads, shape.KVHeads)
	case len(weights.Layers) != shape.Layers:
		return nil, fmt.Errorf("decoder: weights of %d layers for %d", len(weights.Layers), shape.Layers)
	}
	d := &Decoder{shape: shape, threads: current.threads, job: &kernels.DecodeJob{}}
	switch {
	case weights.Half && kernels.Tiles() && kernels.Half():
		d.half = kernels.Tiled
	case weights.Half:
		d.half = kernels.Pairs
	}
	hidden, heads, kv := shape.Hidden, shape.Heads*shape.HeadDim, shape.KVHeads*shape.HeadDim
	for i, l := range weights.Layers {
		for _, w := range []struct {
			name   string
			values []float32
			size   int
		}{
			{"q_proj", l.Query, heads * hidden}, {"k_proj", l.Key, kv * hidden}, {"v_proj", l.Value, kv * hidden}, {"o_proj", l.Out, hidden * heads},
			{"gate_proj", l.Gate, shape.Intermediate * hidden}, {"up_proj", l.Up, shape.Intermediate * hidden}, {"down_proj", l.Down, hidden * shape.Intermediate},
			{"input_layernorm", l.InputNorm, hidden}, {"post_attention_layernorm", l.PostAttentionNorm, hidden},
		} {
			if len(w.values) != w.size {
				return nil, fmt.Errorf("decoder: layer %d: %s has %d values, not %d", i, w.name, len(w.values), w.size)
			}
		}
		for a, out := range [...]int{heads, kv, kv, hidden, shape.Intermediate, shape.Intermediate, hidden} {
			in := [...]int{3: heads, 6: shape.Intermediate}[a]
			if in == 0 {
				in = hidden
			}
			if w := l.Adapters[a]; len(w.Up) != out*w.Rank || len(w.Down) != w.Rank*in {
				return nil, fmt.Errorf("decoder: layer %d: adapter %d of rank %d has %d and %d values for [%d, %d]", i, a, w.Rank, len(w.Up), len(w.Down), out, in)
			}
		}
		a := l.Adapters
		qkv, qkvDown := widened(hidden, [][]float32{l.Query, l.Key, l.Value}, a[:3])
		out, outDown := widened(heads, [][]float32{l.Out}, a[3:4])
		up, upDown := widened(hidden, [][]float32{l.Gate, l.Up}, a[4:6])
		down, downDown := widened(shape.Intermediate, [][]float32{l.Down}, a[6:])
		packed := kernels.DecodeLayer{
			QKV: d.pack(slices.Concat(qkv...)), QKVDown: d.pack(qkvDown),
			Out: d.pack(out[0]), OutDown: d.pack(outDown),
			Up: d.pack(interleave(up[0], up[1])), UpDown: d.pack(upDown),
			Down: d.pack(down[0]), DownDown: d.pack(downDown),
			Norm1: d.hold(l.InputNorm), Norm2: d.hold(l.PostAttentionNorm),
		}
		d.most.h = max(d.most.h, int(packed.QKV.K), int(packed.Out.K), int(packed.Up.K))
		d.most.inner = max(d.most.inner, int(packed.Down.K))
		if l.QueryBias != nil || l.KeyBias != nil || l.ValueBias != nil {
			bias := make([]float32, heads+2*kv)
			copy(bias[:heads], l.QueryBias)
			copy(bias[heads:heads+kv], l.KeyBias)
			copy(bias[heads+kv:], l.ValueBias)
			packed.QKVBias = d.hold(bias)
		}
		d.layers = append(d.layers, packed)
	}
	half := shape.HeadDim / 2
	if len(weights.Head) != shape.Vocab*hidden || len(weights.Norm) != hidden || len(weights.Cos) < shape.Positions*half || len(weights.Sin) < shape.Positions*half {
		return nil, fmt.Errorf("decoder: %d values of the head, %d of the norm, %d and %d of the rotation do not fit the model",
			len(weights.Head), len(weights.Norm), len(weights.Cos), len(weights.Sin))
	}
	d.model = &kernels.DecodeModel{
		Layers: int64(shape.Layers), Hidden: int64(hidden), Heads: int64(shape.Heads), KVHeads: int64(shape.KVHeads),
		HeadDim: int64(shape.HeadDim), Inner: int64(shape.Intermediate),
		Eps: float32(shape.NormEps), Scale: float32(1 / math.Sqrt(float64(shape.HeadDim))),
		Layer: uintptr(unsafe.Pointer(unsafe.SliceData(d.layers))), Norm: d.hold(weights.Norm),
		Head: d.pack(row(weights.Head, hidden)), Cos: d.hold(weights.Cos), Sin: d.hold(weights.Sin),
	}
	d.model.Half = d.half
	d.job.Model, d.job.Threads = uintptr(unsafe.Pointer(d.model)), int64(d.threads)
	return d, nil
}

// hold copies values to memory that the Decoder keeps, and returns its address.
func (d *Decoder) hold(values []float32) uintptr {
	values = slices.Clone(values)
	d.held = append(d.held, values)
	return uintptr(unsafe.Pointer(unsafe.SliceData(values)))
}

// row cuts a matrix into rows of k.
func row(w []float32, k int) [][]float32 { return slices.Collect(slices.Chunk(w, k)) }

// interleave lays half a panel of gate's rows before half a panel of up's, with
// nil for rows that are missing.
func interleave(gate, up [][]float32) [][]float32 {
	const half = kernels.Panel / 2
	var rows [][]float32
	for from := 0; from < len(gate); from += half {
		for _, w := range [][][]float32{gate, up} {
			for i := from; i < from+half; i++ {
				if i < len(w) {
					rows = append(rows, w[i])
				} else {
					rows = append(rows, nil)
				}
			}
		}
	}
	return rows
}

// widened gives the rows of weights that read the same k values, and of the
// adapters that read them: behind the values the weights read what the
// adapters' rows make of them, each its own.
func widened(k int, weights [][]float32, adapters []LowRank) (rows [][][]float32, down [][]float32) {
	rank := 0
	for _, a := range adapters {
		rank += a.Rank
		down = append(down, row(a.Down, k)...)
	}
	if rank > 0 && (k+rank)%2 != 0 {
		down = append(down, make([]float32, k))
		rank++
	}
	at := 0
	for i, w := range weights {
		own := row(w, k)
		if rank > 0 {
			for j := range own {
				wide := make([]float32, k+rank)
				copy(wide, own[j])
				copy(wide[k+at:], adapters[i].Up[j*adapters[i].Rank:(j+1)*adapters[i].Rank])
				own[j] = wide
			}
		}
		at += adapters[i].Rank
		rows = append(rows, own)
	}
	return rows, down
}

// pack writes rows as panels; nil is a row of zeros.
func (d *Decoder) pack(rows [][]float32) kernels.Panels {
	k := 0
	for _, r := range rows {
		k = max(k, len(r))
	}
	p := kernels.Panels{N: int64(len(rows)), K: int64(k)}
	columns := (len(rows) + kernels.Panel - 1) / kernels.Panel * kernels.Panel
	switch {
	case d.half == kernels.Tiled:
		deep := (k + 31) / 32 * 32
		packed := room[bfloat16.BFloat16](d, columns*deep)
		for i, r := range rows {
			at := packed[i/kernels.Panel*kernels.Panel*deep+i%kernels.Panel/16*512+2*(i%16):]
			for j, v := range r {
				at[j/32*32*kernels.Panel+j%32/2*32+j%2] = bfloat16.FromFloat32(v)
			}
		}
		p.Data, p.Half = uintptr(unsafe.Pointer(unsafe.SliceData(packed))), kernels.Tiled
	case d.half == kernels.Pairs && k%2 == 0:
		packed := room[bfloat16.BFloat16](d, columns*k)
		for i, r := range rows {
			at := packed[i/kernels.Panel*kernels.Panel*k+2*(i%kernels.Panel):]
			for j, v := range r {
				at[j/2*2*kernels.Panel+j%2] = bfloat16.FromFloat32(v)
			}
		}
		p.Data, p.Half = uintptr(unsafe.Pointer(unsafe.SliceData(packed))), kernels.Pairs
	default:
		packed := room[float32](d, columns*k)
		for i, r := range rows {
			at := packed[i/kernels.Panel*kernels.Panel*k+i%kernels.Panel:]
			for j, v := range r {
				at[j*kernels.Panel] = v
			}
		}
		p.Data = uintptr(unsafe.Pointer(unsafe.SliceData(packed)))
	}
	return p
}

// room takes zeros for n values from memory on large pages, which lives as long as the Decoder: a forward streams all
// of it, and small pages were measured to cost a quarter of the speed or more.
func room[T any](d *Decoder, n int) []T {
	const line, chunk = 64, 32 << 20
	size := (n*int(unsafe.Sizeof(*new(T))) + line - 1) / line * line
	if size == 0 {
		return nil
	}
	if len(d.free) < size {
		var release func()
		d.free, release = largePages(max(size, min(chunk, d.shape.bytes())))
		d.held = append(d.held, d.free)
		runtime.AddCleanup(d, func(release func()) { release() }, release)
	}
	taken := d.free[:size]
	d.free = d.free[size:]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(taken))), n)
}

// bytes is about the size of a model of float32.
func (s *DecoderShape) bytes() int {
	return 4 * s.Hidden * (s.Layers*(2*(s.Heads+s.KVHeads)*s.HeadDim+3*s.Intermediate) + s.Vocab)
}

// DecoderCache holds the keys and values of nodes, in float32 or, where the Decoder's matrices are tiles, in bfloat16.
type DecoderCache struct {
	keys, values []float32
	blocks       int
}

// NewCache makes room for at least the given number of nodes.
func (d *Decoder) NewCache(nodes int) *DecoderCache {
	blocks := (nodes + DecoderNodes - 1) / DecoderNodes
	size := d.shape.Layers * d.shape.KVHeads * blocks * DecoderNodes * d.shape.HeadDim
	if d.half == kernels.Tiled { // of bfloat16
		size = (size + 1) / 2
	}
	return &DecoderCache{make([]float32, size), make([]float32, size), blocks}
}

// grow returns a slice of n values, the given one where it has room.
func grow(s *[]float32, n int) uintptr {
	if cap(*s) < n {
		*s = make([]float32, n)
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(*s)))
}

// Forward computes the tokens' keys and values into the cache and what is asked
// of the outputs.
func (d *Decoder) Forward(cache *DecoderCache, t *Tokens) error {
	if err := t.check(d.shape, cache.blocks*DecoderNodes); err != nil {
		return err
	}
	n, longest, from := len(t.Positions), 0, make([]int64, len(t.SeenFrom))
	d.tokens, d.from, d.cache = *t, from, cache
	for i, at := range t.SeenFrom {
		from[i] = int64(at)
		if i > 0 {
			longest = max(longest, at-t.SeenFrom[i-1])
		}
	}
	heads, kv := d.shape.Heads*d.shape.HeadDim, d.shape.KVHeads*d.shape.HeadDim
	whole := func(n, unit int) int { return (n + unit - 1) / unit * unit } // tiles are 16 rows of 32
	j := d.job
	j.Tokens, j.Outputs = int64(n), int64(len(t.Outputs))
	j.Position, j.Node = uintptr(unsafe.Pointer(unsafe.SliceData(t.Positions))), uintptr(unsafe.Pointer(unsafe.SliceData(t.Nodes)))
	j.Seen, j.SeenFrom = uintptr(unsafe.Pointer(unsafe.SliceData(t.Seen))), uintptr(unsafe.Pointer(unsafe.SliceData(from)))
	j.Output = uintptr(unsafe.Pointer(unsafe.SliceData(t.Outputs)))
	j.Keys, j.Values = uintptr(unsafe.Pointer(unsafe.SliceData(cache.keys))), uintptr(unsafe.Pointer(unsafe.SliceData(cache.values)))
	j.Blocks = int64(cache.blocks)
	j.X, j.Logits = uintptr(unsafe.Pointer(unsafe.SliceData(t.Embeddings))), uintptr(unsafe.Pointer(unsafe.SliceData(t.Logits)))
	j.Y = grow(&d.work.y, len(t.Outputs)*d.shape.Hidden)
	j.H = grow(&d.work.h, whole(n, 16)*whole(max(d.shape.Hidden, d.most.h), 32))
	j.QKV = grow(&d.work.qkv, n*(heads+2*kv))
	j.Inner = grow(&d.work.inner, whole(n, 16)*whole(d.most.inner, 32))
	j.ScoresSize = int64(2 * (longest*DecoderNodes + d.shape.HeadDim))
	j.Scores = grow(&d.work.scores, d.threads*int(j.ScoresSize))
	j.Pick, j.Best, j.LogSum = kernels.PickNothing, uintptr(unsafe.Pointer(unsafe.SliceData(t.Best))), uintptr(unsafe.Pointer(unsafe.SliceData(t.LogSum)))
	if t.Best != nil {
		j.Pick = kernels.PickBest
	} else if t.LogSum != nil {
		j.Pick = kernels.PickLogSum
	}
	kernels.Decode(j)
	d.tokens, d.from, d.cache = Tokens{}, nil, nil
	runtime.KeepAlive(d)
	return nil
}
