package results

import (
	"fmt"
	"math"
)

// Movement is how far preference training has moved the log-probabilities of the pairs' answers, in nats an answer.
type Movement struct {
	Chosen   float64 // mean change over the last tenth of the steps
	Rejected float64
	// Noise is what sampling does to a mean log-probability of the chosen answers: its standard error over the batches
	// of the first epoch, as the model had them before the training. A mean that moves by less is not told from that of
	// another draw of as many pairs.
	Noise float64
}

// Moved reads the movement from a preference training's record: rewards are beta times the change of a log-probability
// from the reference's. A loss without a reference has rewards without one; its change is that from the first tenth of
// the steps. It is nil for a record of fewer than two steps, or without rewards.
func Moved(steps []Step, beta float64, reference bool) *Movement {
	if len(steps) < 2 || beta <= 0 {
		return nil
	}
	for _, s := range steps {
		if s.Rewards == nil {
			return nil
		}
	}
	mean := func(steps []Step, of func(*Rewards) float64) float64 {
		sum := 0.0
		for _, s := range steps {
			sum += of(s.Rewards) / float64(len(steps))
		}
		return sum
	}
	tenth := (len(steps) + 9) / 10
	change := func(of func(*Rewards) float64) float64 {
		moved := mean(steps[len(steps)-tenth:], of)
		if !reference {
			moved -= mean(steps[:tenth], of)
		}
		return moved / beta
	}
	m := &Movement{
		Chosen:   change(func(r *Rewards) float64 { return r.Chosen }),
		Rejected: change(func(r *Rewards) float64 { return r.Rejected }),
	}
	before := func(r *Rewards) float64 {
		if reference {
			return r.LogProbs - r.Chosen/beta
		}
		return r.LogProbs
	}
	n := 0
	for n < len(steps) && steps[n].Epoch <= 1 {
		n++
	}
	n = min(max(n, 2), len(steps))
	center, squares := mean(steps[:n], before), 0.0
	for _, s := range steps[:n] {
		d := before(s.Rewards) - center
		squares += d * d
	}
	m.Noise = math.Sqrt(squares / float64(n-1) / float64(n))
	return m
}

// Warning says what the movement warns of, "" where of nothing: a training that has moved nothing, or one whose margin
// has grown although the chosen answers have become less likely.
func (m *Movement) Warning() string {
	switch {
	case m == nil:
	case max(math.Abs(m.Chosen), math.Abs(m.Rejected)) < m.Noise:
		return fmt.Sprintf("the training has moved the answers' log-probabilities by %.2g (chosen) and %.2g nats (rejected), "+
			"less than sampling does (%.2g): the learning rate may be too small", m.Chosen, m.Rejected, m.Noise)
	case m.Chosen < 0 && m.Chosen > m.Rejected:
		return fmt.Sprintf("the chosen answers have become less likely (by %.2g nats) while the margin grew to %.2g nats: "+
			"the model moves away from both sides; dpo.sft_weight holds the chosen one", -m.Chosen, m.Chosen-m.Rejected)
	}
	return ""
}
