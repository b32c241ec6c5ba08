package lm

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esclab/esclab/internal/reference"
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

// ktoPairByHand is the definition in plain Go: the loss over a batch, its KL, and the derivative by each log-ratio, the KL
// a constant.
func ktoPairByHand(beta float64, ratios [][2]float64) (loss float64, kl BatchKL, slopes [][2]float64) {
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

// TestKTOPairByHand computes the loss, the KL and the gradient from log-probabilities in plain Go: with both KLs above 0,
// with either clamped, and with both.
func TestKTOPairByHand(t *testing.T) {
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
		loss, kl, slopes := ktoPairByHand(beta, ratios)
		if (kl.Chosen == 0) != (shift[0] > 0) || (kl.Rejected == 0) != (shift[1] > 0) {
			t.Fatalf("shift %v: KL %v: the case is not the one meant", shift, kl)
		}
		m, gradients := gradientOf(t, engine, model, nil, data, TrainConfig{Loss: Loss{Kind: LossKTOPair, Beta: beta}})
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

// TestKTOPairTraining starts a policy at its reference, where the loss is one half, trains it, resumes it within an epoch
// bit for bit, and validates by the definition.
func TestKTOPairTraining(t *testing.T) {
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
			Loss: Loss{Kind: LossKTOPair, Beta: 0.5}, Epochs: 8, BatchSize: 5, LearningRate: 2e-2, Schedule: ScheduleConstant,
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
	a, ka, _ := ktoPairByHand(0.5, ratios[:5])
	b, kb, _ := ktoPairByHand(0.5, ratios[5:])
	if want := (5*a + 2*b) / 7; math.Abs(v.Loss-want) > 1e-5 {
		t.Errorf("validation loss %v, want %v", v.Loss, want)
	}
	if want := (5*ka.Rejected + 2*kb.Rejected) / 7; math.Abs(v.Preference.KL.Rejected-want) > 1e-4 {
		t.Errorf("validation KL %v, want %v", *v.Preference.KL, want)
	}
}

// mismatchedByHand pairs each prompt with the answers of the pair before it in the batch.
func mismatchedByHand(batch []Example) []Example {
	var out []Example
	for i, e := range batch {
		from := batch[(i+len(batch)-1)%len(batch)]
		prompt := e.Sequences[0].Tokens[:e.Sequences[0].LossFrom]
		var m Example
		for _, s := range from.Sequences {
			m.Sequences = append(m.Sequences, Sequence{Tokens: slices.Concat(prompt, s.Tokens[s.LossFrom:]), LossFrom: len(prompt)})
		}
		out = append(out, m)
	}
	return out
}

// sumsOf is each sequence's log-probability, chosen answers first and then rejected ones, as TRL's KTOTrainer has them.
func sumsOf(t *testing.T, engine *Engine, model *Model, adapter *Adapter, data []Example) (sums [2][]float64) {
	t.Helper()
	scores, err := LogProbs(t.Context(), engine, model, adapter, data, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scores {
		for j := range s {
			sums[j] = append(sums[j], s[j].Sum())
		}
	}
	return sums
}

// ktoCase is what KTO's loss is a function of: sums of log-probabilities of the policy and of its reference.
type ktoCase struct {
	Beta, Desirable, Undesirable      float64
	Policy, Reference                 [2][]float64 // of the chosen and of the rejected answers
	PolicyMismatch, ReferenceMismatch [2][]float64 // of the same answers after other prompts
	Loss, KL                          float64      // what the trainer said
}

// byHand is KTO's definition over a batch of answers, of which one is desirable or undesirable.
func (c ktoCase) byHand() (loss, kl float64) {
	n := 0.0
	for j := range 2 {
		for i := range c.PolicyMismatch[j] {
			kl += c.PolicyMismatch[j][i] - c.ReferenceMismatch[j][i]
			n++
		}
	}
	kl = math.Max(0, kl/n)
	for i := range c.Policy[0] {
		loss += c.Desirable * (1 - 1/(1+math.Exp(-c.Beta*(c.Policy[0][i]-c.Reference[0][i]-kl))))
		loss += c.Undesirable * (1 - 1/(1+math.Exp(-c.Beta*(kl-c.Policy[1][i]+c.Reference[1][i]))))
	}
	return loss / float64(2*len(c.Policy[0])), kl
}

// ktoCases trains an adapter by KTO and gives what each of some steps had before it, by LogProbs, and said.
func ktoCases(t *testing.T) []ktoCase {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 3})
	data := nestedExamples(6, 4, 4, 50, true)
	reference := sumsOf(t, engine, model, adapter, data)
	for i := range data {
		data[i].Reference = []float64{reference[0][i], reference[1][i]}
	}
	loss := Loss{Kind: LossKTO, Beta: 0.5, Desirable: 1.3, Undesirable: 0.9}
	trainer, err := NewTrainer(engine, model, adapter, Dataset{Examples: data}, TrainConfig{
		Loss: loss, Epochs: 10, BatchSize: 5, LearningRate: 2e-2, Schedule: ScheduleConstant, RowTokens: 24, MicroBatchTokens: 48})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trainer.Close)
	var cases []ktoCase
	for trainer.Step() < trainer.Steps() {
		var batch []Example
		for _, i := range trainer.batch(trainer.Step()) {
			batch = append(batch, data[i])
		}
		c := ktoCase{Beta: loss.Beta, Desirable: loss.Desirable, Undesirable: loss.Undesirable}
		if len(batch) > 1 {
			now, err := trainer.Adapter()
			if err != nil {
				t.Fatal(err)
			}
			c.Policy, c.Reference = sumsOf(t, engine, model, now, batch), sumsOf(t, engine, model, adapter, batch)
			mismatched := mismatchedByHand(batch)
			c.PolicyMismatch, c.ReferenceMismatch = sumsOf(t, engine, model, now, mismatched), sumsOf(t, engine, model, adapter, mismatched)
		}
		m, err := trainer.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Loss, c.KL = m.Loss, m.Preference.KL.Chosen
		if len(batch) > 1 {
			cases = append(cases, c)
		}
		if len(batch) == 1 && c.KL != 0 {
			t.Errorf("a batch of one pair has KL %v, want 0: there is no other prompt", c.KL)
		}
	}
	return cases
}

