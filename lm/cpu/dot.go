//go:build cgo

package cpu

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// product is a batched matrix product C[b] = A[b] B[b], with A[m,k] and B[k,n]
// of any strides and offsets, and C dense.
type product struct {
	batch, m, n, k     int
	aOffsets, bOffsets []int // nil: matrices lie one after the other.
	aRow, aCol         int
	bRow, bCol         int
	rounded            bool // operands may be rounded to bfloat16
	add                bool // to what the result holds; of rounded products, on tiles
}

// planes is how the tiles take the operands.
func (p *product) planes() kernels.Planes {
	if p.rounded {
		return kernels.Rounded
	}
	return kernels.Exact
}

// swapped is the product of the transposed operands, whose result is transposed.
func (p product) swapped() product {
	p.m, p.n = p.n, p.m
	p.aOffsets, p.bOffsets = p.bOffsets, p.aOffsets
	p.aRow, p.aCol, p.bRow, p.bCol = p.bCol, p.bRow, p.aCol, p.aRow
	return p
}

// a is the left operand of product i.
func (p *product) a(x []float32, i int) kernels.Matrix {
	at := i * p.m * p.k
	if p.aOffsets != nil {
		at = p.aOffsets[i]
	}
	return kernels.Matrix{Data: &x[at], Row: p.aRow, Col: p.aCol}
}

// b is the right operand of product i.
func (p *product) b(y []float32, i int) kernels.Matrix {
	at := i * p.n * p.k
	if p.bOffsets != nil {
		at = p.bOffsets[i]
	}
	return kernels.Matrix{Data: &y[at], Row: p.bRow, Col: p.bCol}
}

// productOf describes the product of a DotGeneral node, false for one of
// another type or layout.
func productOf(d *dotData) (p product, ok bool) {
	if d.InputDType != dtypes.Float32 || d.OutputDType != dtypes.Float32 {
		return p, false
	}
	return productIn(d)
}

// productIn is the product of a DotGeneral node in either of the backend's
// layouts.
func productIn(d *dotData) (p product, ok bool) {
	p = product{batch: d.BatchSize, m: d.LHSCrossSize, n: d.RHSCrossSize, k: d.ContractingSize}
	p.aRow, p.aCol = p.k, 1
	switch d.Layout {
	case layoutNonTransposed:
		p.bRow, p.bCol = p.n, 1
	case layoutTransposed:
		p.bRow, p.bCol = 1, p.k
	default:
		return p, false
	}
	return p, true
}

// dotGeneral executes DotGeneral on float32, and on bfloat16 where the processor
// multiplies it.
func (s *state) dotGeneral(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	var p product
	x, y := halves(inputs[0]), halves(inputs[1])
	if len(x) > 0 && len(y) > 0 && static(n.Shape) {
		p, ok := halfProduct(data[dotData](n))
		if !ok || len(x) != p.m*p.k || len(y) != p.n*p.k || n.Shape.Size() != p.m*p.n {
			return nil, nil
		}
		out, err := getBuffer(b, n.Shape)
		if err != nil {
			return nil, err
		}
		s.multiplyHalf(p, x, nil, y, floats(out))
		return out, nil
	}
	if d, ok := n.Data.(*stridedDot); ok {
		p = d.product
		if inputs[0].RawShape.Size() != d.xSize || inputs[1].RawShape.Size() != d.ySize || len(floats(inputs[0])) != d.xSize {
			return nil, fmt.Errorf("cpu: a matrix product of %d and %d values got %s and %s", d.xSize, d.ySize, inputs[0].RawShape, inputs[1].RawShape)
		}
	} else {
		if p, ok = productOf(data[dotData](n)); !ok || !static(n.Shape) {
			return nil, nil
		}
		if len(floats(inputs[0])) != p.batch*p.m*p.k || len(floats(inputs[1])) != p.batch*p.n*p.k || n.Shape.Size() != p.batch*p.m*p.n {
			return nil, nil
		}
	}
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	if len(y) > 0 {
		s.multiplyHalf(p, nil, floats(inputs[0]), y, floats(out))
	} else {
		s.multiply(p, floats(inputs[0]), floats(inputs[1]), floats(out))
	}
	return out, nil
}

