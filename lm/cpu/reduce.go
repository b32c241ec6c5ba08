//go:build cgo

package cpu

import (
	"slices"

	"github.com/gomlx/compute"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

var reduceOps = map[compute.OpType]int{
	compute.OpTypeReduceSum: kernels.Sum, compute.OpTypeReduceMax: kernels.ReduceMax, compute.OpTypeReduceMin: kernels.ReduceMin,
}

// reduceBlock is the number of elements that one partial result stands for in
// the reduction of one long row.
const reduceBlock = 1 << 14

// group is a run of neighbouring axes that are all reduced or all kept.
type group struct {
	size    int
	reduced bool
}

// reduce returns the executor of a reduction over any axes.
func (s *state) reduce(op int) executor {
	return func(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
		x := inputs[0]
		if !isFloat(x) || !static(n.Shape) {
			return nil, nil
		}
		axes, _ := n.Data.([]int)
		var groups []group
		for axis, d := range x.RawShape.Dimensions {
			reduced := len(axes) == 0 || slices.Contains(axes, axis)
			if last := len(groups) - 1; last >= 0 && groups[last].reduced == reduced {
				groups[last].size *= d
			} else {
				groups = append(groups, group{d, reduced})
			}
		}
		reductions := 0
		for _, g := range groups {
			if g.reduced {
				reductions++
			}
		}
		if reductions == 0 || x.RawShape.Size() == 0 {
			return nil, nil
		}
		out, err := getBuffer(b, n.Shape)
		if err != nil {
			return nil, err
		}
		from := floats(x)
		// The groups are reduced one after another, the last first.
		for ; reductions > 0; reductions-- {
			i := len(groups) - 1
			for !groups[i].reduced {
				i--
			}
			outer, rows, inner := 1, groups[i].size, 1
			for _, g := range groups[:i] {
				outer *= g.size
			}
			for _, g := range groups[i+1:] {
				inner *= g.size
			}
			to := floats(out)
			if reductions > 1 {
				to = make([]float32, outer*inner)
			}
			s.reduceAxis(op, from, to, outer, rows, inner)
			groups = slices.Delete(groups, i, i+1)
			from = to
		}
		return out, nil
	}
}

// reduceAxis reduces the middle axis of from[outer, rows, inner].
func (s *state) reduceAxis(op int, from, to []float32, outer, rows, inner int) {
	if inner > 1 {
		if outer > 1 {
			s.ranges(outer, rows*inner, func(begin, end int) {
				for o := begin; o < end; o++ {
					kernels.ReduceCols(op, &from[o*rows*inner], &to[o*inner], rows, inner, 0, inner)
				}
			})
			return
		}
		const step = 64 // Columns of one task: whole vectors.
		s.ranges((inner+step-1)/step, rows*step, func(begin, end int) {
			kernels.ReduceCols(op, &from[0], &to[0], rows, inner, begin*step, min(end*step, inner))
		})
		return
	}
	if rows < 2*reduceBlock || outer > 64 {
		s.ranges(outer, rows, func(begin, end int) { kernels.ReduceRows(op, &from[0], &to[0], rows, begin, end) })
		return
	}
	// Long rows are reduced in blocks of a fixed size, whatever the threads.
	blocks := (rows + reduceBlock - 1) / reduceBlock
	partial := make([]float32, outer*blocks)
	s.ranges(outer*blocks, reduceBlock, func(begin, end int) {
		for t := begin; t < end; t++ {
			o, at := t/blocks, t%blocks*reduceBlock
			kernels.ReduceRows(op, &from[o*rows+at], &partial[t], min(reduceBlock, rows-at), 0, 1)
		}
	})
	kernels.ReduceRows(op, &partial[0], &to[0], blocks, 0, outer)
}

// softmaxData mirrors fusedops.nodeFusedSoftmax.
type softmaxData struct{ axis int }

// softmax executes FusedSoftmax over the last axis.
func (s *state) softmax(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	x := inputs[0]
	dims := x.RawShape.Dimensions
	if !isFloat(x) || !static(n.Shape) || data[softmaxData](n).axis != len(dims)-1 || x.RawShape.Size() == 0 {
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
	}
	width := dims[len(dims)-1]
	from, to := floats(x), floats(out)
	s.ranges(len(from)/width, 5*width, func(begin, end int) { kernels.Softmax(&from[0], &to[0], width, begin, end) })
	return out, nil
}
