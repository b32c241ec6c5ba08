package lm

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// roundedModel saves a model whose matrices bfloat16 represents exactly, and reads it in both types.
func roundedModel(t *testing.T, config Config) (wide, half *Model) {
	t.Helper()
	m := tinyModel(t, config)
	for _, p := range config.parameters() {
		if len(p.shape) > 1 {
			roundDown(m.weights[p.name])
		}
	}
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	wide, err := LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	half, err = LoadModelWith(dir, LoadOptions{BaseType: BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	return wide, half
}

// roundDown makes values such as bfloat16 represents exactly.
func roundDown(t *tensors.Tensor) {
	tensors.MustMutableFlatData(t, func(flat []float32) {
		for i := range flat {
			flat[i] = math.Float32frombits(math.Float32bits(flat[i]) &^ 0xffff)
		}
	})
}

// TestBFloat16Base: with weights that bfloat16 represents exactly, a base kept in bfloat16 gives the logits, losses,
// gradients and answers of one in float32.
func TestBFloat16Base(t *testing.T) {
	engine := testEngine(t)
	if err := engine.Keeps(BFloat16); err != nil {
		t.Skip(err)
	}
	if engine.Name == "go" { // without the processor's products of bfloat16
		if _, err := cpu.Install(cpu.Options{Kernels: "avx2"}); err != nil {
			t.Log(err)
		}
		t.Cleanup(func() { cpu.Install(cpu.Options{}) })
	}
	if multipliesHalf(engine.Backend) {
		t.Skip("the engine rounds activations to bfloat16 too: TestBFloat16Activations")
	}
	for _, tied := range []bool{true, false} {
		config := tinyConfig()
		config.ModelType, config.TieWordEmbeddings = "qwen2", tied
		if err := config.complete(); err != nil {
			t.Fatal(err)
		}
		wide, half := roundedModel(t, config)
		for _, p := range config.parameters() {
			if want := BFloat16.dtype(p); half.weights[p.name].DType() != want || (want == dtypes.BFloat16) != (len(p.shape) == 2) {
				t.Errorf("%s %v is kept as %s", p.name, p.shape, half.weights[p.name].DType())
			}
		}
		ids := []int32{1, 7, 30, 4, 4, 49, 12}
		a, b := logitsOf(t, engine, wide, ids), logitsOf(t, engine, half, ids)
		for i := range a {
			for j := range a[i] {
				if math.Abs(float64(a[i][j]-b[i][j])) > 1e-6*max(1, math.Abs(float64(a[i][j]))) {
					t.Fatalf("tied %v: logit %d of token %d is %v, in float32 %v", tied, j, i, b[i][j], a[i][j])
				}
			}
		}
		adapter := trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6})
		for _, loss := range []Loss{{Kind: LossSFT}, {Kind: LossDPO, Beta: 0.3}} {
			data := nestedExamples(6, 3, 4, config.VocabSize, loss.preference())
			for _, checkpointing := range []bool{false, true} {
				c := TrainConfig{Loss: loss, Checkpointing: checkpointing}
				ma, ga := gradientOf(t, engine, wide, adapter, data, c)
				mb, gb := gradientOf(t, engine, half, adapter, data, c)
				sameGradients(t, fmt.Sprintf("tied %v, %v, checkpointing %v", tied, loss.Kind, checkpointing), ma, mb, ga, gb)
			}
		}
		// Training every weight starts from float32 copies.
		data := nestedExamples(7, 2, 3, config.VocabSize, false)
		ma, ga := gradientOf(t, engine, wide, nil, data, TrainConfig{Loss: Loss{Kind: LossSFT}})
		mb, gb := gradientOf(t, engine, half, nil, data, TrainConfig{Loss: Loss{Kind: LossSFT}})
		sameGradients(t, fmt.Sprintf("tied %v, all weights", tied), ma, mb, ga, gb)

		requests := chats(1, 2, 2)
		for i := range requests { // of this vocabulary
			for j := range requests[i].Prompt {
				requests[i].Prompt[j] %= int32(config.VocabSize)
			}
		}
		for _, w := range adapter.weights { // a decoder keeps them in bfloat16 as well
			roundDown(w)
		}
		greedy := GenerateConfig{MaxNewTokens: 6}
		answers, _ := generate(t, engine, wide, adapter, greedy, requests)
		same, _ := generate(t, engine, half, adapter, greedy, requests)
		if fmt.Sprint(answers) != fmt.Sprint(same) {
			t.Errorf("tied %v: answers %v, in float32 %v", tied, same, answers)
		}
	}
}

