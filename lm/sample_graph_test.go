package lm

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestDrawGraph: the graph draws the tokens that the host's sampler draws by the same random numbers.
func TestDrawGraph(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("the engine's tokens are drawn on the host")
	}
	const slots, vocab = 48, 300
	logits, uniform, seen := make([]float32, slots*vocab), make([]float64, slots), make([]int32, slots*vocab)
	lists := make([][]int32, slots)
	random := newStream(3)
	for i := range logits {
		logits[i] = float32(3 * random.normal())
		switch {
		case i/vocab%4 == 1: // many ties
			logits[i] = float32(math.Round(float64(logits[i])))
		case i%97 == 0:
			logits[i] = float32(math.NaN())
		case i%89 == 0:
			logits[i] = float32(math.Inf(-1))
		}
		if random.uniform() < 0.2 {
			seen[i] = 1
			lists[i/vocab] = append(lists[i/vocab], int32(i%vocab))
		}
	}
	for i := range uniform {
		uniform[i] = random.uniform()
	}
	uniform[0], uniform[1] = 0, 1-0x1p-53
	for _, c := range []GenerateConfig{
		{Temperature: 1, TopP: 1, RepetitionPenalty: 1}, {Temperature: 0.7, TopP: 0.9, RepetitionPenalty: 1.3},
		{Temperature: 1.3, TopP: 0.6, TopK: 20, RepetitionPenalty: 1}, {Temperature: 0, TopP: 1, RepetitionPenalty: 1.2},
	} {
		name := fmt.Sprintf("temperature %v, top-p %v, top-k %d, penalty %v", c.Temperature, c.TopP, c.TopK, c.RepetitionPenalty)
		p := newProgram(engine, "draw", func(n []*graph.Node) []*graph.Node {
			number := func(i int) *graph.Node { return graph.Reshape(graph.SliceAxis(n[2], 0, graph.AxisElem(i))) }
			d := drawing{uniform: n[1], temperature: number(0), topP: number(1), penalty: number(2)}
			if c.RepetitionPenalty != 1 {
				d.seen = graph.ConvertDType(n[3], dtypes.Bool)
			}
			return []*graph.Node{d.draw(&c, n[0])}
		})
		out, err := p.run(keep(tensors.FromFlatDataAndDimensions(logits, slots, vocab), tensors.FromFlatDataAndDimensions(uniform, slots, 1),
			tensors.FromFlatDataAndDimensions([]float64{c.Temperature, c.TopP, c.RepetitionPenalty}, 3),
			tensors.FromFlatDataAndDimensions(seen, slots, vocab)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		drawn, err := tensors.CopyFlatData[int32](out[0])
		if err != nil {
			t.Fatal(err)
		}
		s := sampler{temperature: c.Temperature, topP: c.TopP, topK: c.TopK, penalty: c.RepetitionPenalty}
		for i, got := range drawn {
			row := logits[i*vocab : (i+1)*vocab]
			if want := s.draw(s.penalise(row, lists[i]), uniform[i]); got != want {
				t.Errorf("%s, slot %d: the graph draws %d (logit %v), the host %d (%v)", name, i, got, row[got], want, row[want])
			}
		}
		p.close()
	}
}

// TestGenerateDrawnOnDevice: a generation whose tokens are drawn in the graph is the one whose tokens are drawn on the
// host.
func TestGenerateDrawnOnDevice(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("the engine's tokens are drawn on the host")
	}
	config := tinyConfig()
	model := tinyModel(t, config)
	c := GenerateConfig{MaxNewTokens: 10, Temperature: 0.9, TopP: 0.9, TopK: 30, RepetitionPenalty: 1.2, Stop: []int32{3}, Slots: 6, Seed: 5}
	requests := chats(2, 3, 2)
	for i := range requests {
		for j := range requests[i].Prompt {
			requests[i].Prompt[j] %= int32(config.VocabSize)
		}
	}
	device, _ := generate(t, engine, model, nil, c, requests)
	if err := engine.Ablate("sampling"); err != nil {
		t.Fatal(err)
	}
	host, _ := generate(t, engine, model, nil, c, requests)
	if !reflect.DeepEqual(device, host) {
		t.Errorf("the graph draws %v, the host %v", device, host)
	}
}

// TestGenerateHalf: a model in bfloat16 with its adapter merged on the device, keys and values in bfloat16, gives
// logits near those of float32, whose most likely tokens it mostly takes.
func TestGenerateHalf(t *testing.T) {
	engine := testEngine(t)
	if engine.Backend.Name() != "xla" {
		t.Skip("keys and values of the engine are float32")
	}
	config := tinyQwen(t)
	wide, half := roundedModel(t, config)
	adapter := trainedAdapter(t, config, LoRA{Rank: 3, Alpha: 6})
	requests := chats(2, 3, 1)
	for i := range requests {
		for j := range requests[i].Prompt {
			requests[i].Prompt[j] %= int32(config.VocabSize)
		}
	}
	c := GenerateConfig{MaxNewTokens: 8, Slots: 4, MaxTokens: 64}
	want, _ := generate(t, engine, wide, adapter, c, requests)
	got, _ := generate(t, engine, half, adapter, c, requests)
	same := 0
	for i := range want {
		if len(got[i][0].Tokens) > 0 && len(want[i][0].Tokens) > 0 && got[i][0].Tokens[0] == want[i][0].Tokens[0] {
			same++
		}
	}
	t.Logf("%d of %d samples begin alike", same, len(want))
	if 3*same < 2*len(want) {
		t.Errorf("%d of %d samples begin with float32's most likely token, want two thirds", same, len(want))
	}
}
