package lm

import (
	"bytes"
	"math"
	"testing"
)

// nearReference sets the references so that the policy has moved by a little: by 0.6 nats on the chosen half of all
// examples, by 0.3 on the rejected one, give or take 0.5, so that neither KL is clamped and no term is saturated.
func nearReference(t *testing.T, engine *Engine, model *Model, data []Example) {
	t.Helper()
	scores, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(77)
	for i := range data {
		moved := [2]float64{0.6, 0.3}
		data[i].Reference = make([]float64, 2)
		for j := range data[i].Reference {
			data[i].Reference[j] = scores[i][j].Sum() - moved[j] - 0.5*(2*s.uniform()-1)
		}
	}
}

// ktoByHand is the definition in plain Go: the loss over a batch, its KL, and the derivative by each log-ratio, the KL
// a constant.
func ktoByHand(beta float64, ratios [][2]float64) (loss float64, kl BatchKL, slopes [][2]float64) {
	sigma := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	n := float64(len(ratios))
	for _, r := range ratios {
		kl.Chosen += r[0] / n
		kl.Rejected += r[1] / n
	}
	kl = BatchKL{math.Max(0, kl.Chosen), math.Max(0, kl.Rejected)}
	for _, r := range ratios {
		x, y := beta*(r[0]-kl.Rejected), beta*(kl.Chosen-r[1])
		loss += (1 - sigma(x) + 1 - sigma(y)) / (2 * n)
		slopes = append(slopes, [2]float64{-beta * sigma(x) * sigma(-x) / (2 * n), beta * sigma(y) * sigma(-y) / (2 * n)})
	}
	return loss, kl, slopes
}

// TestKTOByHand computes the loss, the KL and the gradient from log-probabilities in plain Go: with both KLs above 0,
// with either clamped, and with both.
func TestKTOByHand(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	const beta = 0.7
	for _, shift := range [][2]float64{{0, 0}, {5, 0}, {0, 5}, {5, 5}} {
		data := nestedExamples(8, 3, 3, 50, true)
		nearReference(t, engine, model, data)
		scores, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var ratios [][2]float64
		for i := range data {
			var r [2]float64
			for j := range r {
				data[i].Reference[j] += shift[j]
				r[j] = scores[i][j].Sum() - data[i].Reference[j]
			}
			ratios = append(ratios, r)
		}
		loss, kl, slopes := ktoByHand(beta, ratios)
		if (kl.Chosen == 0) != (shift[0] > 0) || (kl.Rejected == 0) != (shift[1] > 0) {
			t.Fatalf("shift %v: KL %v: the case is not the one meant", shift, kl)
		}
		m, gradients := gradientOf(t, engine, model, nil, data, TrainConfig{Loss: Loss{Kind: LossKTO, Beta: beta}})
		if math.Abs(m.Loss-loss) > 1e-6 {
			t.Errorf("shift %v: loss %v, want %v", shift, m.Loss, loss)
		}
		if got := *m.Preference.KL; math.Abs(got.Chosen-kl.Chosen) > 1e-5 || math.Abs(got.Rejected-kl.Rejected) > 1e-5 {
			t.Errorf("shift %v: KL %v, want %v", shift, got, kl)
		}
		// The same gradient as SFT with each token weighed by its sequence's slope: nothing flows through the KL.
		var weighted []Example
		total := 0.0
		for i := range data {
			for j, s := range data[i].Sequences {
				w := make([]float32, len(s.Tokens))
				for k := s.LossFrom; k < len(w); k++ {
					w[k] = float32(-slopes[i][j])
					total += float64(w[k])
				}
				weighted = append(weighted, Example{Group: data[i].Group, Sequences: []Sequence{{Tokens: s.Tokens, Weights: w}}})
			}
		}
		_, want := gradientOf(t, engine, model, nil, weighted, TrainConfig{Loss: Loss{Kind: LossSFT}})
		for i := range want {
			for j := range want[i] {
				if w := total * float64(want[i][j]); math.Abs(float64(gradients[i][j])-w) > 2e-6 {
					t.Fatalf("shift %v: parameter %d, element %d: gradient %v, want %v", shift, i, j, gradients[i][j], w)
				}
			}
		}
	}
}

// TestKTOTraining starts a policy at its reference, where the loss is one half, trains it, resumes it within an epoch
// bit for bit, and validates by the definition.
func TestKTOTraining(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 3, Dropout: 0.5})
	data := nestedExamples(6, 4, 4, 50, true)
	scores, err := LogProbs(t.Context(), engine, model, adapter, data, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i].Reference = []float64{scores[i][0].Sum(), scores[i][1].Sum()}
	}
	start := func() *Trainer {
		trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data, Validation: data[:7]}, TrainConfig{
			Loss: Loss{Kind: LossKTO, Beta: 0.5}, Epochs: 8, BatchSize: 5, LearningRate: 2e-2, Schedule: ScheduleConstant,
			RowTokens: 24, MicroBatchTokens: 48})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(trainer.Close)
		return trainer
	}
	trainer := start()
	m, err := trainer.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(m.Loss-0.5) > 1e-6 || m.GradNorm < 1e-4 || m.MicroBatches < 2 {
		t.Errorf("step 0: loss %v, want 0.5; gradient norm %v; %d micro-batches", m.Loss, m.GradNorm, m.MicroBatches)
	}
	var saved []byte
	moved := false
	for trainer.Step() < trainer.Steps() {
		if m, err = trainer.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		moved = moved || m.Preference.KL.Chosen > 0
		if trainer.Step() == 6 {
			saved = state(t, trainer)
		}
	}
	if m.Loss > 0.4 || m.Preference.Accuracy < 0.8 || m.Preference.Margin < 0.5 || !moved {
		t.Errorf("after training: loss %v, %+v, KL %+v", m.Loss, *m.Preference, m.Preference.KL)
	}

	again := start()
	if err := again.Restore(bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	steps(t, again, again.Steps()-again.Step())
	if !bytes.Equal(state(t, again), state(t, trainer)) {
		t.Error("the resumed training ended in another state")
	}

	// Validation: batches of 5 and 2 pairs, each with its own KL.
	v, err := trainer.Validate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trained, err := trainer.Adapter()
	if err != nil {
		t.Fatal(err)
	}
	if scores, err = LogProbs(t.Context(), engine, model, trained, data[:7], LogProbsOptions{}); err != nil {
		t.Fatal(err)
	}
	var ratios [][2]float64
	for i := range scores {
		ratios = append(ratios, [2]float64{scores[i][0].Sum() - data[i].Reference[0], scores[i][1].Sum() - data[i].Reference[1]})
	}
	a, ka, _ := ktoByHand(0.5, ratios[:5])
	b, kb, _ := ktoByHand(0.5, ratios[5:])
	if want := (5*a + 2*b) / 7; math.Abs(v.Loss-want) > 1e-5 {
		t.Errorf("validation loss %v, want %v", v.Loss, want)
	}
	if want := (5*ka.Rejected + 2*kb.Rejected) / 7; math.Abs(v.Preference.KL.Rejected-want) > 1e-4 {
		t.Errorf("validation KL %v, want %v", *v.Preference.KL, want)
	}
}
