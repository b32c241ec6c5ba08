package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// sharedPath is a file of the reference data that stands beside the
// repository, or skips the test where it is absent.
func sharedPath(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{"..", "..", "..", "shared"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("reference data ../shared/%s is absent", filepath.Join(elem...))
	}
	return path
}

// readShared decodes a JSON file of the reference data.
func readShared(t *testing.T, into any, elem ...string) {
	t.Helper()
	raw, err := os.ReadFile(sharedPath(t, elem...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// jsonl writes one JSON object a line.
func jsonl(t *testing.T, key string, values ...any) string {
	t.Helper()
	var b strings.Builder
	for _, v := range values {
		line, err := json.Marshal(map[string]any{key: v})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// answers decodes a key of every line.
func answers[T any](t *testing.T, out *bytes.Buffer, key string) (list []T) {
	t.Helper()
	lines := json.NewDecoder(out)
	for lines.More() {
		var line map[string]T
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
		value, ok := line[key]
		if !ok || len(line) != 1 {
			t.Fatalf("answer %d is %v, not %q alone", len(list), line, key)
		}
		list = append(list, value)
	}
	return list
}

// `tokenize` equals the reference tokenizers on every golden text.
func TestTokenizeGolden(t *testing.T) {
	for _, name := range []string{"qwen2.5", "llama3.1"} {
		t.Run(name, func(t *testing.T) {
			var golden struct {
				Cases []struct {
					Text    string
					IDs     []int32 `json:"ids"`
					Special []int32 `json:"ids_with_special"`
				}
			}
			readShared(t, &golden, "golden", "tokenizers", name+".json")
			var texts []any
			for _, c := range golden.Cases {
				texts = append(texts, c.Text)
			}
			dir := sharedPath(t, "tokenizers", name)
			run := func(f tokenizeOptions) [][]int32 {
				f.tokenizer = dir
				var out bytes.Buffer
				if err := runTokenize(t.Context(), f, strings.NewReader(jsonl(t, "text", texts...)), "in", &out); err != nil {
					t.Fatal(err)
				}
				got := answers[[]int32](t, &out, "ids")
				if len(got) != len(texts) {
					t.Fatalf("%d answers to %d lines", len(got), len(texts))
				}
				return got
			}
			special, around, plain := run(tokenizeOptions{special: true}), run(tokenizeOptions{around: true}), run(tokenizeOptions{})
			apart := 0
			for i, c := range golden.Cases {
				if !slices.Equal(special[i], c.IDs) {
					t.Errorf("--special %q: %v, want %v", c.Text, special[i], c.IDs)
				}
				if !slices.Equal(around[i], c.Special) {
					t.Errorf("--add-special %q: %v, want %v", c.Text, around[i], c.Special)
				}
				if !slices.Equal(plain[i], c.IDs) {
					apart++
					if !strings.Contains(c.Text, "<") { // no name of a token without it
						t.Errorf("%q: %v, want %v", c.Text, plain[i], c.IDs)
					}
				}
			}
			if apart == 0 {
				t.Error("no golden text names a special token: --special is not tested")
			}
		})
	}
}

// `logprobs` equals the float64 reference of a trained model.
func TestLogprobsGolden(t *testing.T) {
	var golden struct {
		Cases []struct {
			IDs      []int32   `json:"ids"`
			LogProbs []float64 `json:"token_logprobs"`
		}
	}
	readShared(t, &golden, "weights", "stories260K", "golden_logits.json")
	model := sharedPath(t, "weights", "stories260K")
	var ids []any
	for _, c := range golden.Cases {
		ids = append(ids, c.IDs)
	}
	for _, batch := range []int{1, 3, 64} {
		var out bytes.Buffer
		f := logprobsOptions{model: model, engine: "go", batch: batch}
		if err := new(app).runLogprobs(t.Context(), f, strings.NewReader(jsonl(t, "ids", ids...)), "in", &out); err != nil {
			t.Fatal(err)
		}
		got := answers[[]float64](t, &out, "logprobs")
		if len(got) != len(ids) {
			t.Fatalf("%d answers to %d lines", len(got), len(ids))
		}
		for i, c := range golden.Cases {
			if len(got[i]) != len(c.IDs)-1 || got[i] == nil {
				t.Errorf("batch %d, line %d: %d numbers for %d ids", batch, i+1, len(got[i]), len(c.IDs))
				continue
			}
			for k, p := range got[i] {
				if math.Abs(p-c.LogProbs[k]) > 1e-5*max(1, math.Abs(c.LogProbs[k])) {
					t.Errorf("batch %d, line %d, token %d: %v, want %v", batch, i+1, k+1, p, c.LogProbs[k])
				}
				if p != float64(float32(p)) {
					t.Errorf("batch %d, line %d, token %d: %v is not a float32 number", batch, i+1, k+1, p)
				}
			}
		}
	}
}

// A model that the hub's cache has is found by its name, and in bfloat16 it
// answers a little differently.
func TestLogprobsHub(t *testing.T) {
	const commit = "0123456789012345678901234567890123456789"
	cache := t.TempDir()
	t.Setenv("HF_HUB_CACHE", cache)
	repository := filepath.Join(cache, "models--karpathy--stories260K")
	for _, dir := range []string{"refs", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(repository, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(repository, "refs", "main"), []byte(commit), 0o600); err != nil {
		t.Fatal(err)
	}
	model, err := filepath.Abs(sharedPath(t, "weights", "stories260K"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(model, filepath.Join(repository, "snapshots", commit)); err != nil {
		t.Fatal(err)
	}
	ask := func(f logprobsOptions) []float64 {
		t.Helper()
		var out bytes.Buffer
		f.engine, f.batch = "go", 1
		if err := new(app).runLogprobs(t.Context(), f, strings.NewReader(`{"ids": [1, 403, 407, 261]}`), "in", &out); err != nil {
			t.Fatal(err)
		}
		return answers[[]float64](t, &out, "logprobs")[0]
	}
	want := ask(logprobsOptions{model: model})
	if got := ask(logprobsOptions{model: "karpathy/stories260K", dtype: "float32"}); !slices.Equal(got, want) {
		t.Errorf("by name %v, by directory %v", got, want)
	}
	half := ask(logprobsOptions{model: "karpathy/stories260K@" + commit, dtype: "bfloat16"})
	for i := range want {
		if d := math.Abs(half[i] - want[i]); d > 0.05*max(1, math.Abs(want[i])) {
			t.Errorf("token %d: %v in bfloat16, %v in float32", i+1, half[i], want[i])
		}
	}
	if slices.Equal(half, want) {
		t.Error("bfloat16 changes nothing")
	}
	err = new(app).runLogprobs(t.Context(), logprobsOptions{model: "karpathy/none", engine: "go", batch: 1}, strings.NewReader(""), "in", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "esclab model get karpathy/none") {
		t.Errorf("a model that is not there: %v", err)
	}
}

// trainedAdapter is an adapter for the model in dir that a training step has changed, the directory it is saved in, and
// what it was trained on.
func trainedAdapter(t *testing.T, engine *lm.Engine, dir string) (adapter *lm.Adapter, saved string, examples []lm.Example) {
	t.Helper()
	model, err := lm.LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	if adapter, err = lm.NewAdapter(model.Config, lm.LoRA{Rank: 2, Alpha: 4}, 1); err != nil {
		t.Fatal(err)
	}
	examples = []lm.Example{{Sequences: []lm.Sequence{{Tokens: []int32{1, 403, 407, 261, 378}, LossFrom: 1}}}}
	trainer, err := lm.NewTrainer(engine, model, adapter, lm.Dataset{Examples: examples},
		lm.TrainConfig{Loss: lm.Loss{Kind: lm.LossSFT}, BatchSize: 1, Epochs: 1, LearningRate: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	if _, err := trainer.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if adapter, err = trainer.Adapter(); err != nil {
		t.Fatal(err)
	}
	saved = t.TempDir()
	if err := adapter.Save(saved, dir); err != nil {
		t.Fatal(err)
	}
	return adapter, saved, examples
}

// goEngine opens the engine that is always there.
func goEngine(t *testing.T) *lm.Engine {
	t.Helper()
	engine, err := lm.EngineOptions{}.Open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return engine
}

// An adapter that a training step has changed changes the answers, and to what
// the library says.
func TestLogprobsAdapter(t *testing.T) {
	dir := sharedPath(t, "weights", "stories260K")
	engine := goEngine(t)
	adapter, saved, examples := trainedAdapter(t, engine, dir)
	model, err := lm.LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := lm.LogProbs(t.Context(), engine, model, adapter, examples, lm.LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run := func(adapter string) []float64 {
		var out bytes.Buffer
		f := logprobsOptions{model: dir, adapter: adapter, engine: "go", batch: 1}
		if err := new(app).runLogprobs(t.Context(), f, strings.NewReader(jsonl(t, "ids", examples[0].Sequences[0].Tokens)), "in", &out); err != nil {
			t.Fatal(err)
		}
		return answers[[]float64](t, &out, "logprobs")[0]
	}
	with, without := run(saved), run("")
	if slices.Equal(with, without) {
		t.Error("--adapter changes nothing")
	}
	for i, p := range want[0][0].Tokens {
		if with[i] != float64(p) {
			t.Errorf("token %d: %v, the library says %v", i+1, with[i], p)
		}
	}
}

// Bad lines are named, and what came before them is answered.
func TestInspectErrors(t *testing.T) {
	model, tokenizer := sharedPath(t, "weights", "stories260K"), sharedPath(t, "tokenizers", "qwen2.5")
	ids := func(batch int) func(in string, out io.Writer) error {
		return func(in string, out io.Writer) error {
			return new(app).runLogprobs(t.Context(), logprobsOptions{model: model, engine: "go", batch: batch}, strings.NewReader(in), "in", out)
		}
	}
	text := func(in string, out io.Writer) error {
		return runTokenize(t.Context(), tokenizeOptions{tokenizer: tokenizer}, strings.NewReader(in), "in", out)
	}
	const goodIDs, goodText = `{"ids": [1, 2, 3]}` + "\n\n", `{"text": "a"}` + "\n\n"
	for _, c := range []struct {
		name string
		run  func(in string, out io.Writer) error
		in   string
		says []string
	}{
		{"cut short", text, goodText + `{"text": "b`, []string{"in:3", "JSON"}},
		{"no text", text, goodText + `{"texts": "b"}`, []string{"in:3", `"text" is missing`}},
		{"null text", text, goodText + `{"text": null}`, []string{"in:3", "null"}},
		{"text a number", text, goodText + `{"text": 1}`, []string{"in:3", `"text"`, "number"}},
		{"not UTF-8", text, goodText + "{\"text\": \"\xff\"}", []string{"in:3", "UTF-8"}},
		{"two objects", text, goodText + `{"text": "b"} {"text": "c"}`, []string{"in:3"}},
		{"long line", text, goodText + `{"text": "` + strings.Repeat("a", maxInspectLine) + `"}`, []string{"in:3", "16 MiB"}},
		{"a list", ids(1), goodIDs + `[1, 2]`, []string{"in:3", "object"}},
		{"no ids", ids(1), goodIDs + `{"text": "b"}`, []string{"in:3", `"ids" is missing`}},
		{"empty ids", ids(1), goodIDs + `{"ids": []}`, []string{"in:3", "empty"}},
		{"null id", ids(1), goodIDs + `{"ids": [1, null]}`, []string{"in:3", `"ids"[1]`}},
		{"fraction", ids(1), goodIDs + `{"ids": [1, 2.5]}`, []string{"in:3", "2.5"}},
		{"unknown id", ids(1), goodIDs + `{"ids": [1, 512]}`, []string{"in:3", `"ids"[1] is 512`, "511"}},
		{"negative id", ids(8), goodIDs + `{"ids": [1, -1]}`, []string{"in:3", "-1"}},
		{"too many ids", ids(8), goodIDs + `{"ids": [` + strings.Repeat("1,", 512) + `1]}`, []string{"in:3", "513", "max_position_embeddings"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := c.run(c.in, &out)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the message does not name %q: %v", s, err)
				}
			}
			if n := strings.Count(out.String(), "\n"); n != 1 {
				t.Errorf("%d answers, want the one to the line before", n)
			}
			var coded *codedError
			if errors.As(err, &coded) {
				t.Errorf("exit code %d, want that of wrong input", coded.code)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "none")
	for _, f := range []logprobsOptions{
		{model: missing, engine: "go", batch: 1}, {model: model, engine: "go", batch: 1, adapter: missing},
		{model: model, engine: "none", batch: 1}, {model: model, engine: "go", batch: 0},
		{model: model, engine: "go", batch: 1, dtype: "int8"},
	} {
		if err := new(app).runLogprobs(t.Context(), f, strings.NewReader(goodIDs), "in", io.Discard); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

// A short input: no line, an empty text, a single token.
func TestInspectShort(t *testing.T) {
	model, tokenizer := sharedPath(t, "weights", "stories260K"), sharedPath(t, "tokenizers", "llama3.1")
	var out bytes.Buffer
	if err := runTokenize(t.Context(), tokenizeOptions{tokenizer: tokenizer}, strings.NewReader("\ufeff"+`{"text": "", "n": 1}`+"\r\n"), "in", &out); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"", `{"ids": [7]}`} {
		if err := new(app).runLogprobs(t.Context(), logprobsOptions{model: model, engine: "go", batch: 2}, strings.NewReader(in), "in", &out); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), `{"ids":[]}`+"\n"+`{"logprobs":[]}`+"\n"; got != want {
		t.Errorf("answers %q, want %q", got, want)
	}
}

// A line is answered before the next one is written, and a cancelled context
// ends the command although nobody writes.
func TestInspectStreams(t *testing.T) {
	model := sharedPath(t, "weights", "stories260K")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, writeIn := io.Pipe()
	readOut, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- new(app).runLogprobs(ctx, logprobsOptions{model: model, engine: "go", batch: 1}, in, "in", out)
		out.Close() // a reader that still waits for an answer shall not wait for ever
	}()
	lines := bufio.NewScanner(readOut)
	for range 2 {
		if _, err := io.WriteString(writeIn, `{"ids": [1, 2, 3]}`+"\n"); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"logprobs":[`) {
			t.Fatalf("answer %q", lines.Text())
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	writeIn.Close()
}

// TestTokenizeChat renders conversations by the chat template, and says on one line what it refuses; a template that
// cannot be compiled is no hindrance to texts.
func TestTokenizeChat(t *testing.T) {
	dir := t.TempDir()
	corpus := func(yield func(string) bool) { yield("low lower lowest") }
	if _, err := tokens.TrainBPE(t.Context(), corpus, dir, tokens.BPEOptions{VocabSize: 280}); err != nil {
		t.Fatal(err)
	}
	template := func(source string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	template(`{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{{ m.role[0] + ':' + m.content.strip() + eos_token }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}`)
	for _, c := range []struct {
		in, text, refused string
	}{
		{in: `{"messages": [{"role": "user", "content": " low "}], "add_generation_prompt": true}`, text: "u:low<|end|>a:"},
		{in: `{"messages": [{"role": "user", "content": "low"}, {"role": "assistant", "content": "lower"}]}`, text: "u:low<|end|>a:lower<|end|>"},
		{in: `{"messages": []}`, text: ""},
		{in: `{"messages": [{"role": "tool", "content": "x"}]}`, refused: "in:1: tokens: render chat"},
		{in: `{"messages": [{"role": "user", "content": ["x"]}]}`, refused: `in:1: "messages" has to be`},
		{in: `{"messages": [], "add_generation_prompt": 1}`, refused: `in:1: "add_generation_prompt" has to be`},
		{in: `{"text": "x"}`, refused: `"messages"`},
	} {
		var out bytes.Buffer
		err := runTokenize(t.Context(), tokenizeOptions{tokenizer: dir, chat: true}, strings.NewReader(c.in), "in", &out)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || strings.Contains(err.Error(), "\n") || exitCode(err) != 2 {
				t.Errorf("%s: the error has to say %q on one line with exit code 2, it is: %v", c.in, c.refused, err)
			}
			continue
		}
		var got struct {
			Text string
			IDs  []int32
		}
		if err := errors.Join(err, json.Unmarshal(out.Bytes(), &got)); err != nil {
			t.Fatal(err)
		}
		if got.Text != c.text || got.IDs == nil || (len(got.IDs) == 0) != (c.text == "") {
			t.Errorf("%s: text %q and %d ids, want text %q with its ids", c.in, got.Text, len(got.IDs), c.text)
		}
	}
	template("{% for x in %}")
	var out bytes.Buffer
	if err := runTokenize(t.Context(), tokenizeOptions{tokenizer: dir}, strings.NewReader(`{"text": "low"}`), "in", &out); err != nil {
		t.Errorf("a text beside a template that does not compile: %v, want its ids", err)
	}
}
