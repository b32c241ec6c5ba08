//go:build cgo

package cpu

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// passPriority runs the pass after the backend's own, which have 100.
const passPriority = 50

// pass rewrites a graph for the kernels when it is compiled: operations that
// only rearrange are left out where their consumer can read the original.
type pass struct{ s *state }

// Name implements gobackend.GraphTransformation.
func (pass) Name() string { return "esclab/lm/cpu" }

// Apply implements gobackend.GraphTransformation. Inputs are only ever replaced
// by nodes created before them: the order of the nodes stays valid.
func (p pass) Apply(b *builder) (bool, error) {
	if !p.s.on.Load() {
		return false, nil
	}
	for _, f := range b.Functions {
		// Closures were compiled with their uses counted when they returned.
		if f.Compiled != nil || !staticFunction(f) {
			continue
		}
		dropIdentities(f)
		shareSoftmax(f)
		if !p.s.skip[compute.OpTypeDotGeneral] {
			rounded := kernels.Tiles() && takesHalf(f)
			for _, n := range f.Nodes {
				peelTransposes(n, rounded)
			}
			if rounded {
				peelConversions(f)
				addProducts(f)
			}
		}
		p.s.fuse(f)
	}
	return false, nil
}

// registerPass gives the pass to the backend. It calls the methods through the
// interface itself, on an empty builder: the backend's calls are to an interface
// that the linker takes for another one, and it would drop the methods.
//
//go:noinline
func registerPass(t transformation) error {
	if _, err := t.Apply(&builder{}); err != nil || t.Name() == "" {
		return fmt.Errorf("pass %q: %w", t.Name(), err)
	}
	registerTransformation(passPriority, t)
	return nil
}

// staticFunction tells whether all shapes of a function are known: otherwise
// its nodes are specialised later, from data that the pass would have replaced.
func staticFunction(f *function) bool {
	for _, n := range f.Nodes {
		if !static(n.Shape) {
			return false
		}
		for _, s := range n.MultiOutputsShapes {
			if !static(s) {
				return false
			}
		}
	}
	return true
}

// dropIdentities makes the consumers of transposes and reshapes that change
// nothing use the operand itself.
func dropIdentities(f *function) {
	for _, n := range f.Nodes {
		for i, x := range n.Inputs {
			n.Inputs[i] = original(x)
		}
	}
}

// original skips transposes and reshapes that change nothing, and pads with the
// slice that cuts them off again.
func original(n *node) *node {
	for len(n.Inputs) == 1 && n.Inputs[0].Function == n.Function {
		x := n.Inputs[0]
		if n.OpType == compute.OpTypeSlice && x.OpType == compute.OpTypePad && cutsOff(data[sliceData](n), data[padData](x), x.Inputs[0], n) {
			n = x.Inputs[0]
			continue
		}
		if !n.Shape.Equal(x.Shape) {
			return n
		}
		switch n.OpType {
		case compute.OpTypeReshape:
		case compute.OpTypeTranspose:
			permutation, ok := n.Data.([]int)
			if !ok || !leading(permutation) {
				return n
			}
		default:
			return n
		}
		n = x
	}
	return n
}

// cutsOff tells whether n, a slice of a padded x, is x.
func cutsOff(slice *sliceData, pad *padData, x, n *node) bool {
	if x.Function != n.Function || !n.Shape.Equal(x.Shape) || len(pad.axesConfig) != len(slice.starts) {
		return false
	}
	for i, c := range pad.axesConfig {
		if c.Interior != 0 || c.Start != slice.starts[i] || slice.strides[i] != 1 {
			return false
		}
	}
	return true
}

// shareSoftmax replaces a FusedSoftmax whose decomposition exists too, because
// a gradient needs it, by the decomposition's result.
func shareSoftmax(f *function) {
	replacement := map[*node]*node{}
	for _, fused := range f.Nodes {
		if fused.OpType != compute.OpTypeFusedSoftmax || fused.Shape.DType != dtypes.Float32 {
			continue
		}
		for _, n := range f.Nodes {
			if isSoftmaxOf(n, fused.Inputs[0]) && data[softmaxData](fused).axis == fused.Shape.Rank()-1 {
				replacement[fused] = n
				break
			}
		}
	}
	if len(replacement) == 0 {
		return
	}
	// The decomposition comes later in the order than the fused node, whose
	// consumers may precede it: only those that follow can use it.
	for _, n := range f.Nodes {
		for i, x := range n.Inputs {
			if r := replacement[x]; r != nil && r.Index < n.Index {
				n.Inputs[i] = r
			}
		}
	}
}