// TestBFloat16Activations: an engine that multiplies bfloat16 rounds a product's other operand to it, and stays near
// the logits in float32: within 2^-6 of the largest, four roundings of 8 bits.
func TestBFloat16Activations(t *testing.T) {
	engine := testEngine(t)
	if err := engine.Keeps(BFloat16); err != nil {
		t.Skip(err)
	}
	config := tinyConfig()
	wide, half := roundedModel(t, config)
	ids := []int32{1, 7, 30, 4, 4, 49, 12}
	a, b := slices.Concat(logitsOf(t, engine, wide, ids)...), slices.Concat(logitsOf(t, engine, half, ids)...)
	if off := apart(a, b, 0); off > 1.0/64 {
		t.Errorf("logits are %v of the largest apart", off)
	} else {
		t.Logf("logits are %.1g of the largest apart", off)
	}
}

// TestBFloat16Gradients: on an engine that multiplies bfloat16 the gradients, most of which are written by hand there,
// are those of float32 up to the rounding of operands and of what arrives; recomputing layers changes nothing of them.
func TestBFloat16Gradients(t *testing.T) {
	engine := testEngine(t)
	if !multipliesHalf(engine.Backend) {
		t.Skip("the engine converts bfloat16 before it multiplies: TestBFloat16Base")
	}
	for _, config := range []Config{tinyConfig(), tinyQwen(t)} {
		wide, half := roundedModel(t, config)
		adapter := trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6})
		for _, loss := range []Loss{{Kind: LossSFT}, {Kind: LossDPO, Beta: 0.3}} {
			data := nestedExamples(6, 3, 4, config.VocabSize, loss.preference())
			_, want := gradientOf(t, engine, wide, adapter, data, TrainConfig{Loss: loss})
			m, kept := gradientOf(t, engine, half, adapter, data, TrainConfig{Loss: loss})
			mr, again := gradientOf(t, engine, half, adapter, data, TrainConfig{Loss: loss, Checkpointing: true})
			if m.Loss != mr.Loss || !slices.EqualFunc(kept, again, slices.Equal) {
				t.Errorf("%s %s: recomputing layers gives loss %v, not %v, or other gradients", config.ModelType, loss.Kind, mr.Loss, m.Loss)
			}
			a, b := slices.Concat(want...), slices.Concat(kept...)
			if c := cosine(a, b); c < 0.9995 {
				t.Errorf("%s %s: the cosine of the gradients in bfloat16 and float32 is %v, want at least 0.9995", config.ModelType, loss.Kind, c)
			} else {
				t.Logf("%s %s: cosine %.6f", config.ModelType, loss.Kind, c)
			}
			if r := length(b) / length(a); math.Abs(r-1) > 0.05 {
				t.Errorf("%s %s: the gradient in bfloat16 is %v times as long as in float32", config.ModelType, loss.Kind, r)
			}
		}
	}
}

// TestBFloat16Ablated: what a benchmark leaves out changes how the gradients are computed, not what they are.
func TestBFloat16Ablated(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("there are changes for XLA alone")
	}
	config := tinyQwen(t)
	wide, _ := roundedModel(t, config)
	adapter, data := trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6}), nestedExamples(6, 3, 4, config.VocabSize, false)
	_, want := gradientOf(t, engine, wide, adapter, data, TrainConfig{Loss: Loss{Kind: LossSFT}})
	for _, without := range []string{ablateBeside, ablateJoint, ablateAttention} {
		engine.ablated = map[string]bool{without: true}
		_, half := roundedModel(t, config)
		_, got := gradientOf(t, engine, half, adapter, data, TrainConfig{Loss: Loss{Kind: LossSFT}})
		if c := cosine(slices.Concat(want...), slices.Concat(got...)); c < 0.9995 {
			t.Errorf("without %s the cosine of the gradients in bfloat16 and float32 is %v, want at least 0.9995", without, c)
		}
	}
}

// tinyQwen is tinyConfig's Qwen2: biases on queries, keys and values.
func tinyQwen(t *testing.T) Config {
	t.Helper()
	config := tinyConfig()
	config.ModelType = "qwen2"
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	return config
}