// addedDot is the data of an Add node whose first operand the product of the
// other two is added to.
type addedDot struct{ stridedDot }

// addDot executes Add of a product.
func (s *state) addDot(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	d := n.Data.(*addedDot)
	to, x, y := inputs[0], inputs[1], inputs[2]
	if x.RawShape.Size() != d.xSize || y.RawShape.Size() != d.ySize || len(floats(to)) != d.m*d.n {
		return nil, fmt.Errorf("cpu: a matrix product of %d and %d values, added to %d, got %s, %s and %s", d.xSize, d.ySize, d.m*d.n, x.RawShape, y.RawShape, to.RawShape)
	}
	out := to
	if owned[0] {
		inputs[0] = nil
		out.RawShape = n.Shape
	} else {
		var err error
		if out, err = getBuffer(b, n.Shape); err != nil {
			return nil, err
		}
		s.copyStrided(address(to), address(out), 0, 0, 4, []int{d.m * d.n}, []int{1}, []int{1})
	}
	if half := halves(y); half != nil {
		s.multiplyHalf(d.product, halves(x), floats(x), half, floats(out))
	} else {
		s.multiply(d.product, floats(x), floats(y), floats(out))
	}
	return out, nil
}

// dotRows is the largest number of rows for which the product runs along k,
// unpacked: decoding reads each weight once then.
const dotRows = 24

// multiply computes the product. The kernel is chosen from the shapes alone, so
// that results do not depend on the number of threads.
func (s *state) multiply(p product, x, y, out []float32) {
	if len(out) == 0 {
		return
	}
	if p.k == 0 {
		clear(out)
		return
	}
	if kernels.Tiles() {
		if p.tiled() {
			s.multiplyTiles(p, x, y, out)
			return
		}
		if q := p.swapped(); p.rounded && q.tiled() {
			s.multiplySwapped(p, x, y, out)
			return
		}
	}
	dot := p.m <= dotRows && p.aCol == 1 && p.bRow == 1
	block := func(i, m0, m1, n0, n1 int) {
		c := &out[i*p.m*p.n]
		if dot {
			kernels.GemmDot(p.a(x, i), p.b(y, i), c, p.n, p.m, n0, n1, p.k)
			return
		}
		withWorkspace(func(work *float32) {
			kernels.Gemm(p.a(x, i), p.b(y, i), c, p.n, m0, m1, n0, n1, p.k, work)
		})
	}
	// One task takes at least some 1M multiply-adds, a few microseconds.
	const grain = 1 << 20
	tasks := min(2*s.threads, p.batch*p.m*p.n*p.k/grain)
	if s.threads <= 1 || tasks <= 1 {
		for i := range p.batch {
			block(i, 0, p.m, 0, p.n)
		}
		return
	}
	if p.batch >= tasks {
		s.parallel(tasks, func(t int) {
			for i := t * p.batch / tasks; i < (t+1)*p.batch/tasks; i++ {
				block(i, 0, p.m, 0, p.n)
			}
		})
		return
	}
	parts := (tasks + p.batch - 1) / p.batch
	if dot || p.n > p.m {
		const step = 32
		steps := (p.n + step - 1) / step
		parts = min(parts, steps)
		s.parallel(p.batch*parts, func(t int) {
			i, j := t/parts, t%parts
			block(i, 0, p.m, j*steps/parts*step, min((j+1)*steps/parts*step, p.n))
		})
		return
	}
	const step = 12
	steps := (p.m + step - 1) / step
	parts = min(parts, steps)
	s.parallel(p.batch*parts, func(t int) {
		i, j := t/parts, t%parts
		block(i, j*steps/parts*step, min((j+1)*steps/parts*step, p.m), 0, p.n)
	})
}