// isSoftmaxOf recognises Div(e, Sum(e)) with e = Exp(x - Max(x)) over the last
// axis, as GoMLX decomposes it.
func isSoftmaxOf(n, x *node) bool {
	if n.OpType != compute.OpTypeDiv || !n.Shape.Equal(x.Shape) {
		return false
	}
	e, sum := n.Inputs[0], skipReshape(n.Inputs[1])
	if e.OpType != compute.OpTypeExp || e.Inputs[0].OpType != compute.OpTypeSub || sum.OpType != compute.OpTypeReduceSum || sum.Inputs[0] != e {
		return false
	}
	shifted := e.Inputs[0]
	maximum := skipReshape(shifted.Inputs[1])
	return shifted.Inputs[0] == x && maximum.OpType == compute.OpTypeReduceMax && maximum.Inputs[0] == x &&
		reducesLast(sum, x) && reducesLast(maximum, x)
}

func skipReshape(n *node) *node {
	for n.OpType == compute.OpTypeReshape || n.OpType == compute.OpTypeIdentity {
		n = n.Inputs[0]
	}
	return n
}

func reducesLast(n, x *node) bool {
	axes, ok := n.Data.([]int)
	return ok && len(axes) == 1 && axes[0] == x.Shape.Rank()-1
}

// atom is a factor of an index: size steps of the given stride.
type atom struct{ size, stride int }

// stridedDot is the data of a DotGeneral node whose operands are read where
// they lie before a transpose, or as they are before they are rounded.
type stridedDot struct {
	product
	xSize, ySize int
}

// takesHalf tells whether a function takes matrices of bfloat16: then it computes
// in mixed precision, and products of float32 may round their operands, too.
func takesHalf(f *function) bool {
	return slices.ContainsFunc(f.Parameters, func(n *node) bool { return n.Shape.DType == dtypes.BFloat16 && n.Shape.Rank() == 2 })
}

// peelConversions makes products of bfloat16 read an operand of float32 that is
// rounded for one of them alone.
func peelConversions(f *function) {
	consumers, needed, _ := usesOf(f)
	for _, n := range f.Nodes {
		if n.OpType != compute.OpTypeDotGeneral || n.Shape.Size() == 0 {
			continue
		}
		if _, done := n.Data.(*stridedDot); done {
			continue
		}
		p, ok := halfProduct(data[dotData](n))
		x := n.Inputs[0]
		single := func(x *node) bool { return x.Function == f && !needed[x.Index] && len(consumers[x.Index]) == 1 }
		for x.OpType == compute.OpTypeReshape && single(x) {
			x = x.Inputs[0]
		}
		if !ok || x.OpType != compute.OpTypeConvertDType || !single(x) || x.Inputs[0].Shape.DType != dtypes.Float32 || x.Inputs[0].Function != f {
			continue
		}
		n.Inputs[0] = x.Inputs[0]
		n.Data = &stridedDot{p, n.Inputs[0].Shape.Size(), n.Inputs[1].Shape.Size()}
	}
}

// addProducts makes sums take a product on tiles that nothing else needs onto
// their other operand, where it is computed.
func addProducts(f *function) {
	consumers, needed, live := usesOf(f)
	single := func(x *node) bool { return x.Function == f && !needed[x.Index] && len(consumers[x.Index]) == 1 }
	productOf := func(x *node) (d *node, p stridedDot, ok bool) {
		for x.OpType == compute.OpTypeReshape && single(x) {
			x = x.Inputs[0]
		}
		if x.OpType != compute.OpTypeDotGeneral || !single(x) {
			return nil, p, false
		}
		if strided, ok := x.Data.(*stridedDot); ok {
			p = *strided
		} else if p.product, ok = halfProduct(data[dotData](x)); ok {
			p.xSize, p.ySize = x.Inputs[0].Shape.Size(), x.Inputs[1].Shape.Size()
		} else {
			return nil, p, false
		}
		half := x.Inputs[1].Shape.DType == dtypes.BFloat16
		return x, p, p.batch == 1 && (half || p.rounded && p.tiled())
	}
	for _, n := range f.Nodes {
		if n.OpType != compute.OpTypeAdd || n.Shape.DType != dtypes.Float32 || !live[n.Index] {
			continue
		}
		for _, i := range []int{1, 0} { // the later one rather
			other := n.Inputs[1-i]
			d, p, ok := productOf(n.Inputs[i])
			if !ok || !slices.Equal(other.Shape.Dimensions, n.Shape.Dimensions) || !slices.Equal(n.Inputs[i].Shape.Dimensions, n.Shape.Dimensions) {
				continue
			}
			p.add = true
			n.Inputs = []*node{other, d.Inputs[0], d.Inputs[1]}
			n.Data = &addedDot{p}
			break
		}
	}
}