// dot, length and cosine are those of vectors.
func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func length(a []float32) float64 { return math.Sqrt(dot(a, a)) }

func cosine(a, b []float32) float64 { return dot(a, b) / (length(a) * length(b)) }

// TestBFloat16Dropout: a product whose input is dropped in the graph has the gradients of one that is given the dropped
// input.
func TestBFloat16Dropout(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("the engine draws dropout's noise on the host: TestDropoutNoise")
	}
	const tokens, in, out = 40, 24, 56
	p := newProgram(engine, "dropped product", func(n []*graph.Node) []*graph.Node {
		x, w, c := n[0], n[1], n[2]
		d := &dropout{rate: 0.4, noise: n[3]}
		half := widen(halfTrained(narrow(x), narrow(w), func(x, after *graph.Node) *graph.Node { return d.dropped(x, "a", after) }))
		wide := product(d.dropped(x, "a", nil), w)
		gradient := func(y *graph.Node) []*graph.Node { return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, c)), x, w) }
		return append(append([]*graph.Node{half, wide}, gradient(half)...), gradient(wide)...)
	})
	results, err := p.run(keep(normal(1, tokens, in), normal(2, out, in), normal(3, tokens, out), dropoutSeed(4)))
	if err != nil {
		t.Fatal(err)
	}
	value := func(i int) []float32 {
		list, err := floats(results[i])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for name, pair := range map[string][2]int{"value": {0, 1}, "gradient of x": {2, 4}, "gradient of w": {3, 5}} {
		if off := apart(value(pair[0]), value(pair[1]), 0); off > 1.0/64 {
			t.Errorf("%s: %v of the largest apart", name, off)
		}
	}
	zeros := 0
	for _, g := range value(2) {
		if g == 0 {
			zeros++
		}
	}
	if share := float64(zeros) / (tokens * in); math.Abs(share-0.4) > 0.05 {
		t.Errorf("%v of x's gradients are 0, want 0.4", share)
	}
}

// normal is a matrix of normal numbers.
func normal(seed uint64, rows, columns int) *tensors.Tensor {
	values, s := make([]float32, rows*columns), newStream(seed)
	for i := range values {
		values[i] = float32(s.normal())
	}
	return tensors.FromFlatDataAndDimensions(values, rows, columns)
}

// TestBFloat16Adapted: the product of a base weight and an adapter's B in one has the value and the gradients of the two
// one after the other.
func TestBFloat16Adapted(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("the engine multiplies with the base and the adapter one after the other")
	}
	const tokens, in, rank, out = 40, 24, 6, 56
	p := newProgram(engine, "adapted product", func(n []*graph.Node) []*graph.Node {
		x, low, w, b, c := n[0], n[1], narrow(n[2]), n[3], n[4]
		one := widen(halfAdapted(narrow(x), narrow(low), w, narrow(b)))
		two := graph.Add(widen(halfBase(narrow(x), w)),
			widen(halfTrained(narrow(low), narrow(b), func(x, _ *graph.Node) *graph.Node { return x })))
		gradient := func(y *graph.Node) []*graph.Node {
			return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, c)), x, low, b)
		}
		return slices.Concat([]*graph.Node{one}, gradient(one), []*graph.Node{two}, gradient(two))
	})
	defer p.close()
	results, err := p.run(keep(normal(1, tokens, in), normal(2, tokens, rank), normal(3, out, in), normal(4, out, rank), normal(5, tokens, out)))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"value", "gradient of x", "gradient of low", "gradient of b"} {
		one, err := floats(results[i])
		if err != nil {
			t.Fatal(err)
		}
		two, err := floats(results[i+4])
		if err != nil {
			t.Fatal(err)
		}
		if off := apart(one, two, 0); off > 1.0/128 {
			t.Errorf("%s: %v of the largest apart, want at most 2^-7: two roundings", name, off)
		}
	}
}

