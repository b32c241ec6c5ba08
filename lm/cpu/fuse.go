//go:build cgo

package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// fusedOps is the data of an elementwise node that also computes some of the
// nodes before it, block by block. Every operation gives the same bits as it
// does alone.
type fusedOps struct {
	program []kernels.Instruction
	// leaves say how each input of the node is read.
	leaves []leaf
	// dims are the collapsed dimensions, strides those of all leaves in turn.
	dims, strides []int
}

// leaf is an operand from memory.
type leaf struct {
	size     int32 // Bytes an element: 4, or 1 for a condition.
	elements int
	dense    bool // It has the output's shape and may become the output.
}

const fusedMax = 24 // Instructions of a program.

// instructionOf gives the kernel of an elementwise node, false for others.
func (s *state) instructionOf(n *node) (op int32, ok bool) {
	if n.Data != nil || s.skip[n.OpType] || n.multiple() {
		return 0, false
	}
	if k, ok := binaryOps[n.OpType]; ok {
		// A comparison leaves its bytes in a register.
		return int32(k), n.Inputs[0].Shape.DType == dtypes.Float32
	}
	if n.Shape.DType != dtypes.Float32 {
		return 0, false
	}
	if u, ok := unaryOps[n.OpType]; ok {
		return int32(kernels.OpUnary + u.op), true
	}
	return kernels.OpWhere, n.OpType == compute.OpTypeWhere
}

// multiple tells whether a node has several outputs, or is one of them.
func (n *node) multiple() bool { return len(n.MultiOutputsShapes) > 0 || n.IsNodeSelectOutput }

// usesOf are the consumers of each node of a function, whether outputs or
// closures need it, and whether anything does.
func usesOf(f *function) (consumers [][]*node, needed, live []bool) {
	consumers = make([][]*node, len(f.Nodes))
	needed = make([]bool, len(f.Nodes))
	live = make([]bool, len(f.Nodes))
	var visit func(n *node)
	visit = func(n *node) {
		if n.Function != f || live[n.Index] {
			return
		}
		live[n.Index] = true
		for _, x := range n.Inputs {
			if x.Function == f {
				consumers[x.Index] = append(consumers[x.Index], n)
				visit(x)
			}
		}
		for _, captured := range n.CapturedInputs {
			for _, x := range captured {
				if x.Function == f {
					needed[x.Index] = true
					visit(x)
				}
			}
		}
		for _, x := range n.MultiOutputsNodes {
			visit(x)
		}
	}
	for _, n := range f.Outputs {
		needed[n.Index] = true
		visit(n)
	}
	return consumers, needed, live
}

// fuse merges elementwise nodes into their consumers, where no other node needs
// the intermediate result.
func (s *state) fuse(f *function) {
	consumers, needed, live := usesOf(f)
	done := make([]bool, len(f.Nodes))
	for i := len(f.Nodes) - 1; i >= 0; i-- {
		root := f.Nodes[i]
		if !live[i] || done[i] || root.Shape.Size() < 2 {
			continue
		}
		if _, ok := s.instructionOf(root); !ok || root.Shape.DType != dtypes.Float32 {
			continue
		}
		group := s.group(root, consumers, needed, live)
		program, ok := s.program(root, group)
		if !ok && len(group) > 1 {
			group = []*node{root}
			program, ok = s.program(root, group)
		}
		if !ok || len(group) == 1 && !program.elides(root) {
			continue
		}
		for _, n := range group {
			done[n.Index] = true
		}
		root.Data, root.Inputs = program.data, program.inputs
	}
}

// group returns the nodes that root can compute along: elementwise, of its
// shape, and needed by members of the group alone. The latest come first.
func (s *state) group(root *node, consumers [][]*node, needed, live []bool) []*node {
	group := []*node{root}
	member := map[*node]bool{root: true}
	candidates := slices.Clone(root.Inputs)
	for len(candidates) > 0 && len(group) < fusedMax {
		// The latest candidate: all its consumers have been decided.
		best := 0
		for i, c := range candidates {
			if c.Index > candidates[best].Index {
				best = i
			}
		}
		n := candidates[best]
		candidates = slices.Delete(candidates, best, best+1)
		if member[n] || n.Function != root.Function || needed[n.Index] || !live[n.Index] || !slices.Equal(n.Shape.Dimensions, root.Shape.Dimensions) {
			continue
		}
		if _, ok := s.instructionOf(n); !ok {
			continue
		}
		outside := slices.ContainsFunc(consumers[n.Index], func(c *node) bool { return !member[c] })
		if outside {
			continue
		}
		member[n] = true
		group = append(group, n)
		candidates = append(candidates, n.Inputs...)
	}
	return group
}

// fusedProgram is a program with the nodes that it reads.
type fusedProgram struct {
	data   *fusedOps
	inputs []*node
}

// elides tells whether the program saves anything for a single node: it reads
// the operand of a broadcast.
func (p fusedProgram) elides(root *node) bool {
	for _, x := range root.Inputs {
		if !slices.Contains(p.inputs, x) {
			return true
		}
	}
	return false
}

