package lm

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// ggufFile is a GGUF file to be written, of F32 tensors.
type ggufFile struct {
	keys    []ggufKey
	tensors []ggufTensor
	// reversed lays the tensors' data out from the last to the first.
	reversed bool
}

type ggufKey struct {
	name  string
	value any // string, uint32, float32, []string or []int32
}

type ggufTensor struct {
	name   string
	shape  []int // as Hugging Face has it
	kind   uint32
	values []float32
}

// set replaces a key's value, or adds the key; a nil value removes it.
func (f *ggufFile) set(name string, value any) {
	f.keys = slices.DeleteFunc(f.keys, func(k ggufKey) bool { return k.name == name })
	if value != nil {
		f.keys = append(f.keys, ggufKey{name, value})
	}
}

// write writes the file and returns its path.
func (f *ggufFile) write(t testing.TB) string {
	var out bytes.Buffer
	number := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	text := func(s string) { number(uint64(len(s))); out.WriteString(s) }
	out.WriteString("GGUF")
	number(uint32(3))
	number(uint64(len(f.tensors)))
	number(uint64(len(f.keys)))
	const array, texts, integers = uint32(9), uint32(8), uint32(5)
	for _, k := range f.keys {
		text(k.name)
		switch v := k.value.(type) {
		case string:
			number(texts)
			text(v)
		case uint32:
			number(uint32(4))
			number(v)
		case float32:
			number(uint32(6))
			number(v)
		case []string:
			number([]uint32{array, texts})
			number(uint64(len(v)))
			for _, s := range v {
				text(s)
			}
		case []int32:
			number([]uint32{array, integers})
			number(uint64(len(v)))
			number(v)
		default:
			t.Fatalf("key %s has a value of type %T", k.name, v)
		}
	}
	offsets, order, end := make([]uint64, len(f.tensors)), make([]int, len(f.tensors)), 0
	for i := range order {
		order[i] = i
	}
	if f.reversed {
		slices.Reverse(order)
	}
	for _, i := range order {
		offsets[i] = uint64(end)
		end += (4*len(f.tensors[i].values) + 31) / 32 * 32
	}
	for i, one := range f.tensors {
		text(one.name)
		number(uint32(len(one.shape)))
		for _, d := range slices.Backward(one.shape) {
			number(uint64(d))
		}
		number(one.kind)
		number(offsets[i])
	}
	out.Write(make([]byte, (32-out.Len()%32)%32))
	data := make([]byte, end)
	for i, one := range f.tensors {
		for j, v := range one.values {
			binary.LittleEndian.PutUint32(data[int(offsets[i])+4*j:], math.Float32bits(v))
		}
	}
	out.Write(data)
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
