package lm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// generatorModel is a small distinct model.
func generatorModel(t testing.TB, modelType string) *Model {
	t.Helper()
	return distinct(t, Config{ModelType: modelType, HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 2,
		NumAttentionHeads: 4, NumKeyValueHeads: 2, VocabSize: 97, MaxPositionEmbeddings: 160, RMSNormEps: 1e-6,
		RopeTheta: 1e4, HiddenAct: "silu", TieWordEmbeddings: true})
}

// distinct is a random model whose logits differ enough between tokens that float rounding changes no choice.
func distinct(t testing.TB, config Config) *Model {
	t.Helper()
	model, err := NewModel(config, 7)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range model.weights {
		if w.Rank() < 2 && !strings.HasSuffix(name, ".bias") {
			continue
		}
		stream := newStream(3, named(name))
		tensors.MustMutableFlatData(w, func(flat []float32) {
			for i := range flat {
				flat[i] = float32(stream.normal() * 0.3)
			}
		})
	}
	return model
}

// chats makes requests as the turns of dialogues do: prompts that continue each other.
func chats(dialogues, turns int, samples int) []Request {
	var requests []Request
	for d := range dialogues {
		s := newStream(11, uint64(d))
		prompt := []int32{1, 2, 3}
		for range turns + d%3 {
			for range 1 + int(s.next()%9) {
				prompt = append(prompt, int32(4+s.next()%90))
			}
			requests = append(requests, Request{Prompt: slices.Clone(prompt), Samples: samples, Group: fmt.Sprint(d)})
		}
	}
	return requests
}

