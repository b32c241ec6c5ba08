package lm

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes/bfloat16"
)

// TestDecodeFloats converts every half and every bfloat16, in lists of lengths that no vector divides.
func TestDecodeFloats(t *testing.T) {
	const n = 1<<16 - 1 // all but the last: an odd length
	data := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(data[2*i:], uint16(i))
	}
	wide, half := make([]float32, n), make([]float32, n)
	decodeFloat32(wide, "BF16", data)
	decodeFloat32(half, "F16", data)
	for i := range n {
		if math.Float32bits(wide[i]) != uint32(i)<<16 {
			t.Fatalf("bfloat16 %#x is %v", i, wide[i])
		}
		// sign, exponent and fraction as IEEE 754 defines them
		exponent, fraction := i>>10&31, float64(i&1023)/1024
		want := math.Ldexp(1+fraction, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -14)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			want = math.NaN()
		}
		if i>>15 == 1 {
			want = -want
		}
		if got := float64(half[i]); got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != math.Signbit(want) && want == 0 {
			t.Fatalf("half %#x is %v, want %v", i, got, want)
		}
	}
	back := make([]bfloat16.BFloat16, n)
	decodeBFloat16(back, "BF16", data)
	for i := range n {
		if back[i].Bits() != uint16(i) {
			t.Fatalf("bfloat16 %#x became %#x", i, back[i].Bits())
		}
	}
	floats := []float32{1, 1 + 1.0/256, 1 + 3.0/256, 1 + 1.0/128, -3.14159, 0} // the second and third lie between two
	data = data[:4*len(floats)]
	for i, f := range floats {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(f))
	}
	decodeBFloat16(back[:len(floats)], "F32", data)
	for i, want := range []float32{1, 1, 1 + 4.0/256, 1 + 1.0/128, -3.140625, 0} {
		if got := back[i].Float32(); got != want {
			t.Errorf("%v is rounded to %v, want %v", floats[i], got, want)
		}
	}
}

// TestTensorFileHeaders: no header makes the reader allocate or read outside the file.
func TestTensorFileHeaders(t *testing.T) {
	file := func(header string, data int) []byte {
		content := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(content, header...), make([]byte, data)...)
	}
	one := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"w":{"dtype":%q,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	if f, err := parseTensorFile("good", file(one("F32", "[2,3]", "[0,24]"), 24)); err != nil || len(f.data) != 24 {
		t.Fatalf("a good file: error %v, want 24 bytes of data", err)
	}
	for want, content := range map[string][]byte{
		"truncated or no safetensors":           {1, 2, 3},
		"header of 1152921504606846976 bytes":   append(binary.LittleEndian.AppendUint64(nil, 1<<60), "{}"...),
		"header of 18446744073709551615":        append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "{}"...),
		"header of 50 bytes":                    append(binary.LittleEndian.AppendUint64(nil, 50), "{}"...),
		"parse header":                          file(`[1]`, 0),
		"gaps between them":                     file(one("F32", "[2,3]", "[8,32]"), 32),
		"[-2 -3]: offsets":                      file(one("F32", "[-2,-3]", "[0,24]"), 24),
		"[4294967296 4294967296 1]: offsets":    file(one("F32", "[4294967296,4294967296,1]", "[0,0]"), 0),
		"offsets [0 24] do not fit":             file(one("F32", "[2,3]", "[0,24]"), 23),
		"offsets [-24 0] do not fit":            file(one("F32", "[2,3]", "[-24,0]"), 24),
		"offsets [9223372036854775800 -924]":    file(one("F32", "[2,3]", "[9223372036854775800,-924]"), 24),
		"offsets [0 20] do not fit":             file(one("F32", "[2,3]", "[0,20]"), 24),
		"dtype F8_E4M3 is not supported":        file(one("F8_E4M3", "[2,3]", "[0,6]"), 24),
		"w: json: cannot unmarshal number 1e30": file(one("F32", "[1e30]", "[0,24]"), 24),
	} {
		if _, err := parseTensorFile("bad", content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	dir := t.TempDir() // an empty file, and what is no file
	path := filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tensorFiles(dir, "model"); err == nil || !strings.Contains(err.Error(), "0 bytes") {
		t.Errorf("an empty file: error %v, want one that says 0 bytes", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tensorFiles(dir, "model"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a directory: error %v, want one that names %s", err, path)
	}
}
