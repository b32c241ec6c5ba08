package lm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// The safetensors format: 8 bytes of header length (little endian), a JSON header of dtype, shape and offsets by
// name, then the data. https://github.com/huggingface/safetensors

// maxHeader is the format's own limit on the header's length.
const maxHeader = 100 << 20

// maxTensors bounds the tensors of a file; the largest models have some thousands.
const maxTensors = 1 << 20

type tensorHeader struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// tensorFile is an opened safetensors file.
type tensorFile struct {
	path     string
	data     []byte // what follows the header
	tensors  map[string]tensorHeader
	metadata map[string]string
}

// parseTensorFile reads and checks the header of a safetensors file with the given content. The content is not copied.
func parseTensorFile(path string, content []byte) (*tensorFile, error) {
	size := int64(len(content))
	if size < 8 {
		return nil, fmt.Errorf("%s: %d bytes: truncated or no safetensors file", path, size)
	}
	n := binary.LittleEndian.Uint64(content)
	if n > maxHeader || int64(n) > size-8 {
		return nil, fmt.Errorf("%s: header of %d bytes does not fit a file of %d: truncated or no safetensors file", path, n, size)
	}
	header, content := content[8:8+n], content[8+n:]
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(header, &raw); err != nil {
		return nil, fmt.Errorf("%s: parse header: %w", path, err)
	}
	f := &tensorFile{path: path, data: content, tensors: make(map[string]tensorHeader, len(raw))}
	if len(raw) > maxTensors {
		return nil, fmt.Errorf("%s: header names %d tensors, at most %d", path, len(raw), maxTensors)
	}
	for name, data := range raw {
		if name == "__metadata__" {
			if err := json.Unmarshal(data, &f.metadata); err != nil {
				return nil, fmt.Errorf("%s: parse metadata: %w", path, err)
			}
			continue
		}
		var h tensorHeader
		if err := json.Unmarshal(data, &h); err != nil {
			return nil, fmt.Errorf("%s: tensor %s: %w", path, name, err)
		}
		width := dtypeWidths[h.DType]
		if width == 0 {
			return nil, fmt.Errorf("%s: tensor %s: dtype %s is not supported: F32, F16, BF16 and I64 are", path, name, h.DType)
		}
		bytes, fits := width, true
		for _, d := range h.Shape {
			fits = fits && d >= 0 && (d == 0 || bytes <= math.MaxInt64/int64(d))
			bytes *= int64(d)
		}
		if !fits || h.Offsets[0] < 0 || h.Offsets[0] > h.Offsets[1] || h.Offsets[1]-h.Offsets[0] != bytes || h.Offsets[1] > int64(len(content)) {
			return nil, fmt.Errorf("%s: tensor %s %v: offsets %v do not fit its shape or the file's %d bytes: truncated?", path, name, h.Shape, h.Offsets, size)
		}
		f.tensors[name] = h
	}
	// The format allows no gaps and nothing behind the last tensor: such bytes are another file's, or a torn one's.
	var end, sum int64
	for _, h := range f.tensors {
		end, sum = max(end, h.Offsets[1]), sum+h.Offsets[1]-h.Offsets[0]
	}
	switch {
	case end != int64(len(content)):
		return nil, fmt.Errorf("%s: %d bytes stand behind the last tensor: the file is damaged or was written over a larger one; get it again", path, int64(len(content))-end)
	case sum != end:
		return nil, fmt.Errorf("%s: its tensors have %d bytes of the %d up to the last one's end: they overlap, or there are gaps between them; get it again", path, sum, end)
	}
	return f, nil
}

var dtypeWidths = map[string]int64{"F32": 4, "F16": 2, "BF16": 2, "I64": 8}

// floatData finds a tensor of floats: its header and bytes.
func (f *tensorFile) floatData(name string) (tensorHeader, []byte, error) {
	h, ok := f.tensors[name]
	switch {
	case !ok:
		return h, nil, fmt.Errorf("%s: no tensor %s", f.path, name)
	case h.DType == "I64":
		return h, nil, fmt.Errorf("%s: tensor %s: dtype %s is no float", f.path, name, h.DType)
	}
	return h, f.data[h.Offsets[0]:h.Offsets[1]], nil
}

// dtype is that of a tensor of floats; 0 of half precision, which no weight is kept in.
func (f *tensorFile) dtype(name string) dtypes.DType {
	return map[string]dtypes.DType{"F32": dtypes.Float32, "BF16": dtypes.BFloat16}[f.tensors[name].DType]
}

// keeps says whether a tensor's bytes are, in the file, those of this machine's memory for a type.
func (f *tensorFile) keeps(name string, dtype dtypes.DType) bool {
	h, data, err := f.floatData(name)
	return err == nil && littleEndian && f.dtype(name) == dtype && len(data) > 0 &&
		uintptr(unsafe.Pointer(&data[0]))%uintptr(dtypeWidths[h.DType]) == 0
}

