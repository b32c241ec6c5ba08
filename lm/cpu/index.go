//go:build cgo

package cpu

import (
	"slices"
	"unsafe"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// rows describes a Gather or ScatterSum of whole rows: the leading axes of the
// operand are indexed, the others make the row.
type rows struct {
	indexed []int // Sizes of the indexed axes.
	width   int   // Elements of a row.
	count   int   // Number of rows moved.
}

// leading tells whether axes are 0, 1, 2, ...
func leading(axes []int) bool {
	for i, a := range axes {
		if a != i {
			return false
		}
	}
	return true
}

// trailing tells whether axes are the last ones of a rank, in order.
func trailing(axes []int, rank int) bool {
	for i, a := range axes {
		if a != rank-len(axes)+i {
			return false
		}
	}
	return true
}

// rowsOf describes the rows; false where the axes are arranged otherwise.
func rowsOf(operand, indices []int, vectorAxis int, indexMap, collapsed, window []int, windowRank int) (rows, bool) {
	k := len(indexMap)
	if !leading(indexMap) || len(collapsed) != k || !leading(collapsed) || k > len(operand) ||
		!trailing(window, windowRank) || len(window) != len(operand)-k {
		return rows{}, false
	}
	switch vectorAxis {
	case len(indices):
		if k != 1 {
			return rows{}, false
		}
	case len(indices) - 1:
		if indices[vectorAxis] != k {
			return rows{}, false
		}
	default:
		return rows{}, false
	}
	r := rows{indexed: operand[:k], width: elements(operand[k:])}
	r.count = elements(indices) / k
	return r, true
}

// starts returns the row number of every entry of the indices. Out-of-range
// ones are clamped, or -1 where clamp is false.
func (r rows) starts(flat any, clamp bool) ([]int, bool) {
	switch v := flat.(type) {
	case []int32:
		return startsOf(r, v, clamp), true
	case []int64:
		return startsOf(r, v, clamp), true
	}
	return nil, false
}

func startsOf[T int32 | int64](r rows, flat []T, clamp bool) []int {
	k := len(r.indexed)
	at := make([]int, r.count)
	for i := range at {
		row := 0
		for j, size := range r.indexed {
			index := int(flat[i*k+j])
			if clamp {
				index = max(0, min(size-1, index))
			} else if index < 0 || index >= size {
				row = -1
				break
			}
			row = row*size + index
		}
		at[i] = row
	}
	return at
}

// gather executes Gather of whole rows.
func (s *state) gather(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	x, indices, d := inputs[0], inputs[1], data[gatherData](n)
	size := elementSize(x.RawShape.DType)
	dims := x.RawShape.Dimensions
	if size == 0 || !static(n.Shape) || n.Shape.Size() == 0 || x.RawShape.Size() == 0 {
		return nil, nil
	}
	r, ok := rowsOf(dims, indices.RawShape.Dimensions, d.indexVectorAxis, d.startIndexMap, d.collapsedSlicesAxes, d.offsetOutputAxes, n.Shape.Rank())
	if !ok || !slices.Equal(d.sliceSizes[len(r.indexed):], dims[len(r.indexed):]) || r.count*r.width != n.Shape.Size() {
		return nil, nil
	}
	at, ok := r.starts(indices.Flat, true)
	if !ok {
		return nil, nil
	}
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	row := r.width * size
	from := unsafe.Slice((*byte)(address(x)), elements(dims)*size)
	to := unsafe.Slice((*byte)(address(out)), r.count*row)
	s.ranges(r.count, r.width, func(begin, end int) {
		for i := begin; i < end; i++ {
			copy(to[i*row:(i+1)*row], from[at[i]*row:])
		}
	})
	return out, nil
}

// scatterSum executes ScatterSum of whole rows: repeated ones are added in the
// order of the indices.
func (s *state) scatterSum(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	x, indices, updates, d := inputs[0], inputs[1], inputs[2], data[scatterData](n)
	if !isFloat(x, updates) || !static(n.Shape) || n.Shape.Size() == 0 {
		return nil, nil
	}
	r, ok := rowsOf(x.RawShape.Dimensions, indices.RawShape.Dimensions, d.indexVectorAxis,
		d.scatterAxesToOperandAxes, d.insertedWindowAxes, d.updateWindowAxes, updates.RawShape.Rank())
	if !ok || r.count*r.width != updates.RawShape.Size() || r.count == 0 {
		return nil, nil
	}
	at, ok := r.starts(indices.Flat, false)
	if !ok || slices.Contains(at, -1) {
		return nil, nil
	}
	out := x
	if owned[0] {
		inputs[0] = nil
	} else {
		var err error
		if out, err = getBuffer(b, n.Shape); err != nil {
			return nil, err
		}
		size := x.RawShape.Size()
		s.copyStrided(address(x), address(out), 0, 0, 4, []int{size}, []int{1}, []int{1})
	}
	out.RawShape = n.Shape
	to, from := floats(out), floats(updates)
	if r.width == 1 {
		for i, row := range at {
			to[row] += from[i]
		}
		return out, nil
	}
	// Each task takes a range of columns, and all the rows in order.
	const step = 64
	s.ranges((r.width+step-1)/step, r.count*step, func(begin, end int) {
		begin, end = begin*step, min(end*step, r.width)
		for i, row := range at {
			kernels.AddRows(&to[row*r.width+begin], &from[i*r.width+begin], end-begin)
		}
	})
	return out, nil
}
