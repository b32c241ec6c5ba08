//go:build cgo

package cpu

import (
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// elementSize is the size of the types that the copies take, 0 for others.
func elementSize(d dtypes.DType) int {
	switch d {
	case dtypes.Bool, dtypes.Int8, dtypes.Uint8:
		return 1
	case dtypes.Float32, dtypes.Int32, dtypes.Uint32:
		return 4
	case dtypes.Float64, dtypes.Int64, dtypes.Uint64:
		return 8
	}
	return 0
}

// address returns where a buffer's values begin.
func address(b *buffer) unsafe.Pointer {
	// Flat is a slice boxed in an interface: its data word points to the header.
	return *(*unsafe.Pointer)((*[2]unsafe.Pointer)(unsafe.Pointer(&b.Flat))[1])
}

// rowMajor returns the strides of a dense array.
func rowMajor(dims []int) []int {
	strides := make([]int, len(dims))
	stride := 1
	for i := len(dims) - 1; i >= 0; i-- {
		strides[i] = stride
		stride *= dims[i]
	}
	return strides
}

// copyStrided copies over dims, in parallel; offsets are in elements. It
// returns false for what the kernel does not take.
func (s *state) copyStrided(from, to unsafe.Pointer, fromOffset, toOffset, size int, dims, si, so []int) bool {
	if elements(dims) == 0 {
		return true
	}
	d, x, y, ok := collapse(dims, si, so)
	if !ok || y[len(y)-1] != 1 && d[len(d)-1] != 1 {
		return false
	}
	from, to = unsafe.Add(from, fromOffset*size), unsafe.Add(to, toOffset*size)
	if len(d) == 1 {
		// One run: rows of the grain of parallelism, and the rest.
		const row = 1 << 13
		n := d[0]
		if n <= row {
			kernels.Copy(from, to, size, []int{1, n}, []int{0, x[0]}, []int{0, 1}, 0, 1)
			return true
		}
		whole := n / row * row
		if whole < n { // else the pointers would lie one past their buffers
			s.copyStrided(unsafe.Add(from, whole*x[0]*size), unsafe.Add(to, whole*size), 0, 0, size, []int{n - whole}, x, y)
		}
		d, x, y = []int{n / row, row}, []int{row * x[0], x[0]}, []int{row, 1}
	}
	if len(d) == 2 {
		// A single plane is divided along its rows.
		const step = 16
		s.ranges((d[0]+step-1)/step, step*d[1], func(begin, end int) {
			begin, end = begin*step, min(end*step, d[0])
			kernels.Copy(unsafe.Add(from, begin*x[0]*size), unsafe.Add(to, begin*y[0]*size), size, []int{end - begin, d[1]}, x, y, 0, 1)
		})
		return true
	}
	last := len(d) - 2
	s.ranges(elements(d[:last]), d[last]*d[last+1], func(begin, end int) { kernels.Copy(from, to, size, d, x, y, begin, end) })
	return true
}

// copied executes an operation that writes a dense output from strided input.
func (s *state) copied(b *backend, n *node, x *buffer, offset int, strides []int) (*buffer, error) {
	size := elementSize(x.RawShape.DType)
	if size == 0 || !static(n.Shape) || n.Shape.Size() == 0 || len(strides) > maxRank {
		return nil, nil
	}
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	dims := n.Shape.Dimensions
	if !s.copyStrided(address(x), address(out), offset, 0, size, dims, strides, rowMajor(dims)) {
		putBuffer(b, out)
		return nil, nil
	}
	return out, nil
}

// transpose executes Transpose; one that moves nothing takes over its input.
func (s *state) transpose(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
	x := inputs[0]
	permutation, _ := n.Data.([]int)
	own := rowMajor(x.RawShape.Dimensions)
	strides := make([]int, len(permutation))
	moves, last := false, -1
	for i, axis := range permutation {
		strides[i] = own[axis]
		if x.RawShape.Dimensions[axis] != 1 {
			moves = moves || axis < last
			last = axis
		}
	}
	if !moves && owned[0] && static(n.Shape) {
		inputs[0] = nil
		x.RawShape = n.Shape
		return x, nil
	}
	return s.copied(b, n, x, 0, strides)
}

// broadcastInDim executes BroadcastInDim.
func (s *state) broadcastInDim(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	x := inputs[0]
	axes, _ := n.Data.([]int)
	strides := make([]int, n.Shape.Rank())
	if x.RawShape.Size() > 1 {
		own := rowMajor(x.RawShape.Dimensions)
		for i, axis := range axes {
			if x.RawShape.Dimensions[i] != 1 {
				strides[axis] = own[i]
			}
		}
	}
	return s.copied(b, n, x, 0, strides)
}

// slice executes Slice.
func (s *state) slice(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	x, d := inputs[0], data[sliceData](n)
	own := rowMajor(x.RawShape.Dimensions)
	offset := 0
	strides := make([]int, len(own))
	for i := range own {
		offset += d.starts[i] * own[i]
		strides[i] = d.strides[i] * own[i]
	}
	return s.copied(b, n, x, offset, strides)
}

// concatenate executes Concatenate.
func (s *state) concatenate(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	axis, ok := n.Data.(int)
	size := elementSize(n.Shape.DType)
	if !ok || size == 0 || !static(n.Shape) || n.Shape.Rank() > maxRank || n.Shape.Size() == 0 {
		return nil, nil
	}
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	strides := rowMajor(n.Shape.Dimensions)
	offset := 0
	for _, x := range inputs {
		dims := x.RawShape.Dimensions
		if !s.copyStrided(address(x), address(out), 0, offset, size, dims, rowMajor(dims), strides) {
			putBuffer(b, out)
			return nil, nil
		}
		offset += dims[axis] * strides[axis]
	}
	return out, nil
}

// padData mirrors ops.padNode.
type padData struct{ axesConfig []compute.PadAxis }

// pad executes Pad without interior or negative padding.
func (s *state) pad(b *backend, n *node, inputs []*buffer, _ []bool) (*buffer, error) {
	x, fill := inputs[0], inputs[1]
	size := elementSize(n.Shape.DType)
	config := data[padData](n).axesConfig
	if size == 0 || !static(n.Shape) || n.Shape.Rank() > maxRank || n.Shape.Size() == 0 || len(config) != n.Shape.Rank() {
		return nil, nil
	}
	strides := rowMajor(n.Shape.Dimensions)
	offset := 0
	for i, c := range config {
		if c.Interior != 0 || c.Start < 0 || c.End < 0 {
			return nil, nil
		}
		offset += c.Start * strides[i]
	}
	out, err := getBuffer(b, n.Shape)
	if err != nil {
		return nil, err
	}
	zero := make([]int, len(strides))
	dims := x.RawShape.Dimensions
	if !s.copyStrided(address(fill), address(out), 0, 0, size, n.Shape.Dimensions, zero, strides) ||
		!s.copyStrided(address(x), address(out), 0, offset, size, dims, rowMajor(dims), strides) {
		putBuffer(b, out)
		return nil, nil
	}
	return out, nil
}
