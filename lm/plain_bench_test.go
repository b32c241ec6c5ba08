package lm

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// cpuTime is the processor time of this process, all threads together: steadier than the clock on a busy machine.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plainConfig is the 5.0M-parameter Llama that the kernels are measured with, beside PyTorch.
func plainConfig() Config {
	c := Config{ModelType: "llama", HiddenSize: 256, IntermediateSize: 688, NumHiddenLayers: 4, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, HeadDim: 64, VocabSize: 4096, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-5, RopeTheta: 10000,
		HiddenAct: "silu", TieWordEmbeddings: true}
	if err := c.complete(); err != nil {
		panic(err)
	}
	return c
}

// plainExamples are sequences of one length, drawn from a counter, whose every token but the first is labelled.
func plainExamples(count, length, vocab int) []Example {
	s := newStream(1, purposeOrder, 0)
	examples := make([]Example, count)
	for i := range examples {
		tokens := make([]int32, length)
		for j := range tokens {
			tokens[j] = int32(s.next() % uint64(vocab))
		}
		examples[i] = Example{Group: fmt.Sprint(i), Sequences: []Sequence{{Tokens: tokens, LossFrom: 1}}}
	}
	return examples
}

// BenchmarkPlain takes training steps and forward passes of unpacked batches, 8 x 256: kernel for kernel what
// torch_reference.py bench does.
func BenchmarkPlain(b *testing.B) {
	const batch, length = 8, 256
	for _, rank := range []int{16, 0} {
		for _, forward := range []bool{false, true} {
			b.Run(fmt.Sprintf("rank%d/forward=%v", rank, forward), func(b *testing.B) {
				model, err := NewModel(plainConfig(), 1)
				if err != nil {
					b.Fatal(err)
				}
				var adapter *Adapter
				if rank > 0 {
					if adapter, err = NewAdapter(model.Config, LoRA{Rank: rank, Alpha: 16}, 1); err != nil {
						b.Fatal(err)
					}
				}
				examples := plainExamples(8*batch, length, model.Config.VocabSize)
				data := Dataset{Examples: examples, Validation: examples[:batch]}
				trainer, err := NewTrainer(testEngine(b), model, adapter, data,
					TrainConfig{Loss: Loss{Kind: LossSFT}, Epochs: 1 << 10, BatchSize: batch, LearningRate: 1e-4, Packing: PackNone})
				if err != nil {
					b.Fatal(err)
				}
				defer trainer.Close()
				pass := func() {
					if forward {
						if _, err := trainer.Validate(b.Context()); err != nil {
							b.Fatal(err)
						}
						return
					}
					m, err := trainer.Next(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					if m.TokensPadded != batch*length {
						b.Fatalf("%d tokens computed, not %d", m.TokensPadded, batch*length)
					}
				}
				pass() // compile
				start := cpuTime(b)
				for b.Loop() {
					pass()
				}
				b.ReportMetric(float64(b.N*batch*length)/b.Elapsed().Seconds(), "tokens/s")
				b.ReportMetric((cpuTime(b)-start).Seconds()*1e3/float64(b.N), "cpu-ms/op")
			})
		}
	}
}
