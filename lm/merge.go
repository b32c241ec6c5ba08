package lm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/gomlx/gomlx/core/tensors"
)

// Merge adds the adapter into the base weights: W + Scale · B A, as a new model.
func (a *Adapter) Merge(model *Model) (*Model, error) {
	weights := map[string]*tensors.Tensor{}
	for _, p := range model.Config.parameters() {
		t, err := model.weight(p.name)
		var values []float32
		if err == nil {
			values, err = floats(t)
		}
		if err == nil {
			_, err = a.addTo(p.name, values, p.shape)
		}
		if err != nil {
			return nil, fmt.Errorf("merge %s: %w", p.name, err)
		}
		weights[p.name] = tensors.FromFlatDataAndDimensions(values, p.shape...)
	}
	return newModel(model.Config, weights), nil
}

// addTo adds Scale · B A to a weight's values [out, in], summed in float64 and rounded once; added is false where the
// adapter has nothing for that weight.
func (a *Adapter) addTo(name string, values []float32, shape []int) (added bool, err error) {
	module := strings.TrimSuffix(name, ".weight")
	down, up := a.weights[module+".lora_A.weight"], a.weights[module+".lora_B.weight"]
	if down == nil {
		return false, nil
	}
	fa, err := floats(down)
	if err != nil {
		return false, err
	}
	fb, err := floats(up)
	if err != nil {
		return false, err
	}
	out, in, rank := shape[0], len(values)/shape[0], a.Config.Rank
	if len(fa) != rank*in || len(fb) != out*rank {
		return false, errors.New("the adapter is for another model")
	}
	workers := runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for w := range workers { // rows are independent: the result is the same for any number of workers
		group.Go(func() {
			delta := make([]float64, in)
			for o := w * out / workers; o < (w+1)*out/workers; o++ {
				clear(delta)
				for r := range rank {
					f := float64(fb[o*rank+r]) * a.Config.Scale()
					for i, x := range fa[r*in : (r+1)*in] {
						delta[i] += f * float64(x)
					}
				}
				row := values[o*in : (o+1)*in]
				for i, d := range delta {
					row[i] = float32(float64(row[i]) + d)
				}
			}
		})
	}
	group.Wait()
	return true, nil
}

// MergeOptions says how MergeFiles writes.
type MergeOptions struct {
	DType      string // float32 or bfloat16; "": float32
	ShardBytes int64  // of weights a file at most, unless one tensor is larger; 0: 5 GB, as transformers
}

// Merged says what MergeFiles wrote.
type Merged struct {
	Matrices int      // that the adapter changed
	DType    string   // of all weights
	Files    []string // of weights
	Bytes    int64    // of weights
	Copied   []string // the base's files that were copied: tokenizer, chat template, generation defaults
}

// keptFiles are what stands beside the weights in Hugging Face's layout and stays as it is.
var keptFiles = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
	"merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json"}

