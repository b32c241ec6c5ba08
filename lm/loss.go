package lm

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
	"github.com/gomlx/gomlx/core/tensors"
)

// LossKind names a training objective.
type LossKind string

const (
	LossSFT   LossKind = "sft"   // mean negative log-probability of the batch's labelled tokens
	LossDPO   LossKind = "dpo"   // Rafailov et al. 2023, with label smoothing (Mitchell 2023)
	LossIPO   LossKind = "ipo"   // Azar et al. 2023, on log-probabilities a token, as TRL
	LossSimPO LossKind = "simpo" // Meng et al. 2024: length-normalised, without a reference
	LossKTO   LossKind = "kto"   // Ethayarajh et al. 2024: each answer by itself, KL from mismatched prompts; see ktoAnswers

	LossKTOPair LossKind = "kto_pair" // TRL's first KTO, for pairs: each half's KL in the other half's terms
)

// Loss is an objective with its parameters.
type Loss struct {
	Kind           LossKind
	Beta           float64 // of the preference losses
	LabelSmoothing float64 // of dpo: the probability that a preference is the wrong way round
	Gamma          float64 // of simpo: the target margin

	// Desirable and Undesirable weigh kto's chosen and rejected answers: λ_D and λ_U, 1 in TRL.
	Desirable   float64 `json:",omitzero"`
	Undesirable float64 `json:",omitzero"`

	// SFTWeight of the preference losses: so much of the chosen answer's mean negative log-probability a token is added
	// to its pair's loss (Pang et al. 2024; TRL's rpo_alpha, LLaMA-Factory's pref_ftx).
	SFTWeight float64 `json:",omitzero"`
}

// preference reports whether the loss takes pairs.
func (l *Loss) preference() bool { return l.Kind != LossSFT }

// reference reports whether the loss needs reference log-probabilities.
func (l *Loss) reference() bool {
	return l.Kind == LossDPO || l.Kind == LossIPO || l.kto()
}

// kto reports whether the loss has a KL over the batch.
func (l *Loss) kto() bool { return l.Kind == LossKTO || l.Kind == LossKTOPair }

func (l *Loss) check(examples []Example) error {
	switch l.Kind {
	case LossSFT, LossDPO, LossIPO, LossSimPO, LossKTO, LossKTOPair:
	default:
		return fmt.Errorf("loss %q: it must be sft, dpo, ipo, simpo, kto or kto_pair", l.Kind)
	}
	if l.Kind == LossKTO && (l.Desirable <= 0 || l.Undesirable <= 0) {
		return fmt.Errorf("loss kto has the weights %v (desirable) and %v (undesirable): both must be positive; "+
			"what was kto before it had weights is kto_pair now", l.Desirable, l.Undesirable)
	}
	if l.preference() && l.Beta <= 0 {
		return fmt.Errorf("loss %s needs a positive beta, not %v", l.Kind, l.Beta)
	}
	if l.LabelSmoothing < 0 || l.LabelSmoothing >= 0.5 || l.LabelSmoothing > 0 && l.Kind != LossDPO {
		return fmt.Errorf("label smoothing %v with loss %s: dpo takes values in [0, 0.5)", l.LabelSmoothing, l.Kind)
	}
	if l.SFTWeight < 0 || l.SFTWeight > 0 && !l.preference() {
		return fmt.Errorf("SFT weight %v with loss %s: preference losses take values from 0 on", l.SFTWeight, l.Kind)
	}
	for i := range examples {
		e := &examples[i]
		if l.preference() && len(e.Sequences) != 2 {
			return fmt.Errorf("example %d has %d sequences: loss %s takes pairs (chosen, rejected)", i, len(e.Sequences), l.Kind)
		}
		if !l.preference() && len(e.Sequences) != 1 {
			return fmt.Errorf("example %d has %d sequences: loss sft takes one", i, len(e.Sequences))
		}
		if l.reference() && e.Reference == nil {
			return fmt.Errorf("example %d has no reference log-probabilities, which loss %s needs: compute them with LogProbs", i, l.Kind)
		}
	}
	return nil
}

// packedNodes is a packed micro-batch in the graph.
type packedNodes struct {
	tokens, positions, enter, exit                *Node // [B, N]
	sources, edgeSource, edgeTarget, edgeSequence *Node // [U], [E], [E], [E]
	edgeWeight                                    *Node // [E]
}

// packedInputs is the number of tensors of a packed micro-batch: each is an upload that a device waits for.
const packedInputs = 4

// tensors are tokens, positions, enter and exit [4, B, N], sources [U], the edges' sources, targets and sequences
// [3, E], and their weights [E].
func (p *packed) tensors() []*tensors.Tensor {
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(slices.Concat(p.tokens, p.positions, p.enter, p.exit), 4, p.rows, p.length),
		tensors.FromFlatDataAndDimensions(p.sources, len(p.sources)),
		tensors.FromFlatDataAndDimensions(slices.Concat(p.edgeSource, p.edgeTarget, p.edgeSequence), 3, len(p.edgeSource)),
		tensors.FromFlatDataAndDimensions(p.edgeWeight, len(p.edgeWeight))}
}

func packedOf(n []*Node) packedNodes {
	part := func(x *Node, i int) *Node { return Squeeze(SliceAxis(x, 0, AxisElem(i)), 0) }
	return packedNodes{part(n[0], 0), part(n[0], 1), part(n[0], 2), part(n[0], 3), n[1],
		part(n[2], 0), part(n[2], 1), part(n[2], 2), n[3]}
}