// TestKTOByHand follows a training step by step: loss and KL are the definition's, on log-probabilities that are
// computed apart, and the KL leaves 0.
func TestKTOByHand(t *testing.T) {
	cases := ktoCases(t)
	moved := 0
	for i, c := range cases {
		loss, kl := c.byHand()
		if math.Abs(c.Loss-loss) > 1e-5 || math.Abs(c.KL-kl) > 1e-4 {
			t.Errorf("step %d: loss %v and KL %v, by hand %v and %v", i, c.Loss, c.KL, loss, kl)
		}
		if kl > 0.01 {
			moved++
		}
	}
	if moved == 0 {
		t.Errorf("no step of %d has a KL above 0.01: the comparison would not notice its absence", len(cases))
	}
}

// TestKTOAsTRL gives TRL's KTOTrainer the same log-probabilities.
func TestKTOAsTRL(t *testing.T) {
	if os.Getenv("ESCLAB_TEST_PYTHON") == "" {
		reference.Python[any](t, "trl", "", nil) // which skips, and says what to install
	}
	cases := ktoCases(t)
	data, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	want := reference.Python[[][2]float64](t, "trl", filepath.Join("testdata", "kto_with_trl.py"), data)
	if want == nil {
		t.Skip("the Python that ESCLAB_TEST_PYTHON names has no TRL: pip install trl there")
	}
	for i, c := range cases {
		if math.Abs(c.Loss-want[i][0]) > 1e-5 || math.Abs(c.KL-want[i][1]) > 1e-4 {
			t.Errorf("step %d: loss %v and KL %v, TRL's are %v and %v", i, c.Loss, c.KL, want[i][0], want[i][1])
		}
	}
}

// TestMismatched: answers move on by a place; where that would leave a prompt its own answers they move on further,
// and an answer is cut where the prompt leaves too little room.
func TestMismatched(t *testing.T) {
	pair := func(prompt, chosen, rejected int32) Example {
		with := func(answer int32) Sequence { return Sequence{Tokens: []int32{1, prompt, answer, answer}, LossFrom: 2} }
		return Example{Group: "g", Sequences: []Sequence{with(chosen), with(rejected)}}
	}
	for _, c := range []struct {
		name    string
		prompts []int32
		want    [][3]int32 // prompt, chosen, rejected
	}{
		{"each prompt once", []int32{5, 6, 7}, [][3]int32{{5, 12, 22}, {6, 10, 20}, {7, 11, 21}}},
		{"neighbours of one prompt", []int32{5, 5, 6, 6}, [][3]int32{{5, 12, 22}, {5, 13, 23}, {6, 10, 20}, {6, 11, 21}}},
		{"one prompt has most", []int32{5, 5, 6}, [][3]int32{{5, 12, 22}, {6, 11, 21}}},
		{"one prompt alone", []int32{5, 5}, nil},
		{"one pair", []int32{5}, nil},
	} {
		p := planner{packer: packer{share: true, rowLimit: 32, maxTokens: 64}, positions: 3}
		var batch []int
		for i, prompt := range c.prompts {
			p.examples, batch = append(p.examples, pair(prompt, int32(10+i), int32(20+i))), append(batch, i)
		}
		examples, micros := p.mismatched(batch)
		var got [][3]int32
		for _, e := range examples {
			for _, s := range e.Sequences {
				if len(s.Tokens) != 3 || s.LossFrom != 2 {
					t.Errorf("%s: a sequence of %d tokens, labelled from %d on; want 3, the model's positions, and 2", c.name, len(s.Tokens), s.LossFrom)
				}
			}
			got = append(got, [3]int32{e.Sequences[0].Tokens[1], e.Sequences[0].Tokens[2], e.Sequences[1].Tokens[2]})
		}
		if !slices.Equal(got, c.want) || (len(micros) == 0) != (len(c.want) == 0) {
			t.Errorf("%s: prompts with answers %v, want %v", c.name, got, c.want)
		}
	}
}
