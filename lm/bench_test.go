package lm

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"
)

// benchConfig is a tiny-llama of 1.3M parameters.
func benchConfig() Config {
	c := Config{ModelType: "llama", HiddenSize: 128, IntermediateSize: 344, NumHiddenLayers: 4, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, VocabSize: 2048, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-5, RopeTheta: 10000,
		HiddenAct: "silu", TieWordEmbeddings: true}
	if err := c.complete(); err != nil {
		panic(err)
	}
	return c
}

// esconvExamples turns ESConv's training dialogues into turn-level data with a crude tokenizer (a token for every six
// letters of a word): the real lengths and the real sharing of prefixes. Kinds: sp-sft, rg-sft, sp-dpo, vm-dpo, pretrain.
func esconvExamples(b testing.TB, kind string, dialogues int) []Example {
	data, err := os.ReadFile("../../shared/esconv/train.json")
	if err != nil {
		b.Skipf("reference data is absent: %v", err)
	}
	var corpus []struct {
		Dialog []struct {
			Speaker, Content string
			Annotation       struct{ Strategy string }
		}
	}
	if err := json.Unmarshal(data, &corpus); err != nil {
		b.Fatal(err)
	}
	encode := func(text string) (ids []int32) {
		for _, w := range strings.Fields(text) {
			for len(w) > 0 {
				n := min(6, len(w))
				h := fnv.New32a()
				h.Write([]byte(w[:n]))
				ids = append(ids, int32(h.Sum32()%2048))
				w = w[n:]
			}
		}
		return ids
	}
	if kind == "pretrain" { // plain text in pieces of 256 tokens
		var examples []Example
		for d, dialogue := range corpus[:dialogues] {
			var ids []int32
			for _, u := range dialogue.Dialog {
				ids = append(ids, encode(u.Content)...)
			}
			for at := 0; at+1 < len(ids); at += 256 {
				examples = append(examples, Example{Group: fmt.Sprint(d), Sequences: []Sequence{{Tokens: ids[at:min(len(ids), at+256)]}}})
			}
		}
		return examples
	}
	system := encode(strings.Repeat("you are a supportive listener who chooses a strategy ", 12))
	var examples []Example
	for d, dialogue := range corpus[:dialogues] {
		context := append([]int32(nil), system...)
		for _, u := range dialogue.Dialog {
			text := append([]int32{1}, append(encode(u.Content), 2)...)
			if u.Annotation.Strategy != "" {
				prompt := append([]int32(nil), context...)
				if strings.HasPrefix(kind, "rg") { // the strategy is in the system prompt: less is shared
					prompt = append(encode(u.Annotation.Strategy), prompt...)
				}
				answer := text
				if strings.HasPrefix(kind, "sp") {
					answer = append([]int32{3}, encode(u.Annotation.Strategy)...)
				}
				join := func(a []int32) Sequence {
					return Sequence{Tokens: append(append([]int32(nil), prompt...), a...), LossFrom: len(prompt)}
				}
				e := Example{Group: fmt.Sprint(d), Sequences: []Sequence{join(answer)}}
				if strings.HasSuffix(kind, "dpo") {
					rejected := append([]int32{4}, answer...)
					e.Sequences = append(e.Sequences, join(rejected))
					e.Reference = []float64{-10, -12}
				}
				examples = append(examples, e)
			}
			context = append(context, text...)
		}
	}
	return examples
}

// BenchmarkTrain takes steps of the paper's kinds of training. Its metrics count examples, tokens computed and tokens
// of the unpacked sequences.
func BenchmarkTrain(b *testing.B) {
	for _, kind := range []string{"sp-sft", "rg-sft", "sp-dpo", "vm-dpo", "pretrain"} {
		for _, packing := range []Packing{PackTree, PackNone} {
			for _, rank := range []int{16, 0} {
				b.Run(fmt.Sprintf("%s/%s/rank%d", kind, packing, rank), func(b *testing.B) {
					engine := testEngine(b)
					model, err := NewModel(benchConfig(), 1)
					if err != nil {
						b.Fatal(err)
					}
					var adapter *Adapter
					if rank > 0 {
						if adapter, err = NewAdapter(model.Config, LoRA{Rank: rank, Alpha: 16, Dropout: 0.05}, 1); err != nil {
							b.Fatal(err)
						}
					}
					loss := Loss{Kind: LossSFT}
					if strings.HasSuffix(kind, "dpo") {
						loss = Loss{Kind: LossDPO, Beta: 0.1}
					}
					trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: esconvExamples(b, kind, 60)},
						TrainConfig{Loss: loss, Epochs: 3, BatchSize: 32, LearningRate: 1e-4, Packing: packing})
					if err != nil {
						b.Fatal(err)
					}
					defer trainer.Close()
					for range 3 { // compile
						if _, err := trainer.Next(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
					var samples, tokens, padded, unpacked int
					for b.Loop() {
						m, err := trainer.Next(b.Context())
						if err != nil {
							b.Fatal(err)
						}
						samples, tokens = samples+m.Samples, tokens+m.Tokens
						padded, unpacked = padded+m.TokensPadded, unpacked+m.TokensUnpacked
					}
					seconds := b.Elapsed().Seconds()
					b.ReportMetric(float64(samples)/seconds, "samples/s")
					b.ReportMetric(float64(tokens)/seconds, "tokens/s")
					b.ReportMetric(float64(padded)/seconds, "padded/s")
					b.ReportMetric(float64(unpacked)/seconds, "unpacked/s")
					b.ReportMetric(float64(trainer.CompiledShapes()), "shapes")
				})
			}
		}
	}
}