// TestBFloat16Rounds: weights that bfloat16 does not represent are rounded to the nearest; merging and saving write
// what is computed with.
func TestBFloat16Rounds(t *testing.T) {
	config := tinyConfig()
	dir, again := t.TempDir(), t.TempDir()
	m := tinyModel(t, config)
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	half, err := LoadModelWith(dir, LoadOptions{BaseType: BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	if err := half.Save(again); err != nil {
		t.Fatal(err)
	}
	saved, err := LoadModel(again)
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for name, w := range m.weights {
		want, _ := floats(w)
		kept, _ := floats(half.weights[name])
		got, _ := floats(saved.weights[name])
		for i := range want {
			if math.Abs(float64(kept[i]-want[i])) > math.Abs(float64(want[i]))/256 || got[i] != kept[i] {
				t.Fatalf("%s: element %d is %v, kept as %v, saved as %v", name, i, want[i], kept[i], got[i])
			}
			if kept[i] != want[i] {
				differ++
			}
		}
	}
	if differ == 0 {
		t.Error("nothing was rounded")
	}
	if _, err := LoadModelWith(dir, LoadOptions{BaseType: "int4"}); err == nil {
		t.Error("an unknown type is taken")
	}
}

// TestWeightsMapped: weights that are left in their files are those that are read from them.
func TestWeightsMapped(t *testing.T) {
	config := tinyQwen(t)
	source, dir := tinyModel(t, config), t.TempDir()
	shapes := map[string][]int{}
	for _, p := range config.parameters() {
		shapes[p.name] = p.shape
	}
	if err := source.Config.save(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error {
		return encodeSafetensors(w, "BF16", shapes, nil, func(name string) ([]float32, error) { return floats(source.weights[name]) })
	}); err != nil {
		t.Fatal(err)
	}
	load := func(mapped bool) *Model {
		m, err := LoadModelWith(dir, LoadOptions{BaseType: BFloat16, Mapped: mapped})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	plain, mapped := load(false), load(true)
	saved := func(m *Model) []byte {
		dir := t.TempDir()
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if !bytes.Equal(saved(plain), saved(mapped)) {
		t.Error("what is left in files is saved otherwise")
	}
	for _, p := range config.parameters() {
		if left := mapped.weights[p.name] == nil; left != (len(p.shape) > 1) || len(plain.mapped) > 0 {
			t.Errorf("%s %v: left in its file: %v; want matrices, which the file has in bfloat16, and nothing else", p.name, p.shape, left)
		}
	}

	engine := testEngine(t)
	if !engine.Uploads() {
		t.Skip("weights of the engine are where they were read")
	}
	adapter := trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6})
	data, requests := nestedExamples(4, 3, 4, config.VocabSize, false), []Request{{Prompt: []int32{1, 5, 7}}, {Prompt: []int32{1, 9}}}
	compute := func(m *Model) (result struct {
		Scores  [][]SequenceLogProbs
		Samples [][]Sample
	}) {
		var err error
		if result.Scores, err = LogProbs(t.Context(), engine, m, adapter, data, LogProbsOptions{}); err != nil {
			t.Fatal(err)
		}
		result.Samples, _ = generate(t, engine, m, adapter, GenerateConfig{MaxNewTokens: 6}, requests)
		return result
	}
	want := compute(plain)
	for range 2 {
		if got := compute(mapped); !reflect.DeepEqual(got, want) {
			t.Errorf("by weights left in their files %v, want %v", got, want)
		}
		mapped.Unload()
	}
}

// TestWeightsUploadedOnce: of a model that was used on an engine only what is new is uploaded by what uses it next, until
// it is unloaded.
func TestWeightsUploadedOnce(t *testing.T) {
	engine := testEngine(t)
	if !engine.Uploads() {
		t.Skip("weights of the engine are where they were read")
	}
	config := tinyQwen(t)
	_, model := roundedModel(t, config)
	data, size := nestedExamples(4, 3, 4, config.VocabSize, false), int64(0)
	for _, w := range model.weights {
		size += w.ByteSize()
	}
	score := func() int64 {
		before := engine.UploadedBytes()
		if _, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{}); err != nil {
			t.Fatal(err)
		}
		return engine.UploadedBytes() - before
	}
	first, second := score(), score()
	if first < size || second > first-size {
		t.Errorf("a model of %d bytes: the first use uploads %d, the second %d, want all of it and none of it", size, first, second)
	}
	joint := int64(0)
	for _, w := range model.uploaded {
		joint += w.ByteSize()
	}
	model.Unload()
	if third := score(); joint == 0 || third < second+joint {
		t.Errorf("after Unload %d bytes are uploaded, want the %d of joint weights more than %d", third, joint, second)
	}
}