// float32s reads a tensor, converted to float32.
func (f *tensorFile) float32s(name string) ([]float32, error) {
	h, data, err := f.floatData(name)
	if err != nil {
		return nil, err
	}
	values := make([]float32, int64(len(data))/dtypeWidths[h.DType])
	decodeFloat32(values, h.DType, data)
	return values, nil
}

// readFile reads a file whole, in place of a mapping.
func readFile(path string) (data []byte, unmap func(), err error) {
	data, err = os.ReadFile(path)
	return data, func() {}, err
}

// tensorFiles maps stem.safetensors of a directory, or the shards that stem.safetensors.index.json names, and
// returns the file of each tensor and a function that closes them: what was read from them must have been copied.
func tensorFiles(dir, stem string) (byName map[string]*tensorFile, closeAll func(), err error) {
	paths := []string{stem + ".safetensors"}
	indexPath := filepath.Join(dir, stem+".safetensors.index.json")
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if data, readErr := readLimited(indexPath, maxConfigFile); readErr != nil {
		if !errors.Is(readErr, fs.ErrNotExist) {
			return nil, nil, readErr
		}
	} else {
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", indexPath, err)
		}
		seen := map[string]bool{}
		for _, p := range index.WeightMap {
			seen[p] = true
		}
		if single := stem + ".safetensors"; !seen[single] {
			// transformers would read the single file, other programs the shards.
			if _, err := os.Stat(filepath.Join(dir, single)); err == nil {
				return nil, nil, fmt.Errorf("%s has both %s and the shards that %s names: remove the one that is stale", dir, single, filepath.Base(indexPath))
			}
		}
		paths = paths[:0]
		for p := range seen {
			if !filepath.IsLocal(p) {
				return nil, nil, fmt.Errorf("%s: shard %q lies outside the directory", indexPath, p)
			}
			paths = append(paths, p)
		}
		sort.Strings(paths)
	}
	var unmaps []func()
	shut := func() {
		for _, unmap := range unmaps {
			unmap()
		}
	}
	defer func() {
		if err != nil {
			shut()
		}
	}()
	byName = map[string]*tensorFile{}
	for _, p := range paths {
		path := filepath.Join(dir, p)
		content, unmap, err := mapFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("open weights: %w", err)
		}
		unmaps = append(unmaps, unmap)
		f, err := parseTensorFile(path, content)
		if err != nil {
			return nil, nil, err
		}
		for name := range f.tensors {
			if other := byName[name]; other != nil {
				return nil, nil, fmt.Errorf("tensor %s is both in %s and %s", name, other.path, f.path)
			}
			byName[name] = f
		}
	}
	for name, p := range index.WeightMap {
		if f := byName[name]; f == nil || filepath.Base(f.path) != filepath.Base(p) {
			return nil, nil, fmt.Errorf("%s: tensor %s is not in %s", indexPath, name, p)
		}
	}
	return byName, shut, nil
}

// writeSafetensors writes tensors as float32, in the order of their names: same tensors, same bytes.
func writeSafetensors(w io.Writer, byName map[string]*tensors.Tensor, metadata map[string]string) error {
	shapes := map[string][]int{}
	for name, t := range byName {
		if t.DType() != dtypes.Float32 && t.DType() != dtypes.BFloat16 {
			return fmt.Errorf("write tensor %s: dtype %s is no float32 or bfloat16", name, t.DType())
		}
		shapes[name] = t.Shape().Dimensions
	}
	return encodeSafetensors(w, "F32", shapes, metadata, func(name string) ([]float32, error) { return floats(byName[name]) })
}

// encodeSafetensors writes the tensors of the given shapes as dtype F32 or BF16 (rounded to nearest, ties to even), in
// the order of their names. Each one's values are asked for when it is written, so that one is in memory at a time.
func encodeSafetensors(w io.Writer, dtype string, shapes map[string][]int, metadata map[string]string, values func(name string) ([]float32, error)) error {
	header := map[string]any{}
	if len(metadata) > 0 {
		header["__metadata__"] = metadata
	}
	names := slices.Sorted(maps.Keys(shapes))
	var offset int64
	for _, name := range names {
		size := int64(shapeSize(shapes[name])) * dtypeWidths[dtype]
		header[name] = tensorHeader{dtype, slices.Clone(shapes[name]), [2]int64{offset, offset + size}}
		offset += size
	}
	data, err := json.Marshal(header) // sorts the keys
	if err != nil {
		return err
	}
	for len(data)%8 != 0 { // the data begins aligned
		data = append(data, ' ')
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(len(data))); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	for _, name := range names {
		flat, err := values(name)
		if err != nil {
			return fmt.Errorf("write tensor %s: %w", name, err)
		}
		var out any = flat
		if dtype == "BF16" {
			rounded := make([]uint16, len(flat))
			for i, v := range flat {
				rounded[i] = roundBFloat16(v)
			}
			out = rounded
		}
		if err := binary.Write(w, binary.LittleEndian, out); err != nil {
			return fmt.Errorf("write tensor %s: %w", name, err)
		}
	}
	return nil
}

// roundBFloat16 rounds to the nearest bfloat16, ties to even.
func roundBFloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 1<<6 // quiet: the mantissa's kept bits may all be 0
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