// fullForward returns a function that continues a prompt greedily by a forward of the whole sequence for each
// token, without a cache.
func fullForward(t testing.TB, engine *Engine, model *Model) func(prompt []int32, n int) []int32 {
	t.Helper()
	o, err := operandsOf(engine, model, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(engine, "full forward", func(inputs []*graph.Node) []*graph.Node {
		weights := len(o.tensors)
		d := o.decoder(inputs[:weights])
		tokens, positions, enter, exit := inputs[weights], inputs[weights+1], inputs[weights+2], inputs[weights+3]
		return []*graph.Node{graph.ArgMax(d.logits(d.forward(tokens, positions, treeMask(enter, exit))), -1)}
	})
	t.Cleanup(p.close)
	return func(prompt []int32, n int) (out []int32) {
		const length = 64
		tokens, positions, exit := make([]int32, length), make([]int32, length), make([]int32, length)
		copy(tokens, prompt)
		for i := range positions {
			positions[i], exit[i] = int32(i), length
		}
		row := func(v []int32) *tensors.Tensor { return tensors.FromFlatDataAndDimensions(v, 1, length) }
		for at := len(prompt); len(out) < n; at++ {
			results, err := p.run(append(keep(o.tensors...), donate(row(tokens), row(positions), row(positions), row(exit))...))
			if err != nil {
				t.Fatal(err)
			}
			best, err := tensors.CopyFlatData[int32](results[0])
			if err != nil {
				t.Fatal(err)
			}
			tokens[at] = best[at-1]
			out = append(out, best[at-1])
		}
		return out
	}
}

func generate(t testing.TB, engine *Engine, model *Model, adapter *Adapter, config GenerateConfig, requests []Request) ([][]Sample, GenerateStats) {
	t.Helper()
	g, err := NewGenerator(engine, model, adapter, config)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	told := 0
	results, err := g.Generate(context.Background(), requests, func(int, int, Sample) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	if stats := g.Stats(); told != stats.Samples {
		t.Errorf("%d samples reported, %d made", told, stats.Samples)
	}
	return results, g.Stats()
}

// Greedy decoding gives the same with prefix reuse, without, by graphs, and by full forwards without any cache.
func TestGenerateGreedy(t *testing.T) {
	engine := testEngine(t)
	models := map[string]*Model{"llama": generatorModel(t, "llama"), "qwen2": generatorModel(t, "qwen2")}
	odd := Config{ModelType: "qwen2", HiddenSize: 56, IntermediateSize: 70, NumHiddenLayers: 3, NumAttentionHeads: 7, NumKeyValueHeads: 1,
		HeadDim: 16, VocabSize: 130, MaxPositionEmbeddings: 160, RMSNormEps: 1e-6, RopeTheta: 1e4, HiddenAct: "silu"}
	scaled := Config{ModelType: "llama", HiddenSize: 40, IntermediateSize: 100, NumHiddenLayers: 1, NumAttentionHeads: 3, NumKeyValueHeads: 3,
		HeadDim: 20, VocabSize: 100, MaxPositionEmbeddings: 160, RMSNormEps: 1e-5, RopeTheta: 5e5, HiddenAct: "silu",
		RopeScaling: &RopeScaling{RopeType: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 64}}
	for name, config := range map[string]Config{"qwen2 of 7 heads, not tied": odd, "llama3 of odd sizes": scaled} {
		models[name] = distinct(t, config)
	}
	if _, err := os.Stat("../../shared/weights/stories260K"); err == nil {
		model, err := LoadModel(reference.Path(t, "weights", "stories260K"))
		if err != nil {
			t.Fatal(err)
		}
		models["stories260K"] = model
	}
	for name, model := range models {
		t.Run(name, func(t *testing.T) {
			requests := append(chats(5, 4, 1), Request{Prompt: []int32{5}}, Request{Prompt: []int32{5}, Group: "0"})
			config := GenerateConfig{MaxNewTokens: 12, Slots: 8}
			shared, stats := generate(t, engine, model, nil, config, requests)
			config.NoReuse = true
			naive, naiveStats := generate(t, engine, model, nil, config, requests)
			if stats.PrefillTokens*2 > naiveStats.PrefillTokens {
				t.Errorf("reuse computes %d prompt tokens, without it %d", stats.PrefillTokens, naiveStats.PrefillTokens)
			}
			config.NoReuse = false
			graphs := graphGenerator(t, engine, model, config)
			byGraphs, err := graphs.Generate(context.Background(), requests, nil)
			if err != nil {
				t.Fatal(err)
			}
			continued := fullForward(t, engine, model)
			distinct := map[string]bool{}
			for i, r := range requests {
				want := continued(r.Prompt, config.MaxNewTokens)
				for how, got := range map[string][][]Sample{"with reuse": shared, "without reuse": naive, "by graphs": byGraphs} {
					if !slices.Equal(got[i][0].Tokens, want) {
						t.Errorf("request %d %s: %v, full forward: %v", i, how, got[i][0].Tokens, want)
					}
				}
				distinct[fmt.Sprint(want)] = true
			}
			if len(distinct) < len(requests)/3 {
				t.Errorf("only %d different continuations: the test shows little", len(distinct))
			}
		})
	}
}

// graphGenerator generates by graphs, whatever the engine has.
func graphGenerator(t testing.TB, engine *Engine, model *Model, config GenerateConfig) *Generator {
	t.Helper()
	g, err := NewGenerator(engine, model, nil, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.native = nil
	return g
}

// A slot that has drawn a token of Stop ends on the device, whether the host looks at it or not; nothing beside it
// changes.
func TestGenerateStopsOnDevice(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := chats(3, 3, 1)
	config := GenerateConfig{MaxNewTokens: 12, Slots: 6}
	want, err := graphGenerator(t, engine, model, config).Generate(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	config.Stop = []int32{want[0][0].Tokens[4], want[1][0].Tokens[2]}
	g := graphGenerator(t, engine, model, config)
	stopped, err := g.Generate(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.config.Stop = nil // of the host: the graphs have theirs
	unseen, err := g.Generate(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for i := range want {
		all := want[i][0].Tokens
		at := slices.IndexFunc(all, func(id int32) bool { return slices.Contains(config.Stop, id) })
		if at < 0 {
			at = len(all)
		} else {
			ended++
		}
		if got := stopped[i][0]; !slices.Equal(got.Tokens, all[:at]) || got.Stopped != (at < len(all)) {
			t.Errorf("request %d: %v, want %v and no more", i, got, all[:at])
		}
		for j := at + 1; j < len(all); j++ {
			all[j] = -1
		}
		if got := unseen[i][0].Tokens; !slices.Equal(got, all) {
			t.Errorf("request %d, which the host does not stop: %v, want %v", i, got, all)
		}
	}
	if ended < 2 {
		t.Errorf("%d samples stop, want 2 or more: the test shows little", ended)
	}
}

// As many slots as a card wants: the same samples, in fewer steps.
func TestGenerateManySlots(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := chats(40, 4, 3)
	config := GenerateConfig{MaxNewTokens: 16, Temperature: 0.8, TopP: 0.95, Slots: 8, Seed: 5, Stop: []int32{40, 41, 42}}
	want, few := generate(t, engine, model, nil, config, requests)
	for _, slots := range []int{64, 256} {
		config.Slots = slots
		got, stats := generate(t, engine, model, nil, config, requests)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d slots give other samples than 8", slots)
		}
		if stats.SlotSteps != stats.Steps*slots || stats.Steps*slots > 3*few.SlotSteps {
			t.Errorf("%d slots: %d steps of %d slots together, want all of them, and at most thrice the %d of 8 slots",
				slots, stats.Steps, stats.SlotSteps, few.SlotSteps)
		}
		few = stats
	}
}

// However many calls of whatever requests a stage makes, graphs have at most eight shapes.
func TestGenerateShapes(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	g := graphGenerator(t, engine, model, GenerateConfig{MaxNewTokens: 4, Slots: 16})
	s := newStream(21)
	for range 12 {
		var requests []Request
		for d := range 1 + s.next()%9 {
			prompt := []int32{1}
			for range 1 + s.next()%4 {
				for range 1 + s.next()%35 {
					prompt = append(prompt, int32(s.next()%97))
				}
				requests = append(requests, Request{Prompt: slices.Clone(prompt), Samples: 1 + int(s.next()%5), Group: fmt.Sprint(d)})
			}
		}
		if _, err := g.Generate(context.Background(), requests, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.Stats().Shapes; n < 3 || n > 8 {
		t.Errorf("%d compiled graphs, want 3 to 8", n)
	}
}

// The same of the paper's dialogues, in the chunks of a stage: planned only.
func TestGenerateShapesESConv(t *testing.T) {
	corpus := reference.Dialogues(t, "train.json")[:512]
	tok := trained(t, 1024, corpus[:200])
	model, err := NewModel(Config{ModelType: "llama", HiddenSize: 16, IntermediateSize: 16, NumHiddenLayers: 1, NumAttentionHeads: 1, NumKeyValueHeads: 1,
		VocabSize: 1024, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-6, RopeTheta: 1e4, HiddenAct: "silu", TieWordEmbeddings: true}, 7)
	if err != nil {
		t.Fatal(err)
	}
	engine := testEngine(t)
	for _, config := range []GenerateConfig{{MaxNewTokens: 16}, {MaxNewTokens: 128}, {MaxNewTokens: 128, Slots: 16, NoReuse: true}} {
		g := graphGenerator(t, engine, model, config)
		waves := 0
		for chunk := range slices.Chunk(corpus, 64) {
			for _, w := range g.plan(answered(t, tok, chunk)) {
				waves++
				largest := 0
				for _, tree := range w.trees {
					largest = max(largest, len(tree.tokens))
				}
				if w.nodes < largest+w.room || w.room < config.MaxNewTokens {
					t.Errorf("a tree of %d in rows of %d nodes, %d of them for samples", largest, w.nodes, w.room)
				}
			}
		}
		if n := len(g.layouts); n > mostLayouts {
			t.Errorf("%+v: %d layouts", config, n)
		}
		t.Logf("%+v: %d layouts in %d waves", config, len(g.layouts), waves)
	}
}

// trained is a tokenizer of the dialogues' texts.
func trained(t testing.TB, vocabulary int, dialogues [][]reference.Turn) *tokens.Tokenizer {
	t.Helper()
	texts := slices.Values(reference.Contents(dialogues))
	tok, err := tokens.TrainBPE(t.Context(), texts, t.TempDir(), tokens.BPEOptions{VocabSize: vocabulary})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// answered are requests for an answer to every turn of dialogues.
func answered(t testing.TB, tok *tokens.Tokenizer, dialogues [][]reference.Turn) []Request {
	t.Helper()
	var requests []Request
	for d, dialogue := range dialogues {
		chat := []tokens.Message{{Role: "system", Content: "You are a psychologist.\n"}}
		for _, turn := range dialogue {
			chat = append(chat, tokens.Message(turn))
		}
		for i, m := range chat {
			if m.Role != "assistant" {
				continue
			}
			prompt, err := tok.ChatPrompt(chat[:i], "")
			if err != nil {
				t.Fatal(err)
			}
			requests = append(requests, Request{Prompt: prompt, Group: fmt.Sprint(d)})
		}
	}
	return requests
}

// What is sampled depends on neither slots, grouping, order nor other requests.
func TestGenerateSampled(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := chats(4, 3, 3)
	config := GenerateConfig{MaxNewTokens: 10, Temperature: 0.7, TopP: 0.95, Slots: 16, Seed: 5, Stop: []int32{40, 41, 42}}
	want, stats := generate(t, engine, model, nil, config, requests)
	again, _ := generate(t, engine, model, nil, config, requests)
	if !reflect.DeepEqual(want, again) {
		t.Error("the same call gives another result")
	}
	stopped := 0
	for _, samples := range want {
		if slices.Equal(samples[0].Tokens, samples[1].Tokens) && slices.Equal(samples[1].Tokens, samples[2].Tokens) {
			t.Error("all samples of a prompt are the same")
		}
		for _, s := range samples {
			if s.Stopped {
				stopped++
			} else if len(s.Tokens) != config.MaxNewTokens {
				t.Errorf("a sample of %d tokens did not stop", len(s.Tokens))
			}
			if slices.ContainsFunc(s.Tokens, func(id int32) bool { return slices.Contains(config.Stop, id) }) {
				t.Errorf("%v contains a stop token", s.Tokens)
			}
		}
	}
	if stopped == 0 || stopped == stats.Samples {
		t.Errorf("%d of %d samples stopped: the test shows little", stopped, stats.Samples)
	}
	for _, other := range []GenerateConfig{{Slots: 1}, {Slots: 5}, {Slots: 64}, {Slots: 16, NoReuse: true}} {
		changed := config
		changed.Slots, changed.NoReuse = other.Slots, other.NoReuse
		got, _ := generate(t, engine, model, nil, changed, requests)
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%d slots, NoReuse %v: another result", other.Slots, other.NoReuse)
		}
	}
	backward := slices.Clone(requests)
	slices.Reverse(backward)
	got, _ := generate(t, engine, model, nil, config, backward)
	slices.Reverse(got)
	if !reflect.DeepEqual(want, got) {
		t.Error("requests in reverse: another result")
	}
	config.Seed++
	if got, _ := generate(t, engine, model, nil, config, requests); reflect.DeepEqual(want, got) {
		t.Error("another seed gives the same result")
	}
}

// Where a row is full, the youngest samples begin anew, and nothing changes.
func TestGenerateRestarts(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := []Request{{Prompt: []int32{1, 2, 3}, Samples: 20, Group: "a"}, {Prompt: []int32{1, 2, 4}, Samples: 4, Group: "a"}}
	config := GenerateConfig{MaxNewTokens: 100, Temperature: 1, Slots: 16}
	got, stats := generate(t, engine, model, nil, config, requests)
	if stats.Restarts == 0 {
		t.Error("no restart: the test shows nothing")
	}
	config.NoReuse = true
	if want, _ := generate(t, engine, model, nil, config, requests); !reflect.DeepEqual(want, got) {
		t.Error("restarted samples differ")
	}
}

// Prompts of very different length run in waves, and end at the model's context.
func TestGenerateContextEnd(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	long := make([]int32, 155)
	requests := []Request{{Prompt: long}, {Prompt: []int32{1}}, {Prompt: []int32{2, 3}}}
	results, _ := generate(t, engine, model, nil, GenerateConfig{MaxNewTokens: 20}, requests)
	if n := len(results[0][0].Tokens); n != 5 || results[0][0].Stopped {
		t.Errorf("%d tokens after 155 of 160", n)
	}
	if n := len(results[2][0].Tokens); n != 20 {
		t.Errorf("%d tokens, want 20", n)
	}
}

// An adapter that is merged and one that is not give the same, and not what the model alone gives.
func TestGenerateAdapter(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	adapter, err := NewAdapter(model.Config, LoRA{Rank: 4, Alpha: 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range adapter.weights {
		stream := newStream(9, named(name))
		tensors.MustMutableFlatData(w, func(flat []float32) {
			for i := range flat {
				flat[i] = float32(stream.normal() * 0.2)
			}
		})
	}
	requests := chats(2, 3, 1)
	config := GenerateConfig{MaxNewTokens: 8}
	merged, _ := generate(t, engine, model, adapter, config, requests)
	g, err := NewGenerator(engine, model, nil, config)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	plain, err := g.Generate(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(merged, plain) {
		t.Error("the adapter changes nothing")
	}
	release(g.own...)
	if g.operands, err = operandsOf(engine, model, adapter); err != nil {
		t.Fatal(err)
	}
	g.own, g.native = nil, nil
	g.prefill.close() // graphs without adapter weights
	g.decode.close()
	apart, err := g.Generate(context.Background(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(merged, apart) {
		t.Error("merged and apart differ")
	}
}

func TestGenerateErrors(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	for name, config := range map[string]GenerateConfig{
		"no new tokens": {}, "temperature": {MaxNewTokens: 1, Temperature: -1}, "top-p": {MaxNewTokens: 1, TopP: 2},
		"stop": {MaxNewTokens: 1, Stop: []int32{97}},
	} {
		if _, err := NewGenerator(engine, model, nil, config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	g, err := NewGenerator(engine, model, nil, GenerateConfig{MaxNewTokens: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(context.Background())
	for name, r := range map[string]Request{
		"empty": {}, "id": {Prompt: []int32{97}}, "negative": {Prompt: []int32{-1}}, "long": {Prompt: make([]int32, 160)},
	} {
		if _, err := g.Generate(ctx, []Request{{Prompt: []int32{1}}, r}, nil); err == nil || !strings.Contains(err.Error(), "request 1") {
			t.Errorf("%s: error %v, want one that names request 1", name, err)
		}
	}
	if results, err := g.Generate(ctx, nil, nil); err != nil || len(results) != 0 {
		t.Errorf("no requests: results %v, error %v, want none", results, err)
	}
	_, err = g.Generate(ctx, chats(2, 2, 1), func(int, int, Sample) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: error %v, want context.Canceled", err)
	}
}

// The greedy continuation of BOS by a real trained model is the one that its card shows.
func TestGenerateStories(t *testing.T) {
	dir := reference.Path(t, "weights", "stories260K")
	golden := reference.JSON[struct {
		Text string `json:"greedy_text_from_bos"`
	}](t, reference.Path(t, "weights", "stories260K", "golden_logits.json"))
	pieces := reference.JSON[[]struct {
		Hex string `json:"piece_hex"`
	}](t, reference.Path(t, "weights", "stories260K", "tok512.json"))
	model, err := LoadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	engine := testEngine(t)
	results, _ := generate(t, engine, model, nil, GenerateConfig{MaxNewTokens: 200}, []Request{{Prompt: []int32{1}}})
	var text strings.Builder
	for _, id := range results[0][0].Tokens {
		piece, err := hex.DecodeString(pieces[id].Hex)
		if err != nil {
			t.Fatal(err)
		}
		var b byte
		if n, _ := fmt.Sscanf(string(piece), "<0x%02X>", &b); n == 1 { // a byte of its own
			piece = []byte{b}
		}
		text.Write(piece)
	}
	if got := strings.TrimSpace(text.String()); !strings.HasPrefix(got, golden.Text) && !strings.HasPrefix(golden.Text, got) {
		t.Errorf("generated\n%s\nwant\n%s", got, golden.Text)
	}
}

// BenchmarkGenerate generates what a stage of the paper does, an answer to every turn of dialogues, with and without
// prefix reuse, by a random model of about 5M parameters whose samples end after 25 tokens on average.
func BenchmarkGenerate(b *testing.B) {
	corpus := reference.Dialogues(b, "test.json")[:30]
	tok := trained(b, 4096, reference.Dialogues(b, "train.json"))
	model, err := NewModel(Config{ModelType: "llama", HiddenSize: 256, IntermediateSize: 688, NumHiddenLayers: 4,
		NumAttentionHeads: 4, NumKeyValueHeads: 2, VocabSize: 4096, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-6,
		RopeTheta: 1e4, HiddenAct: "silu", TieWordEmbeddings: true}, 7)
	if err != nil {
		b.Fatal(err)
	}
	var stop []int32 // a random model draws each token about equally often
	for id := range int32(4096 / 25) {
		stop = append(stop, id*25)
	}
	requests := answered(b, tok, corpus)
	engine := testEngine(b)
	for _, c := range []struct {
		name        string
		noReuse     bool
		temperature float64
		topP        float64
	}{{"reuse", false, 0.7, 0.95}, {"reuse-greedy", false, 0, 1}, {"no-reuse", true, 0.7, 0.95}} {
		b.Run(c.name, func(b *testing.B) {
			tokens, samples, start := 0, 0, time.Now()
			for b.Loop() {
				_, stats := generate(b, engine, model, nil, GenerateConfig{MaxNewTokens: 64, Temperature: c.temperature, TopP: c.topP,
					Stop: stop, NoReuse: c.noReuse}, requests)
				tokens, samples = tokens+stats.NewTokens, samples+stats.Samples
				b.Logf("%+v", stats)
			}
			seconds := time.Since(start).Seconds()
			b.ReportMetric(float64(tokens)/seconds, "tok/s")
			b.ReportMetric(float64(samples)/seconds, "samples/s")
		})
	}
}

// Every token is told as it is drawn, with its position; a restart tells the same ones again.
func TestGenerateWatch(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := []Request{{Prompt: []int32{1, 2, 3}, Samples: 20, Group: "a"}, {Prompt: []int32{1, 2, 4}, Samples: 4, Group: "a"}}
	g, err := NewGenerator(engine, model, nil, GenerateConfig{MaxNewTokens: 100, Temperature: 1, Slots: 16, Stop: []int32{5}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	told := map[[2]int][]int32{}
	again := 0
	g.Watch(func(request, sample, position int, id int32) {
		at := [2]int{request, sample}
		switch tokens := told[at]; {
		case position == len(tokens):
			told[at] = append(tokens, id)
		case position > len(tokens) || tokens[position] != id:
			t.Fatalf("request %d, sample %d: token %d at position %d after %d tokens", request, sample, id, position, len(tokens))
		default:
			again++
		}
	})
	samples, err := g.Generate(t.Context(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	for r := range samples {
		for i, s := range samples[r] {
			if !slices.Equal(told[[2]int{r, i}], s.Tokens) {
				t.Errorf("request %d, sample %d: told %v, drawn %v", r, i, told[[2]int{r, i}], s.Tokens)
			}
		}
	}
	if restarts := g.Stats().Restarts; (restarts > 0) != (again > 0) {
		t.Errorf("%d restarts, %d tokens told again", restarts, again)
	}
	g.Watch(nil)
	g.Reseed(99)
	other, err := g.Generate(t.Context(), requests, nil)
	if err != nil || reflect.DeepEqual(samples, other) {
		t.Errorf("another seed gives the same samples (%v)", err)
	}
	g.Reseed(0)
	if same, err := g.Generate(t.Context(), requests, nil); err != nil || !reflect.DeepEqual(samples, same) {
		t.Errorf("the first seed again gives other samples (%v)", err)
	}
}

// TestRepetitionPenalty: greedy decoding with a penalty is, by the native decoder and by graphs, that of whole forward
// passes whose logits are penalised by hand; and top-k 1 is the most likely token at any temperature.
func TestRepetitionPenalty(t *testing.T) {
	engine, model := testEngine(t), generatorModel(t, "llama")
	requests := chats(4, 3, 1)
	const penalty = 1.5
	config := GenerateConfig{MaxNewTokens: 8, Slots: 8, RepetitionPenalty: penalty}
	native, _ := generate(t, engine, model, nil, config, requests)
	byGraphs, err := graphGenerator(t, engine, model, config).Generate(t.Context(), requests, nil)
	if err != nil {
		t.Fatal(err)
	}
	config.Temperature, config.TopK = 1.5, 1
	topOne, _ := generate(t, engine, model, nil, config, requests)
	config = GenerateConfig{MaxNewTokens: 8, Slots: 8}
	plain, _ := generate(t, engine, model, nil, config, requests)
	changed := 0
	for i, r := range requests {
		ids := slices.Clone(r.Prompt)
		for range config.MaxNewTokens {
			rows := logitsOf(t, engine, model, ids)
			best, highest := int32(0), math.Inf(-1)
			for id, l := range rows[len(ids)-1] {
				score := float64(l)
				if slices.Contains(ids, int32(id)) {
					score = min(score*penalty, score/penalty)
				}
				if score > highest {
					best, highest = int32(id), score
				}
			}
			ids = append(ids, best)
		}
		for how, got := range map[string][][]Sample{"by the engine": native, "by graphs": byGraphs, "with top-k 1": topOne} {
			if want := ids[len(r.Prompt):]; !slices.Equal(got[i][0].Tokens, want) {
				t.Errorf("request %d %s: %v, by hand %v", i, how, got[i][0].Tokens, want)
			}
		}
		if !slices.Equal(plain[i][0].Tokens, native[i][0].Tokens) {
			changed++
		}
	}
	if changed == 0 {
		t.Error("the penalty changes no sample: the comparison would not notice its absence")
	}
	for _, bad := range []GenerateConfig{{MaxNewTokens: 1, TopK: -1}, {MaxNewTokens: 1, RepetitionPenalty: -0.5}} {
		if _, err := NewGenerator(engine, model, nil, bad); err == nil || !strings.Contains(err.Error(), "must not be negative") {
			t.Errorf("top-k %d, penalty %v: error %v, want one that says they must not be negative", bad.TopK, bad.RepetitionPenalty, err)
		}
	}
}
