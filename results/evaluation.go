package results

import (
	"context"
	"errors"
	"fmt"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/metrics"
)

// Evaluation is what the stages after a generation say of one system's one
// seed.
type Evaluation struct {
	Predictions []Prediction
	Scores      metrics.AutomaticReport // without a sample: nothing was scored
	Bias        *metrics.StrategyReport // nil: the strategies are not the system's own
	Verdict     *Verdict                // nil: nothing was judged
	Judged      []Judged
}

// ReadEvaluation reads an evaluation from the artifacts of its stages, which
// open gives by their kind: that of generate and, unless it gives nil, those of
// score, judge and bias.
func ReadEvaluation(open func(experiments.Kind) (Files, error)) (Evaluation, error) {
	var e Evaluation
	for _, of := range []struct {
		kind experiments.Kind
		read func(Files) error
	}{
		{experiments.KindGenerate, func(from Files) (err error) {
			e.Predictions, err = ReadRows[Prediction](from, FilePredictions)
			return err
		}},
		{experiments.KindScore, func(from Files) error { return ReadJSON(from, FileScores, &e.Scores) }},
		{experiments.KindJudge, func(from Files) (err error) {
			e.Verdict = &Verdict{}
			if e.Judged, err = ReadRows[Judged](from, FileJudged); err != nil {
				return err
			}
			return ReadJSON(from, FileVerdict, e.Verdict)
		}},
		{experiments.KindBias, func(from Files) error {
			e.Bias = &metrics.StrategyReport{}
			return ReadJSON(from, FileBias, e.Bias)
		}},
	} {
		from, err := open(of.kind)
		if err == nil && from != nil {
			err = of.read(from)
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", of.kind, err)
		}
	}
	return e, nil
}

// EvaluationStages names the stages of one seed of a system, by fingerprint.
type EvaluationStages struct {
	Corpus, Generate, Score string
	Judge, Bias             string // "": there is none
}

// System is what one system got on each test turn, under one seed or several.
type System struct {
	Turns [][]ScoredTurn // by seed
	Test  string         // digest of the test split
	Judge string         // who judged; "": nobody
	// Metrics are those of the stages, the mean over the seeds.
	Metrics map[string]float64
}

// ReadSystem reads a system's finished stages. An error that wraps
// artifacts.ErrNotFound means that one is not done.
func ReadSystem(ctx context.Context, store *artifacts.Store, seeds []EvaluationStages) (System, error) {
	s := System{Metrics: map[string]float64{}}
	for _, of := range seeds {
		corpus, err := Open(ctx, store, of.Corpus)
		if err != nil {
			return s, fmt.Errorf("corpus: %w", err)
		}
		test, err := corpus.File(FileTest)
		if err != nil {
			return s, err
		}
		if s.Test != "" && s.Test != test.SHA256 {
			return s, errors.New("the seeds have different test splits")
		}
		s.Test = test.SHA256
		fingerprints := map[experiments.Kind]string{
			experiments.KindGenerate: of.Generate, experiments.KindScore: of.Score,
			experiments.KindJudge: of.Judge, experiments.KindBias: of.Bias,
		}
		e, err := ReadEvaluation(func(kind experiments.Kind) (Files, error) {
			fingerprint := fingerprints[kind]
			if fingerprint == "" && (kind == experiments.KindJudge || kind == experiments.KindBias) {
				return nil, nil
			}
			a, err := Open(ctx, store, fingerprint)
			if err != nil {
				return nil, err
			}
			if kind != experiments.KindGenerate {
				for name, v := range a.Metrics {
					s.Metrics[name] += v / float64(len(seeds))
				}
			}
			return a, nil
		})
		if err != nil {
			return s, err
		}
		turns, err := e.Turns()
		if err != nil {
			return s, err
		}
		s.Turns = append(s.Turns, turns)
		if e.Verdict != nil {
			s.Judge = e.Verdict.Judge
		}
	}
	return s, nil
}

// ErrOtherTest is returned by Paired for systems that replied to other turns.
var ErrOtherTest = errors.New("the runs have different test splits")

// Paired measures how a system differs from another on the same test split,
// column by column of Table 3, in its order. Columns of the judge need the same
// judge; a column that one of the two lacks is not Defined. Systems of as many
// seeds are paired seed by seed, in their order.
func Paired(ctx context.Context, a, b System, seed uint64) (Differences, error) {
	if a.Test != b.Test {
		return Differences{}, ErrOtherTest
	}
	if len(a.Turns) != len(b.Turns) {
		return Differences{}, fmt.Errorf("one has %d seeds, the other %d", len(a.Turns), len(b.Turns))
	}
	pairs := make([][]TurnPair, len(a.Turns))
	for k := range a.Turns {
		pairs[k] = PairTurns(a.Turns[k], b.Turns[k])
		for i := range pairs[k] {
			p := &pairs[k][i]
			both := p.System.Judged && p.Against.Judged && a.Judge == b.Judge
			p.System.Judged, p.Against.Judged = both, both
		}
	}
	out, err := Differ(ctx, pairs, columnsOf, seed)
	if err == nil && out.Turns == 0 {
		err = errors.New("they have no test turn in common: compare runs with the same generation.max_turns and seed")
	}
	return out, err
}