// program compiles a group; false where it needs too many registers or inputs,
// or reads an operand in a way that the kernel does not.
func (s *state) program(root *node, group []*node) (p fusedProgram, ok bool) {
	dims := root.Shape.Dimensions
	p.data = &fusedOps{}
	uses := map[*node]int{} // Uses of a group's results that are still to come.
	for _, n := range group {
		for _, x := range n.Inputs {
			if slices.Contains(group, x) {
				uses[x]++
			}
		}
	}
	var all [][]int // The strides of each leaf.
	leafOf := map[*node]int32{}
	addLeaf := func(x *node, dt dtypes.DType) (int32, bool) {
		if i, ok := leafOf[x]; ok {
			return i, true
		}
		source, strides, ok := readBroadcast(x, dims)
		if !ok || x.Shape.DType != dt || source.Function != root.Function || len(p.inputs) == kernels.FusedInputs {
			return 0, false
		}
		size := int32(4)
		if dt == dtypes.Bool {
			size = 1
		}
		i := int32(len(p.inputs))
		leafOf[x] = i
		p.inputs = append(p.inputs, source)
		p.data.leaves = append(p.data.leaves, leaf{size, source.Shape.Size(), size == 4 && slices.Equal(source.Shape.Dimensions, dims)})
		all = append(all, strides)
		return i, true
	}
	register := map[*node]int32{}
	var free []int32
	next := int32(0)
	for i := len(group) - 1; i >= 0; i-- {
		n := group[i]
		op, _ := s.instructionOf(n)
		in := kernels.Instruction{Op: op, Dst: -1}
		operands := []*int32{&in.A, &in.B, &in.C}
		var released []int32
		for j, x := range n.Inputs {
			if r, inside := register[x]; inside {
				*operands[j] = -1 - r
				if uses[x]--; uses[x] == 0 {
					released = append(released, r)
				}
				continue
			}
			dt := dtypes.Float32
			if op == kernels.OpWhere && j == 0 {
				dt = dtypes.Bool
			}
			var ok bool
			if *operands[j], ok = addLeaf(x, dt); !ok {
				return p, false
			}
		}
		// An operation may overwrite its operands where all elements are of one
		// size, which masks are not.
		masks := op == kernels.OpWhere || op >= kernels.Eq && op < kernels.OpUnary
		if !masks {
			free, released = append(free, released...), nil
		}
		if n != root {
			if len(free) > 0 {
				in.Dst, free = free[len(free)-1], free[:len(free)-1]
			} else {
				in.Dst = next
				next++
			}
			if next > kernels.FusedRegisters {
				return p, false
			}
			register[n] = in.Dst
		}
		free = append(free, released...)
		p.data.program = append(p.data.program, in)
	}
	if len(p.inputs) == 0 {
		return p, false
	}
	p.data.dims, all = collapseAll(dims, all)
	if len(p.data.dims) > maxRank {
		return p, false
	}
	for _, strides := range all {
		if last := strides[len(strides)-1]; last != 0 && last != 1 {
			return p, false
		}
		p.data.strides = append(p.data.strides, strides...)
	}
	return p, true
}

// readBroadcast returns the node to read an operand from, and its strides along
// dims: a broadcast is read from what it broadcasts.
func readBroadcast(x *node, dims []int) (source *node, strides []int, ok bool) {
	own := x.Shape.Dimensions
	strides = make([]int, len(dims))
	if x.OpType == compute.OpTypeBroadcastInDim && slices.Equal(own, dims) {
		axes, ok := x.Data.([]int)
		source := x.Inputs[0]
		if ok && len(axes) == source.Shape.Rank() && source.Function == x.Function {
			natural := rowMajor(source.Shape.Dimensions)
			for i, axis := range axes {
				if source.Shape.Dimensions[i] != 1 {
					strides[axis] = natural[i]
				}
			}
			return source, strides, true
		}
	}
	if x.Shape.Size() == 1 {
		return x, strides, true
	}
	if len(own) != len(dims) {
		return nil, nil, false
	}
	natural := rowMajor(own)
	for i, d := range own {
		switch {
		case d == dims[i] && d != 1:
			strides[i] = natural[i]
		case d != 1 && d != dims[i]:
			return nil, nil, false
		}
	}
	return x, strides, true
}

// collapseAll is collapse for any number of operands.
func collapseAll(dims []int, all [][]int) (d []int, out [][]int) {
	out = make([][]int, len(all))
	for i, size := range dims {
		if size == 1 {
			continue
		}
		last := len(d) - 1
		merge := last >= 0
		for j, strides := range all {
			merge = merge && out[j][last] == strides[i]*size
		}
		if merge {
			d[last] *= size
			for j, strides := range all {
				out[j][last] = strides[i]
			}
			continue
		}
		d = append(d, size)
		for j, strides := range all {
			out[j] = append(out[j], strides[i])
		}
	}
	return d, out
}

// fused executes a node with fusedOps.
func (s *state) fused(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	p := n.Data.(*fusedOps)
	addresses, sizes := make([]uintptr, len(inputs)), make([]int32, len(inputs))
	kept := slices.Clone(inputs)
	var out *buffer
	for i, x := range inputs {
		l := p.leaves[i]
		sizes[i] = l.size
		addresses[i] = uintptr(address(x))
		if x.RawShape.Size() != l.elements || int32(elementSize(x.RawShape.DType)) != l.size {
			return nil, fmt.Errorf("cpu: operand %d of fused %s has shape %s, not %d elements", i, n.OpType, x.RawShape, l.elements)
		}
		if out == nil && owned[i] && l.dense && !slices.Contains(inputs[i+1:], x) && !slices.Contains(inputs[:i], x) {
			out, inputs[i] = x, nil
		}
	}
	if out == nil {
		var err error
		if out, err = getBuffer(b, n.Shape); err != nil {
			return nil, err
		}
	}
	rows, cost := p.dims[0], len(p.program)
	if last := len(p.dims) - 1; last > 0 {
		rows, cost = elements(p.dims[:last]), p.dims[last]*len(p.program)
	}
	to := (*float32)(unsafe.Pointer(address(out)))
	s.ranges(rows, cost, func(begin, end int) {
		kernels.Fused(p.program, addresses, sizes, p.dims, p.strides, to, begin, end)
	})
	runtime.KeepAlive(kept)
	return out, nil
}
