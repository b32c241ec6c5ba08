package lm

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// newTensor converts little-endian data of a safetensors dtype (F32, F16 or BF16) into a tensor of float32 or bfloat16.
// The data has as many elements as the shape.
func newTensor(from string, data []byte, to dtypes.DType, shape []int) *tensors.Tensor {
	t := tensors.FromShape(shapes.Make(to, shape...))
	if to == dtypes.BFloat16 {
		tensors.MustMutableFlatData(t, func(flat []bfloat16.BFloat16) { decodeBFloat16(flat, from, data) })
	} else {
		tensors.MustMutableFlatData(t, func(flat []float32) { decodeFloat32(flat, from, data) })
	}
	return t
}

// littleEndian says that numbers lie in this machine's memory as they do in files.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// decodeFloat32 fills values from F32, F16 or BF16 data.
func decodeFloat32(values []float32, from string, data []byte) {
	switch {
	case len(values) == 0:
	case from == "F32" && littleEndian:
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values)), data)
	case from == "F32":
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case from == "BF16":
		i := 0
		for ; i+4 <= len(values); i += 4 { // four with one load
			four, v := binary.LittleEndian.Uint64(data[2*i:]), values[i:i+4:i+4]
			v[0] = math.Float32frombits(uint32(four) << 16)
			v[1] = math.Float32frombits(uint32(four) &^ 0xffff)
			v[2] = math.Float32frombits(uint32(four>>32) << 16)
			v[3] = math.Float32frombits(uint32(four>>32) &^ 0xffff)
		}
		for ; i < len(values); i++ {
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	default:
		for i := range values {
			values[i] = float16(binary.LittleEndian.Uint16(data[2*i:]))
		}
	}
}

// decodeBFloat16 fills values from F32, F16 or BF16 data, rounded to the nearest, ties to even.
func decodeBFloat16(values []bfloat16.BFloat16, from string, data []byte) {
	switch {
	case len(values) == 0:
	case from == "BF16" && littleEndian:
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 2*len(values)), data)
	case from == "BF16":
		for i := range values {
			values[i] = bfloat16.FromBits(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case from == "F32":
		for i := range values {
			values[i] = bfloat16.FromFloat32(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		}
	default:
		for i := range values {
			values[i] = bfloat16.FromFloat32(float16(binary.LittleEndian.Uint16(data[2*i:])))
		}
	}
}

// float16 converts an IEEE half. Its bits, moved to where float32 has them, are 2^-112 of its value, subnormal or not.
func float16(h uint16) float32 {
	sign, bits := uint32(h&0x8000)<<16, uint32(h&0x7fff)<<13
	if h&0x7c00 == 0x7c00 { // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | bits)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(bits)*0x1p112))
}
