//go:build cgo

package cpu_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/cpu"
)

func TestScratchLM(t *testing.T) {
	if os.Getenv("PROFILE") != "lm" {
		t.Skip()
	}
	runtime.LockOSThread()
	install(t, cpu.Options{})
	engine, err := lm.OpenEngine("go")
	if err != nil {
		t.Fatal(err)
	}
	c := lm.Config{ModelType: "llama", HiddenSize: 256, IntermediateSize: 688, NumHiddenLayers: 4, NumAttentionHeads: 4,
		NumKeyValueHeads: 2, VocabSize: 4096, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-5, RopeTheta: 10000,
		HiddenAct: "silu", TieWordEmbeddings: true}
	model, err := lm.NewModel(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	adapter, err := lm.NewAdapter(model.Config, lm.LoRA{Rank: 16, Alpha: 16, Dropout: 0.05}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var ex []lm.Example
	for g := range 20 {
		var toks []int32
		for i := range 700 {
			toks = append(toks, int32(splitMix(uint64(g), uint64(i))%4096))
		}
		for k := 100; k < 700; k += 60 {
			p := append([]int32(nil), toks[:k]...)
			for j := range 20 {
				p = append(p, int32(splitMix(uint64(g*1000+k), uint64(j))%4096))
			}
			ex = append(ex, lm.Example{Group: fmt.Sprint(g), Sequences: []lm.Sequence{{Tokens: p, LossFrom: k}}})
		}
	}
	trainer, err := lm.NewTrainer(engine, model, adapter, lm.Dataset{Examples: ex}, lm.TrainConfig{Loss: lm.Loss{Kind: lm.LossSFT}, Epochs: 3, BatchSize: 32, LearningRate: 1e-4})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := trainer.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	install(t, cpu.Options{Threads: 1})
	stop := cpu.Profile()
	for range 2 {
		f0 := pageFaults()
		defer func() { fmt.Println("faults", pageFaults()-f0) }()
		m, err := trainer.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%+v\n", m)
	}
	fmt.Println(stop(45))
}
