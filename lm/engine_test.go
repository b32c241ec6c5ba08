package lm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// Variables of tests that compare engines. An engine runs in a process of its own: a process holds one set of Go
// kernels and one library of a kind, and what one engine does to it cannot hide in another's results.
const (
	envTestEngine  = "ESCLAB_TEST_ENGINE"  // of a whole test run, by default go
	envTestONNX    = "ESCLAB_TEST_ONNX"    // ONNX Runtime's library, where it is not installed
	envTestResults = "ESCLAB_TEST_RESULTS" // for children: the file to write
)

// testEngineOptions finds what `esclab engine install` put into the default data directory.
func testEngineOptions() EngineOptions {
	dir := os.Getenv("ESCLAB_DATA_DIR")
	if home, err := os.UserHomeDir(); err == nil && dir == "" {
		dir = filepath.Join(cmp.Or(os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local/share")), "esclab")
	}
	return EngineOptions{DataDir: dir}
}

// testEngine opens the engine that ESCLAB_TEST_ENGINE names, by default go, for one test: so the whole suite runs on
// any engine.
func testEngine(t testing.TB) *Engine {
	t.Helper()
	engine, err := testEngineOptions().Open(cmp.Or(os.Getenv(envTestEngine), "go"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return engine
}

func TestOpenEngine(t *testing.T) {
	if _, err := (EngineOptions{}).Open("cuda"); err == nil || !strings.Contains(err.Error(), "xla:cuda") {
		t.Errorf("unknown engine: error %v does not list the known ones", err)
	}
	notPlugin := filepath.Join(t.TempDir(), "plugin.so")
	if err := os.WriteFile(notPlugin, []byte("not a library"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"xla:/nowhere/plugin.so", "xla:" + notPlugin, "xla:nothing"} {
		_, err := EngineOptions{}.Open(spec)
		var missing *EngineError
		if !errors.Is(err, ErrEngineMissing) || !errors.As(err, &missing) || missing.Remedy == "" || missing.Engine != spec {
			t.Errorf("%s: error %v, want an EngineError of this engine with a remedy", spec, err)
		}
	}
	engine := testEngine(t)
	if want := cmp.Or(os.Getenv(envTestEngine), "go"); engine.Name != want || engine.Version == "" {
		t.Errorf("engine %q, version %q", engine.Name, engine.Version)
	}
	if engine.CompiledShapes() != 0 {
		t.Errorf("a new engine has compiled %d shapes", engine.CompiledShapes())
	}
}

// engineResults is what engines are compared in.
type engineResults struct {
	Version     string
	Logits      []float32
	Scattered   []float32
	Losses      map[string]float64     // by training
	Gradients   map[string][][]float32 // of the first step, by training and parameter
	AfterStep   map[string]float64     // loss of the second step
	Greedy      [][]int32
	Checkpoints map[string]string // SHA-256 of the trainer's state after some steps
}

// engineTrainings are the trainings that engines are compared in.
func engineTrainings() map[string]TrainConfig {
	sft, dpo := Loss{Kind: LossSFT}, Loss{Kind: LossDPO, Beta: 0.3}
	return map[string]TrainConfig{
		"sft lora": {Loss: sft}, "sft full": {Loss: sft}, "dpo lora": {Loss: dpo}, "dpo full": {Loss: dpo},
		"sft lora checkpointing": {Loss: sft, Checkpointing: true},
		"dpo lora, sft weight":   {Loss: Loss{Kind: LossDPO, Beta: 0.3, SFTWeight: 0.5}},
		"kto lora":               {Loss: Loss{Kind: LossKTO, Beta: 0.3, Desirable: 1.25, Undesirable: 0.75}},
	}
}

// TestEngineResults is the child: it computes on the engine that ESCLAB_TEST_ENGINE names and writes what came out.
func TestEngineResults(t *testing.T) {
	if os.Getenv(envTestResults) == "" {
		t.Skip("the child of TestEnginesAgree")
	}
	engine := testEngine(t)
	r := engineResults{Version: engine.Version, Losses: map[string]float64{}, Gradients: map[string][][]float32{},
		AfterStep: map[string]float64{}}
	config := tinyConfig()
	config.ModelType = "qwen2"
	config.TieWordEmbeddings = false
	model := tinyModel(t, config)
	for _, row := range logitsOf(t, engine, model, []int32{1, 2, 3, 5, 8, 13, 21, 34}) {
		r.Logits = append(r.Logits, row...)
	}
	r.Scattered = scattered(t, engine)
	for name, c := range engineTrainings() {
		var adapter *Adapter
		if strings.Contains(name, "lora") {
			adapter = trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6})
		}
		data := nestedExamples(5, 3, 4, config.VocabSize, c.Loss.preference())
		metrics, gradients := gradientOf(t, engine, model, adapter, data, c)
		r.Losses[name], r.Gradients[name] = metrics.Loss, gradients
		c.Epochs, c.LearningRate, c.BatchSize, c.ClipNorm, c.WeightDecay = 2, 1e-3, len(data), 1, 0.1
		trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data}, c)
		if err != nil {
			t.Fatal(err)
		}
		r.AfterStep[name] = steps(t, trainer, 2)[1]
		trainer.Close()
	}
	samples, _ := generate(t, engine, generatorModel(t, "llama"), nil, GenerateConfig{MaxNewTokens: 12, Slots: 8}, chats(4, 3, 1))
	for _, s := range samples {
		r.Greedy = append(r.Greedy, s[0].Tokens)
	}
	writeResults(t, r)
}

// scattered adds 2,000 updates to 20 of 40 places, several times, as gradients of embeddings are added up: threads that
// lose an addition do not lose it always.
func scattered(t *testing.T, engine *Engine) []float32 {
	t.Helper()
	const places, width, updates, times = 40, 256, 2000, 20
	index, values, s := make([]int32, updates), make([]float32, updates*width), newStream(8)
	for i := range index {
		index[i] = int32(s.next() % (places / 2)) // the other half gets none
	}
	for i := range values {
		values[i] = float32(s.normal())
	}
	p := newProgram(engine, "scatter", func(n []*graph.Node) []*graph.Node {
		return []*graph.Node{graph.ScatterSum(n[0], n[1], n[2], false, false)}
	})
	defer p.close()
	inputs := keep(zeros([]int{places, width}), tensors.FromFlatDataAndDimensions(index, updates, 1),
		tensors.FromFlatDataAndDimensions(values, updates, width))
	var all []float32
	for range times {
		out, err := p.run(inputs)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := floats(out[0])
		if err != nil {
			t.Fatal(err)
		}
		release(out...)
		all = append(all, sums...)
	}
	return all
}

// TestEngineCheckpoints is the other child: it trains.
func TestEngineCheckpoints(t *testing.T) {
	if os.Getenv(envTestResults) == "" {
		t.Skip("the child of TestEnginesRepeat")
	}
	engine := testEngine(t)
	writeResults(t, engineResults{Version: engine.Version, Checkpoints: map[string]string{
		"sft lora": repeatedTraining(t, engine, LossSFT, false), "dpo lora": repeatedTraining(t, engine, LossDPO, false),
		"sft full": repeatedTraining(t, engine, LossSFT, true),
	}})
}

// writeResults hands a child's results to its parent.
func writeResults(t *testing.T, r engineResults) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv(envTestResults), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// repeatedTraining takes some steps on a model large enough for every engine to use its threads, and returns the
// SHA-256 of the state.
func repeatedTraining(t *testing.T, engine *Engine, loss LossKind, full bool) string {
	t.Helper()
	model, err := NewModel(Config{ModelType: "llama", HiddenSize: 256, IntermediateSize: 688, NumHiddenLayers: 1, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, VocabSize: 4096, MaxPositionEmbeddings: 1024, RMSNormEps: 1e-5, RopeTheta: 1e4, HiddenAct: "silu",
		TieWordEmbeddings: true}, 3)
	if err != nil {
		t.Fatal(err)
	}
	var adapter *Adapter
	if !full {
		if adapter, err = NewAdapter(model.Config, LoRA{Rank: 8, Alpha: 8, Dropout: 0.1}, 5); err != nil {
			t.Fatal(err)
		}
	}
	// Few different tokens: their rows of the embedding's gradient are sums of many, whose order shows.
	data := nestedExamples(2, 8, 60, 40, loss == LossDPO)
	trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data}, TrainConfig{Loss: Loss{Kind: loss, Beta: 0.2}, Epochs: 1,
		BatchSize: len(data) / 2, LearningRate: 1e-3, ClipNorm: 1, Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	steps(t, trainer, trainer.Steps())
	return fmt.Sprintf("%x", sha256.Sum256(state(t, trainer)))
}

// engineVariant is an engine as a child process runs it.
type engineVariant struct{ name, spec, kernels string }

// presentEngines lists what this machine can run: go with each set of kernels, and what else opens.
func presentEngines(t *testing.T) []engineVariant {
	t.Helper()
	variants := []engineVariant{{"go", "go", ""}, {"go, stock operations", "go", "off"}, {"go, portable kernels", "go", "portable"}}
	for _, spec := range EngineNames()[1:] {
		engine, err := childEngineOptions(t).Open(spec)
		if err != nil {
			t.Logf("not compared: %v", err)
			continue
		}
		t.Logf("present: %s %s", engine.Name, engine.Version)
		engine.Close()
		variants = append(variants, engineVariant{spec, spec, ""})
	}
	return variants
}

// childEngineOptions are testEngineOptions with ESCLAB_TEST_ONNX in the place where engines look first.
func childEngineOptions(t *testing.T) EngineOptions {
	t.Helper()
	if path := os.Getenv(envTestONNX); path != "" {
		t.Setenv("ONNXRUNTIME_SHARED_LIBRARY_PATH", path)
	}
	return testEngineOptions()
}

// resultsOf runs a child, which is a test by its name, on an engine.
func resultsOf(t *testing.T, child string, v engineVariant) engineResults {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "results.json")
	c := exec.CommandContext(t.Context(), program, "-test.run=^"+child+"$", "-test.count=1")
	c.Env = append(os.Environ(), envTestResults+"="+path, envTestEngine+"="+v.spec, cpu.EnvKernels+"="+v.kernels)
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", v.name, err, output.Bytes())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v\n%s", v.name, err, output.Bytes())
	}
	var r engineResults
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEnginesAgree compares every engine of the machine with go: logits within 1e-5 of the largest, losses within 1e-6
// and gradients within 1e-5 of the training's largest, the loss after a step of AdamW (which divides by the gradients'
// size, and so enlarges differences of small ones) within 1e-4, sums of scattered updates within 1e-6, and greedy
// answers token by token.
func TestEnginesAgree(t *testing.T) {
	variants := presentEngines(t)
	want := resultsOf(t, "TestEngineResults", variants[0])
	for _, v := range variants[1:] {
		got := resultsOf(t, "TestEngineResults", v)
		if v.spec == "go" && got.Version == want.Version {
			t.Errorf("%s: the same version as with kernels, %q", v.name, got.Version)
		}
		logits, scatter := apart(want.Logits, got.Logits, 0), apart(want.Scattered, got.Scattered, 0)
		var loss, gradient, after float64
		for name := range engineTrainings() {
			loss = max(loss, math.Abs(got.Losses[name]-want.Losses[name])/(1+math.Abs(want.Losses[name])))
			after = max(after, math.Abs(got.AfterStep[name]-want.AfterStep[name])/(1+math.Abs(want.AfterStep[name])))
			if len(want.Gradients[name]) == 0 || len(got.Gradients[name]) != len(want.Gradients[name]) {
				t.Fatalf("%s, %s: %d gradients, go has %d", v.name, name, len(got.Gradients[name]), len(want.Gradients[name]))
			}
			whole := largest(slices.Concat(want.Gradients[name]...))
			for i, g := range want.Gradients[name] {
				gradient = max(gradient, apart(g, got.Gradients[name][i], whole))
			}
		}
		t.Logf("%s (%s) beside go: logits %.1g, losses %.1g, gradients %.1g, losses after a step %.1g, scattered sums %.1g apart",
			v.name, got.Version, logits, loss, gradient, after, scatter)
		if logits > 1e-5 || loss > 1e-6 || gradient > 1e-5 || after > 1e-4 || scatter > 1e-6 {
			t.Errorf("%s and go disagree", v.name)
		}
		if !slices.EqualFunc(got.Greedy, want.Greedy, slices.Equal) {
			t.Errorf("%s: greedy answers %v, go's are %v", v.name, got.Greedy, want.Greedy)
		}
	}
}

