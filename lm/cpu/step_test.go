//go:build cgo

package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
)

// trained is what some training steps leave.
type trained struct {
	losses           []float32
	weights, moments [][]float32
}

func train(t *testing.T, m *llama, config string, steps int) trained {
	t.Helper()
	b, err := gobackend.New(config)
	if err != nil {
		t.Fatal(err)
	}
	m.init()
	r := trained{losses: m.run(t, b, m.step(b), 0, steps)}
	for _, x := range m.trained {
		r.weights = append(r.weights, tensors.MustCopyFlatData[float32](x))
	}
	for _, x := range m.moments {
		r.moments = append(r.moments, tensors.MustCopyFlatData[float32](x))
	}
	return r
}

const sequential = "ops_sequential,creation_order"

// TestStepAgainstStock trains with the kernels and without: the first step's
// losses and gradients (as Adam's moments) agree to 1e-5 of their size.
func TestStepAgainstStock(t *testing.T) {
	for _, rank := range []int{0, 4} {
		install(t, cpu.Options{Kernels: "off"})
		want := train(t, tinyLlama(rank), sequential, 1)
		stock := train(t, tinyLlama(rank), sequential, 4)
		t.Run(fmt.Sprint("rank", rank), func(t *testing.T) {
			levels(t, func(t *testing.T) {
				got := train(t, tinyLlama(rank), sequential, 1)
				same(t, "loss", want.losses, got.losses, 1e-5)
				for i := range want.moments {
					var size float64
					for _, v := range want.moments[i] {
						size = math.Max(size, math.Abs(float64(v)))
					}
					for j, v := range want.moments[i] {
						if d := math.Abs(float64(v - got.moments[i][j])); !(d <= 1e-5*size) {
							t.Fatalf("moment %d value %d is %v, want %v of at most %v", i, j, got.moments[i][j], v, size)
						}
					}
				}
				// Adam's first steps amplify roundings: the losses stay close.
				same(t, "losses", stock.losses, train(t, tinyLlama(rank), sequential, 4).losses, 1e-4)
			})
		})
	}
}

// TestStepRepeats demands the same bits of repeated runs, of any number of
// threads and of either execution order.
func TestStepRepeats(t *testing.T) {
	for _, rank := range []int{0, 4} {
		t.Run(fmt.Sprint("rank", rank), func(t *testing.T) {
			var first *trained
			for _, threads := range []int{0, 0, 1, 3} {
				for _, config := range []string{sequential, "parallelism=-1,creation_order"} {
					install(t, cpu.Options{Threads: threads})
					m := tinyLlama(rank)
					m.batch, m.seq, m.hidden = 4, 64, 128 // Enough for several tasks.
					got := train(t, m, config, 2)
					if first == nil {
						first = &got
					}
					bits(t, "losses", first.losses, got.losses)
					for i := range got.weights {
						bits(t, fmt.Sprint("weight ", i), first.weights[i], got.weights[i])
					}
					for i := range got.moments {
						bits(t, fmt.Sprint("moment ", i), first.moments[i], got.moments[i])
					}
				}
			}
		})
	}
}