// sequenceSums adds values [E] up by sequence: [S]. As a product with a 0-1 matrix rather than a scatter, so that
// the order of summation is fixed on every engine.
func sequenceSums(b packedNodes, values *Node, sequences int) *Node {
	g := values.Graph()
	e := values.Shape().Dimensions[0]
	belongs := Equal(InsertAxes(b.edgeSequence, 0), Iota(g, shapes.Make(dtypes.Int32, sequences, e), 0)) // [S, E]
	return DotGeneral(ConvertDType(belongs, dtypes.Float32), []int{1}, nil, values, []int{0}, nil)
}

// sftLoss is the micro-batch's share of the batch's mean: the weighted sum of negative log-probabilities times
// scale, 1 / the batch's total weight.
func sftLoss(b packedNodes, logProbs, scale *Node) *Node {
	return Neg(Mul(ReduceAllSum(Mul(logProbs, b.edgeWeight)), scale))
}

// preferenceLoss is the micro-batch's share of the mean over pairs, and the log-probability of each sequence [S].
// Sequences 2p and 2p+1 are chosen and rejected of pair p. reference is [S]; present is [S/2], scale = 1 / the
// batch's number of pairs where the pair is there and 0 where it is padding. kl is kto's and kto_pair's [2], nil for other losses.
func preferenceLoss(l Loss, b packedNodes, logProbs, reference, present, kl *Node) (loss, sums *Node) {
	s := reference.Shape().Dimensions[0]
	sums = sequenceSums(b, Mul(logProbs, b.edgeWeight), s)
	score := sums
	if l.reference() {
		score = Sub(score, reference)
	}
	perToken := func(x *Node) *Node { return Div(x, MaxScalar(sequenceSums(b, b.edgeWeight, s), 1e-6)) }
	if l.Kind == LossIPO || l.Kind == LossSimPO {
		score = perToken(score)
	}
	pairs := Reshape(score, s/2, 2)
	margin := Squeeze(Sub(SliceAxis(pairs, 1, AxisElem(0)), SliceAxis(pairs, 1, AxisElem(1))), 1) // [S/2]
	var each *Node
	switch l.Kind {
	case LossIPO:
		each = Square(SubScalar(margin, 1/(2*l.Beta)))
	case LossKTO, LossKTOPair:
		each = ktoAnswers(l, pairs, kl)
	case LossSimPO:
		each = softplus(Neg(SubScalar(MulScalar(margin, l.Beta), l.Gamma)))
	default:
		x := MulScalar(margin, l.Beta)
		each = softplus(Neg(x))
		if l.LabelSmoothing > 0 {
			each = Add(MulScalar(each, 1-l.LabelSmoothing), MulScalar(softplus(x), l.LabelSmoothing))
		}
	}
	if l.SFTWeight > 0 {
		chosen := Squeeze(SliceAxis(Reshape(perToken(sums), s/2, 2), 1, AxisElem(0)), 1) // [S/2]
		each = Sub(each, MulScalar(chosen, l.SFTWeight))
	}
	return ReduceAllSum(Mul(each, present)), sums
}

// softplus is log(1 + exp(x)) = -log sigmoid(-x), stable on both sides. Its gradient, sigmoid(x), is given by hand:
// derived piecewise it would be wrong at 0, where every policy that starts at its reference is.
func softplus(x *Node) *Node {
	value := Add(MaxScalar(x, 0), Log1p(Exp(Neg(Abs(x)))))
	slope := StopGradient(Logistic(x))
	return Add(StopGradient(value), Mul(slope, Sub(x, StopGradient(x))))
}

// PreferenceMetrics are means over a batch's pairs (rewards as in TRL: beta times the log-ratio to the reference).
type PreferenceMetrics struct {
	ChosenReward, RejectedReward   float64
	Accuracy                       float64  // share of pairs whose chosen reward is the larger
	Margin                         float64  // chosen minus rejected reward
	ChosenLogProb, RejectedLogProb float64  // sums over answers' tokens
	KL                             *BatchKL // kto's and kto_pair's reference point; nil for other losses
}

// add counts one pair in: its log-probabilities and its reference's.
func (m *PreferenceMetrics) add(l Loss, chosen, rejected float64, e *Example) {
	rc, rr := chosen, rejected
	if l.reference() {
		rc, rr = rc-e.Reference[0], rr-e.Reference[1]
	}
	rc, rr = l.Beta*rc, l.Beta*rr
	m.ChosenReward += rc
	m.RejectedReward += rr
	m.Margin += rc - rr
	m.ChosenLogProb += chosen
	m.RejectedLogProb += rejected
	if rc > rr {
		m.Accuracy++
	}
}

// addKL counts a batch's KL in, weighted by its share of the pairs.
func (m *PreferenceMetrics) addKL(l Loss, kl BatchKL, share float64) {
	if !l.kto() {
		return
	}
	if m.KL == nil {
		m.KL = &BatchKL{}
	}
	m.KL.Chosen += share * kl.Chosen
	m.KL.Rejected += share * kl.Rejected
}

// mean divides the sums by the number of pairs.
func (m *PreferenceMetrics) mean(pairs int) {
	for _, v := range []*float64{&m.ChosenReward, &m.RejectedReward, &m.Accuracy, &m.Margin, &m.ChosenLogProb, &m.RejectedLogProb} {
		*v /= float64(pairs)
	}
}

// finite reports whether a number is neither NaN nor infinite.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