// largest is the largest magnitude.
func largest(values []float32) float64 {
	m := 0.0
	for _, v := range values {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

// apart is the largest difference of two lists as a share of whole, or of the first one's largest number.
func apart(a, b []float32, whole float64) float64 {
	if len(a) == 0 || len(a) != len(b) {
		return math.Inf(1)
	}
	d := 0.0
	for i := range a {
		if diff := math.Abs(float64(a[i]) - float64(b[i])); diff > d || math.IsNaN(diff) {
			d = diff
		}
	}
	if math.IsNaN(d) {
		return math.Inf(1)
	}
	if whole == 0 {
		whole = largest(a)
	}
	return d / whole
}

// TestEnginesRepeat trains three times on each engine, each time in a process of its own. That the bytes are the same
// is promised of go, and was always so on onnx since no index is scattered to twice there; of the others it is said
// what happened.
func TestEnginesRepeat(t *testing.T) {
	if testing.Short() {
		t.Skip("trains three times an engine")
	}
	for _, v := range presentEngines(t) {
		if v.kernels != "" {
			continue
		}
		first := resultsOf(t, "TestEngineCheckpoints", v)
		for _, training := range []string{"sft lora", "dpo lora", "sft full"} {
			if first.Checkpoints[training] == "" {
				t.Fatalf("%s: no checkpoint of %s training", v.name, training)
			}
		}
		same := map[string]int{}
		for range 2 {
			again := resultsOf(t, "TestEngineCheckpoints", v)
			for training, digest := range first.Checkpoints {
				if again.Checkpoints[training] == digest {
					same[training]++
				}
			}
		}
		for training := range first.Checkpoints {
			t.Logf("%s, %s training: %d of 2 repetitions gave the same bytes", v.name, training, same[training])
			if promised := v.spec == "go" || v.spec == "onnx"; promised && same[training] != 2 {
				t.Errorf("%s, %s training: the bytes differ", v.name, training)
			}
		}
	}
}
