package activities

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// TestTrainingRecord: two epochs of three steps cut short after five, validated where an epoch and the training end,
// written and read in the middle as a checkpoint does.
func TestTrainingRecord(t *testing.T) {
	const steps, perEpoch = 5, 3
	record := &trainingRecord{}
	if record.lacksValidation(steps) {
		t.Error("a training without a step is to be validated")
	}
	var validatedAfter []int
	for step := 1; step <= steps; step++ {
		record.add(lm.StepMetrics{Step: step, Epoch: float64(step) / perEpoch, Loss: 10 - float64(step), LearningRate: 0.1 * float64(step),
			GradNorm: 2, Samples: 4, Labels: 9, Tokens: 30, TokensUnpacked: 70,
			Preference: &lm.PreferenceMetrics{ChosenReward: 1, RejectedReward: -1, Accuracy: 0.5, Margin: 2, ChosenLogProb: -3,
				RejectedLogProb: -4, KL: &lm.BatchKL{Chosen: 0, Rejected: 0.25}}})
		var b bytes.Buffer
		if err := record.write(&b); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "\n"); n != step {
			t.Errorf("%d lines after %d steps", n, step)
		}
		read, err := results.DecodeRows[results.Step](b.Bytes())
		if err != nil || !reflect.DeepEqual(read, record.steps) {
			t.Fatalf("read %+v (%v), written %+v", read, err, record.steps)
		}
		record = &trainingRecord{steps: read}
		if record.lacksValidation(steps) {
			validatedAfter = append(validatedAfter, step)
			record.validated(lm.ValidationMetrics{Loss: 20 - float64(step), Samples: 8})
			if record.lacksValidation(steps) {
				t.Errorf("step %d is to be validated twice", step)
			}
		}
	}
	if !reflect.DeepEqual(validatedAfter, []int{3, 5}) {
		t.Errorf("validated after steps %v, want the epoch's end and the training's", validatedAfter)
	}
	var b bytes.Buffer
	if err := record.write(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	const want = `{"step":3,"epoch":1,"loss":7,"learning_rate":0.30000000000000004,"grad_norm":2,"samples":4,"labels":9,"tokens":30,` +
		`"tokens_unpacked":70,"rewards":{"chosen":1,"rejected":-1,"accuracy":0.5,"margin":2,"logps_chosen":-3,"logps_rejected":-4,` +
		`"kl_chosen":0,"kl_rejected":0.25},"validation":{"loss":17,"samples":8}}`
	if lines[2] != want {
		t.Errorf("line 3:\n got %s\nwant %s", lines[2], want)
	}
	s := results.Summarize(record.steps, results.DataNotes{Examples: 12})
	if s.Steps != 5 || s.Tokens != 150 || s.TokensUnpacked != 350 || s.Samples != 20 || s.FirstLoss != 9 || s.Loss != 5 ||
		s.ValidationLoss == nil || *s.ValidationLoss != 15 {
		t.Errorf("summary %+v", s)
	}
	var one report.Training
	addCurve(&one, record.steps, true)
	if len(one.Curve) != 5 || one.Curve[1].Validation != nil || one.Curve[2].Validation == nil || *one.Curve[2].Validation != 17 {
		t.Errorf("curve %+v", one.Curve)
	}
}