// peelTransposes makes a DotGeneral read the operands of the transposes that
// feed it, and round them or not.
func peelTransposes(n *node, rounded bool) {
	if n.OpType != compute.OpTypeDotGeneral || n.Shape.DType != dtypes.Float32 || n.Shape.Size() == 0 {
		return
	}
	if _, done := n.Data.(*stridedDot); done {
		return
	}
	p, ok := productOf(data[dotData](n))
	if !ok {
		return
	}
	// The product knows its sizes: it reads the operand of a reshape as well.
	lhs, rhs := withoutReshape(n.Inputs[0]), withoutReshape(n.Inputs[1])
	n.Inputs[0], n.Inputs[1] = lhs, rhs
	if source, atoms, ok := beforeTranspose(lhs); ok {
		if offsets, row, col, ok := matrixView(atoms, p.batch, p.m, p.k); ok {
			lhs, p.aOffsets, p.aRow, p.aCol = source, offsets, row, col
		}
	}
	if source, atoms, ok := beforeTranspose(rhs); ok {
		rows, cols := p.n, p.k
		if p.bCol == 1 {
			rows, cols = p.k, p.n
		}
		if offsets, row, col, ok := matrixView(atoms, p.batch, rows, cols); ok {
			rhs, p.bOffsets = source, offsets
			if p.bCol == 1 {
				p.bRow, p.bCol = row, col
			} else {
				p.bRow, p.bCol = col, row
			}
		}
	}
	if lhs == n.Inputs[0] && rhs == n.Inputs[1] && !rounded {
		return
	}
	p.rounded = rounded
	n.Data = &stridedDot{p, lhs.Shape.Size(), rhs.Shape.Size()}
	n.Inputs[0], n.Inputs[1] = lhs, rhs
}

// withoutReshape follows reshapes to what they reshape.
func withoutReshape(n *node) *node {
	for n.OpType == compute.OpTypeReshape && n.Inputs[0].Function == n.Function {
		n = n.Inputs[0]
	}
	return n
}

// beforeTranspose follows reshapes to one transpose and past it, and returns
// its operand with the factors of the flat index in terms of it.
func beforeTranspose(n *node) (source *node, atoms []atom, ok bool) {
	function := n.Function
	n = withoutReshape(n)
	if n.OpType != compute.OpTypeTranspose || n.Function != function {
		return nil, nil, false
	}
	permutation, ok := n.Data.([]int)
	if !ok {
		return nil, nil, false
	}
	source = n.Inputs[0]
	strides := rowMajor(source.Shape.Dimensions)
	for i, axis := range permutation {
		atoms = append(atoms, atom{n.Shape.Dimensions[i], strides[axis]})
	}
	source = withoutReshape(source)
	return source, atoms, source.Function == function
}

// matrixView groups the factors into [batch, rows, cols]: the offset of every
// matrix and the strides of its axes. It fails where an axis has no one stride.
func matrixView(atoms []atom, batch, rows, cols int) (offsets []int, row, col int, ok bool) {
	var groups [3][]atom
	rest := append([]atom(nil), atoms...)
	for i, size := range []int{batch, rows, cols} {
		for left := size; left > 1; {
			if len(rest) == 0 {
				return nil, 0, 0, false
			}
			a := rest[0]
			switch {
			case a.size == 1:
				rest = rest[1:]
			case left%a.size == 0:
				groups[i] = append(groups[i], a)
				left /= a.size
				rest = rest[1:]
			case a.size%left == 0:
				// The outer part of the factor belongs here.
				inner := a.size / left
				groups[i] = append(groups[i], atom{left, a.stride * inner})
				rest[0].size = inner
				left = 1
			default:
				return nil, 0, 0, false
			}
		}
	}
	offsets = []int{0}
	for _, a := range groups[0] {
		next := make([]int, 0, len(offsets)*a.size)
		for _, o := range offsets {
			for i := range a.size {
				next = append(next, o+i*a.stride)
			}
		}
		offsets = next
	}
	row, okRow := oneStride(groups[1])
	col, okCol := oneStride(groups[2])
	return offsets, row, col, okRow && okCol
}

// oneStride merges factors into a single one.
func oneStride(atoms []atom) (stride int, ok bool) {
	stride = 1
	for i, a := range atoms {
		if i > 0 && atoms[i-1].stride != a.stride*a.size {
			return 0, false
		}
		stride = a.stride
	}
	return stride, true
}
