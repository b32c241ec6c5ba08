package lm

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// TestAdamW follows two updates in float64.
func TestAdamW(t *testing.T) {
	engine := testEngine(t)
	names := []string{"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}
	const decay, clip = 0.1, 1.0
	p := newProgram(engine, "update", func(nodes []*graph.Node) []*graph.Node { return adamW(names, decay, clip, nodes) })
	config := TrainConfig{LearningRate: 0.05, Schedule: ScheduleConstant}
	weights := [][]float64{{1, -2}, {0.5}}
	gradients := [][][]float64{{{0.3, 0.4}, {0.1}}, {{3, -4}, {2}}}
	moments, squares := [][]float64{{0, 0}, {0}}, [][]float64{{0, 0}, {0}}
	tensor := func(x []float64) *tensors.Tensor {
		y := make([]float32, len(x))
		for i := range x {
			y[i] = float32(x[i])
		}
		return tensors.FromFlatDataAndDimensions(y, len(y))
	}
	var now []*tensors.Tensor
	for _, list := range [][][]float64{weights, moments, squares} {
		for _, x := range list {
			now = append(now, tensor(x))
		}
	}
	for step, g := range gradients {
		norm := 0.0
		for i := range g {
			for _, x := range g[i] {
				norm += x * x
			}
		}
		norm = math.Sqrt(norm)
		for i := range g {
			for j, x := range g[i] {
				x *= min(1, clip/(norm+1e-6))
				moments[i][j] = 0.9*moments[i][j] + 0.1*x
				squares[i][j] = 0.999*squares[i][j] + 0.001*x*x
				if i == 0 {
					weights[i][j] *= 1 - 0.05*decay
				}
				n := float64(step + 1)
				weights[i][j] -= 0.05 * moments[i][j] / (1 - math.Pow(0.9, n)) /
					(math.Sqrt(squares[i][j]/(1-math.Pow(0.999, n))) + 1e-8)
			}
		}
		hyper := tensors.FromFlatDataAndDimensions(config.hyper(step, 10), 3)
		out, err := p.run(keep(append(now, tensor(g[0]), tensor(g[1]), hyper)...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := scalar(out[0])
		if err != nil || math.Abs(got-norm) > 1e-5 {
			t.Errorf("norm %v, want %v (%v)", got, norm, err)
		}
		now = out[1:7]
		for i := range weights {
			values, err := floats(now[i])
			if err != nil {
				t.Fatal(err)
			}
			for j := range values {
				if math.Abs(float64(values[j])-weights[i][j]) > 1e-6 {
					t.Errorf("step %d, weight %d %d: %v, want %v", step, i, j, values[j], weights[i][j])
				}
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		schedule Schedule
		want     []float64 // transformers' multipliers for 10 steps, 4 of warm-up
	}{
		{ScheduleCosine, []float64{0, 0.25, 0.5, 0.75, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873}},
		{ScheduleLinear, []float64{0, 0.25, 0.5, 0.75, 1, 5. / 6, 4. / 6, 3. / 6, 2. / 6, 1. / 6}},
		{ScheduleConstant, []float64{0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1}},
	} {
		config := TrainConfig{LearningRate: 2, Schedule: c.schedule, WarmupRatio: 0.35}
		for step, want := range c.want {
			if got := config.learningRate(step, 10); math.Abs(got-2*want) > 1e-6 {
				t.Errorf("%s: step %d has rate %v, want %v", c.schedule, step, got, 2*want)
			}
		}
	}
}
