// Package metrics scores predicted supporter turns: word overlap with the
// gold response (distinct-n, BLEU-n, unigram F1, ROUGE-L), strategy accuracy
// (weighted and macro F1) and strategy preference bias.
//
// Every number equals that of the paper's own evaluation code (NLTK 3.8 word
// tokenization of the lower-cased text, NLTK's BLEU with smoothing method 3,
// scikit-learn's F1, the iteration of equations 7 and 8) wherever that code
// returns one.
package metrics

import "errors"

// Sample is one response and the gold response it is compared with.
type Sample struct {
	Gold     string
	Response string
}

// Scores are the automatic metrics, in percent except Length (words).
type Scores struct {
	Length    float64 `json:"length"`
	Distinct1 float64 `json:"distinct_1"`
	Distinct2 float64 `json:"distinct_2"`
	Distinct3 float64 `json:"distinct_3"`
	Bleu1     float64 `json:"bleu_1"`
	Bleu2     float64 `json:"bleu_2"`
	Bleu3     float64 `json:"bleu_3"`
	Bleu4     float64 `json:"bleu_4"`
	F1        float64 `json:"f1"`
	RougeL    float64 `json:"rouge_l"`
}

// AutomaticReport holds the automatic metrics of a set of samples.
type AutomaticReport struct {
	Samples int `json:"samples"`
	// Average is the mean of the samples' own scores: what the paper reports.
	Average Scores `json:"average"`
	// Corpus takes all samples together: distinct-n over all responses and
	// corpus BLEU; F1 and ROUGE-L are means either way.
	Corpus Scores `json:"corpus"`
	// PerSample has one entry per sample, in order.
	PerSample []Scores `json:"per_sample,omitempty"`
}

// ErrNoSamples is returned where there is nothing to score.
var ErrNoSamples = errors.New("metrics: no samples to score")

// Automatic scores the samples. An empty response or gold response scores 0
// on all metrics that compare the two.
func Automatic(tok *Tokenizer, samples []Sample) (AutomaticReport, error) {
	if len(samples) == 0 {
		return AutomaticReport{}, ErrNoSamples
	}
	report := AutomaticReport{Samples: len(samples), PerSample: make([]Scores, len(samples))}
	corpus := newNgrams()
	for i, s := range samples {
		gold, words := tok.words(s)
		one := newNgrams()
		one.add(gold, words)
		corpus.add(gold, words)
		report.PerSample[i] = one.scores()
	}
	report.Average = Mean(report.PerSample)
	report.Corpus = corpus.scores()
	return report, nil
}

// words are those of the gold response and of the response.
func (t *Tokenizer) words(s Sample) (gold, response []string) {
	return t.WordTokenize(lower(s.Gold)), t.WordTokenize(lower(s.Response))
}

// Mean averages scores field by field; the mean of none is zero.
func Mean(all []Scores) Scores {
	var sum Scores
	if len(all) == 0 {
		return sum
	}
	for _, one := range all {
		sum.add(one)
	}
	return sum.over(len(all))
}

func (s *Scores) add(one Scores) {
	ones := one.fields()
	for f, v := range s.fields() {
		*v += *ones[f]
	}
}

// over divides a sum by the number of what it sums.
func (s Scores) over(n int) Scores {
	for _, v := range s.fields() {
		*v /= float64(n)
	}
	return s
}

func (s *Scores) fields() [10]*float64 {
	return [10]*float64{&s.Length, &s.Distinct1, &s.Distinct2, &s.Distinct3,
		&s.Bleu1, &s.Bleu2, &s.Bleu3, &s.Bleu4, &s.F1, &s.RougeL}
}

// Prediction is one predicted supporter turn.
type Prediction struct {
	// Dialogue and Turn say where the turn stands; predictions of one dialogue
	// are resampled together. Both may be zero.
	Dialogue string
	Turn     int
	// GoldStrategy and Strategy are class indices; Strategy is Unparsed where
	// the model's output names no strategy.
	GoldStrategy int
	Strategy     int
	GoldResponse string
	Response     string
}

// Report is what a Scorer has computed.
type Report struct {
	Samples int `json:"samples"`
	// Average is the mean of the samples' own scores.
	Average  Scores         `json:"average"`
	Strategy StrategyReport `json:"strategy"`
	// CountingAll has Unparsed predictions as wrong ones.
	CountingAll StrategyNumbers `json:"counting_all"`
}

// Scorer computes the automatic and the strategy metrics of predictions that it is
// given one by one; what it keeps does not grow with their number.
//
// A prediction whose strategy is Unparsed counts in the automatic metrics by its
// response, and is left out of the strategy metrics, as in the paper's code;
// StrategyReport.Dropped counts them, CountingAll has them as wrong.
type Scorer struct {
	tok        *Tokenizer
	sum        Scores
	strategies tally
}

// NewScorer scores predictions over the given number of strategies.
func NewScorer(tok *Tokenizer, classes int) (*Scorer, error) {
	strategies, err := newTally(classes)
	return &Scorer{tok: tok, strategies: strategies}, err
}

// Add takes one prediction.
func (s *Scorer) Add(p Prediction) error {
	if err := s.strategies.add(p.GoldStrategy, p.Strategy); err != nil {
		return err
	}
	one := newNgrams()
	one.add(s.tok.words(Sample{Gold: p.GoldResponse, Response: p.Response}))
	s.sum.add(one.scores())
	return nil
}

// Report gives the scores of the predictions so far.
func (s *Scorer) Report() (Report, error) {
	strategy := s.strategies.report()
	n := strategy.Pairs + strategy.Dropped
	if n == 0 {
		return Report{}, ErrNoSamples
	}
	return Report{Samples: n, Average: s.sum.over(n), Strategy: strategy, CountingAll: s.strategies.countingAll()}, nil
}