// MergeFiles adds an adapter to the model in directory base and writes the result to directory out in Hugging Face's
// layout: config.json (the base's but for the dtype), model.safetensors or shards with their index, and the base's
// tokenizer files. One tensor at a time is in memory. out must not exist, or be empty; it appears whole or not at all.
func (a *Adapter) MergeFiles(ctx context.Context, base, out string, options MergeOptions) (Merged, error) {
	dtype, ok := map[string]string{"": "F32", "float32": "F32", "bfloat16": "BF16"}[options.DType]
	if !ok {
		return Merged{}, fmt.Errorf("dtype %q: it must be float32 or bfloat16", options.DType)
	}
	config, err := ReadConfig(base)
	if err != nil {
		return Merged{}, err
	}
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return Merged{}, fmt.Errorf("%s is not empty: name a new directory", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Merged{}, err
	}
	files, closeAll, err := tensorFiles(base, "model")
	if err != nil {
		return Merged{}, err
	}
	defer closeAll()
	for _, p := range a.Config.parameters(&config) { // a weight that is missing would be merged without a word
		module, _, _ := strings.Cut(p.name, ".lora_")
		if files[module+".weight"] == nil {
			return Merged{}, fmt.Errorf("%s has no tensor %s.weight, which the adapter changes", base, module)
		}
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(out)), 0o755); err != nil {
		return Merged{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".merge-*")
	if err != nil {
		return Merged{}, err
	}
	defer os.RemoveAll(dir) // nothing is there once it has its name
	m := merger{adapter: a, files: files, dir: dir, dtype: dtype, limit: options.ShardBytes}
	if m.limit <= 0 {
		m.limit = 5e9
	}
	m.merged.DType = map[string]string{"F32": "float32", "BF16": "bfloat16"}[dtype]
	if err := m.write(ctx, base); err != nil {
		return Merged{}, fmt.Errorf("merge into %s: %w", out, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return Merged{}, err
	}
	if err := os.Rename(dir, out); err != nil {
		return Merged{}, err
	}
	return m.merged, nil
}

// merger writes a merged model's files into dir.
type merger struct {
	adapter *Adapter
	files   map[string]*tensorFile // by tensor of the base
	dir     string
	dtype   string
	limit   int64
	merged  Merged
}

func (m *merger) write(ctx context.Context, base string) error {
	shards := m.shards()
	index := map[string]string{}
	for i, shapes := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		err := writeFile(filepath.Join(m.dir, name), func(w io.Writer) error {
			return encodeSafetensors(w, m.dtype, shapes, map[string]string{"format": "pt"}, func(tensor string) ([]float32, error) {
				index[tensor] = name
				return m.values(ctx, tensor)
			})
		})
		if err != nil {
			return err
		}
		m.merged.Files = append(m.merged.Files, name)
	}
	if len(shards) > 1 {
		err := writeJSON(filepath.Join(m.dir, "model.safetensors.index.json"), map[string]any{
			"metadata": map[string]int64{"total_size": m.merged.Bytes}, "weight_map": index})
		if err != nil {
			return err
		}
	}
	if err := m.config(base); err != nil {
		return err
	}
	for _, name := range keptFiles {
		data, err := os.ReadFile(filepath.Join(base, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = writeFile(filepath.Join(m.dir, name), func(w io.Writer) error { _, err := w.Write(data); return err })
		}
		if err != nil {
			return err
		}
		m.merged.Copied = append(m.merged.Copied, name)
	}
	return nil
}

// shards distributes the tensors, in the order of their names, and returns each file's shapes by name.
func (m *merger) shards() []map[string][]int {
	var shards []map[string][]int
	var filled int64
	names := make([]string, 0, len(m.files))
	for name := range m.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		shape := m.files[name].tensors[name].Shape
		size := int64(shapeSize(shape)) * dtypeWidths[m.dtype]
		if len(shards) == 0 || filled+size > m.limit {
			shards, filled = append(shards, map[string][]int{}), 0
		}
		shards[len(shards)-1][name] = shape
		filled += size
		m.merged.Bytes += size
	}
	return shards
}

// values reads a tensor of the base and adds the adapter's share.
func (m *merger) values(ctx context.Context, name string) ([]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := m.files[name]
	values, err := f.float32s(name)
	if err != nil {
		return nil, err
	}
	added, err := m.adapter.addTo(name, values, f.tensors[name].Shape)
	if added {
		m.merged.Matrices++
	}
	return values, err
}

// config copies the base's config.json, every key of it, with the new dtype (newer transformers call it "dtype").
func (m *merger) config(base string) error {
	data, err := os.ReadFile(filepath.Join(base, "config.json"))
	if err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return err
	}
	key := "torch_dtype"
	if _, ok := keys["dtype"]; ok {
		key = "dtype"
		delete(keys, "torch_dtype")
	}
	if keys[key], err = json.Marshal(m.merged.DType); err != nil {
		return err
	}
	return writeJSON(filepath.Join(m.dir, "config.json"), keys)
}
