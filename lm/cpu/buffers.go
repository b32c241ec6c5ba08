//go:build cgo

package cpu

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// getBuffer returns a buffer of a shape, on large pages where it is large.
func getBuffer(b *backend, shape shapes.Shape) (*buffer, error) {
	buf, err := newBuffer(b, shape)
	if err == nil {
		onLargePages(buf.RawBytes)
	}
	return buf, err
}

// floats returns a buffer's float32 values, nil for another type.
func floats(b *buffer) []float32 {
	v, _ := b.Flat.([]float32)
	return v
}

// static tells whether all dimensions are known.
func static(s shapes.Shape) bool {
	for _, d := range s.Dimensions {
		if d < 0 {
			return false
		}
	}
	return true
}

// isInt tells whether all buffers are int32.
func isInt(bufs ...*buffer) bool {
	for _, b := range bufs {
		if b.RawShape.DType != dtypes.Int32 {
			return false
		}
	}
	return true
}

// isFloat tells whether all buffers are float32.
func isFloat(bufs ...*buffer) bool {
	for _, b := range bufs {
		if b.RawShape.DType != dtypes.Float32 {
			return false
		}
	}
	return true
}
