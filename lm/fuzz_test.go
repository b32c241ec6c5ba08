package lm

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
)

// safetensorsOf puts a header before data.
func safetensorsOf(header string, data ...byte) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
}

// FuzzTensorFile: whatever the bytes of a safetensors file, no tensor reaches
// beyond it, and no size is believed before it is checked.
func FuzzTensorFile(f *testing.F) {
	f.Add(safetensorsOf(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}`, 0, 0, 128, 63, 0, 0, 0, 64))
	f.Add(safetensorsOf(`{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"I64","shape":[],"data_offsets":[2,10]}}`, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
	for _, header := range []string{
		`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, // overflows
		`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, // empty and huge
		`{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`,                    // before the file
		`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`,                     // backwards
		`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]}}`,   // beyond it
		`{"a":{"dtype":"F8","shape":[2],"data_offsets":[0,2]}}`, `{"a":null}`, `{"a":[]}`, `[]`, `null`, `{`, ``, `{"__metadata__":{"a":1}}`,
	} {
		f.Add(safetensorsOf(header, 1, 2, 3, 4, 5, 6, 7, 8))
	}
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63))
	f.Add(binary.LittleEndian.AppendUint64(nil, maxHeader))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := parseTensorFile("fuzz.safetensors", content)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz.safetensors: ") {
				t.Fatalf("an error without the file's name: %v", err)
			}
			return
		}
		for name, h := range file.tensors {
			values, err := file.float32s(name)
			if err != nil {
				continue // I64
			}
			if size := shapeSize(h.Shape); size != len(values) {
				t.Fatalf("tensor %q of shape %v has %d values", name, h.Shape, len(values))
			}
		}
	})
}

// FuzzConfig: a config.json is refused, or can be laid out: parameters are named
// and counted without more memory than a model of that size has.
func FuzzConfig(f *testing.F) {
	tiny, err := json.Marshal(tinyConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tiny)
	for _, s := range []string{`{}`, `null`, `[]`, `{"model_type":"qwen2","num_hidden_layers":9223372036854775807}`,
		`{"model_type":"llama","hidden_size":16,"num_attention_heads":1000000000,"intermediate_size":1,"num_hidden_layers":1,"vocab_size":1,"max_position_embeddings":1}`,
		strings.Replace(string(tiny), "{", `{"rope_scaling":{"rope_type":"llama3","factor":1e-300,"low_freq_factor":0,"high_freq_factor":1,"original_max_position_embeddings":1},`, 1),
		`{"eos_token_id":[1,2,"x"]}`, `{"eos_token_id":null,"quantization_config":{}}`, `{"rms_norm_eps":1e999}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseConfig(data)
		if err != nil {
			return
		}
		if config.HeadDim*config.NumAttentionHeads > 1<<21 || config.NumHiddenLayers > 4096 {
			t.Fatalf("accepted: %+v", config)
		}
		for _, p := range config.parameters() {
			for _, d := range p.shape {
				if d <= 0 {
					t.Fatalf("%s has shape %v, want positive sizes", p.name, p.shape)
				}
			}
		}
		config.ropeTables(4)
	})
}
