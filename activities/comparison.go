package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// EvaluationStages names the stages of one system of a run, by fingerprint.
type EvaluationStages struct {
	Corpus, Generate, Score, Bias string
	Judge                         string // "" where nothing was judged
}

// Evaluation is what one system got on each test turn. Where the system has
// several seeds' models, it holds one after the other's.
type Evaluation struct {
	turns [][]scoredTurn // by seed
	test  string         // digest of the test split
	judge string         // who judged
	// Metrics are those of the stages, the mean over the seeds.
	Metrics map[string]float64
}

// ReadEvaluation reads a system's finished stages, of one seed or of several.
// An error that wraps artifacts.ErrNotFound means that one is not done.
func ReadEvaluation(ctx context.Context, store *artifacts.Store, seeds []EvaluationStages) (Evaluation, error) {
	e := Evaluation{Metrics: map[string]float64{}}
	for _, of := range seeds {
		corpus, err := store.Lookup(ctx, of.Corpus)
		if err != nil {
			return e, fmt.Errorf("corpus: %w", err)
		}
		test, err := corpus.File(results.FileTest)
		if err != nil {
			return e, err
		}
		if e.test != "" && e.test != test.SHA256 {
			return e, errors.New("the seeds have different test splits")
		}
		e.test = test.SHA256
		turns, judge, err := readTurns(ctx, store, of)
		if err != nil {
			return e, err
		}
		e.turns, e.judge = append(e.turns, turns), judge
		for _, stage := range []string{of.Score, of.Bias, of.Judge} {
			if stage == "" {
				continue
			}
			m, err := store.Lookup(ctx, stage)
			if err != nil {
				return e, err
			}
			for name, v := range m.Metrics {
				e.Metrics[name] += v / float64(len(seeds))
			}
		}
	}
	return e, nil
}

func readTurns(ctx context.Context, store *artifacts.Store, of EvaluationStages) ([]scoredTurn, string, error) {
	predictions, err := results.ReadPredictions(ctx, store, of.Generate)
	if err != nil {
		return nil, "", fmt.Errorf("predictions: %w", err)
	}
	raw, err := results.ReadFile(ctx, store, of.Score, results.FileScores)
	if err != nil {
		return nil, "", fmt.Errorf("scores: %w", err)
	}
	var scores metrics.AutomaticReport
	if err := json.Unmarshal(raw, &scores); err != nil {
		return nil, "", fmt.Errorf("%s: %w", results.FileScores, err)
	}
	var verdicts []results.Judged
	var sum results.Verdict
	if of.Judge != "" {
		if raw, err = results.ReadFile(ctx, store, of.Judge, results.FileJudged); err != nil {
			return nil, "", fmt.Errorf("judge: %w", err)
		}
		if verdicts, err = results.DecodeRows[results.Judged](raw); err != nil {
			return nil, "", fmt.Errorf("%s: %w", results.FileJudged, err)
		}
		if raw, err = results.ReadFile(ctx, store, of.Judge, results.FileVerdict); err != nil {
			return nil, "", fmt.Errorf("judge: %w", err)
		}
		if err := json.Unmarshal(raw, &sum); err != nil {
			return nil, "", fmt.Errorf("%s: %w", results.FileVerdict, err)
		}
	}
	turns, err := scoreTurns(predictions, scores.PerSample, verdicts)
	return turns, sum.Judge, err
}

// Intervals are the 95 % intervals of Table 3's columns, as in the report.
func (e Evaluation) Intervals(ctx context.Context, seed uint64) ([]report.Interval, error) {
	return intervals(ctx, e.turns, seed)
}

// ErrOtherTest is returned by Paired for systems that replied to other turns.
var ErrOtherTest = errors.New("the runs have different test splits")

// Difference is of one column of Table 3, with its 95 % interval and two-sided
// p-value.
type Difference struct {
	Column              string
	Value, Low, High, P float64
}

// Differences are those of two systems on the turns that both replied to.
type Differences struct {
	Columns          []Difference // those that both have
	Turns, Dialogues int
}

// Paired measures how a system differs from another on the same test split,
// column by column: a paired bootstrap and a permutation test over dialogues.
// Columns of the judge need the same judge. Systems of as many seeds are
// paired seed by seed, in their order.
func Paired(ctx context.Context, a, b Evaluation, seed uint64) (Differences, error) {
	var out Differences
	if a.test != b.test {
		return out, ErrOtherTest
	}
	if len(a.turns) != len(b.turns) {
		return out, fmt.Errorf("one has %d seeds, the other %d", len(a.turns), len(b.turns))
	}
	places, dialogues := map[esc.Place]bool{}, map[int]bool{}
	pairs := make([][]turnPair, len(a.turns))
	for k := range a.turns {
		pairs[k] = pairTurns(a.turns[k], b.turns[k], false)
		for i := range pairs[k] {
			p := &pairs[k][i]
			places[p.system.place()], dialogues[p.system.dialogue] = true, true
			both := p.system.judged && p.against.judged && a.judge == b.judge
			p.system.judged, p.against.judged = both, both
		}
	}
	out.Turns, out.Dialogues = len(places), len(dialogues)
	if out.Turns == 0 {
		return out, errors.New("they have no test turn in common: compare runs with the same generation.max_turns and seed")
	}
	difference := func(pairs []turnPair) []float64 {
		x, y := make([]scoredTurn, len(pairs)), make([]scoredTurn, len(pairs))
		for i, p := range pairs {
			x[i], y[i] = p.system, p.against
		}
		_, of := columnsOf(x)
		_, and := columnsOf(y)
		for i := range of {
			of[i] -= and[i]
		}
		return of
	}
	groups := byDialogue(pairs, func(p turnPair) int { return p.system.dialogue })
	found, err := metrics.BootstrapsOver(ctx, groups, difference, reportResamples, seed)
	if err != nil {
		return out, err
	}
	swap := func(p turnPair) turnPair { return turnPair{p.against, p.system} }
	p, err := metrics.PermutationOver(ctx, groups, swap, difference, reportResamples, seed)
	if err != nil {
		return out, err
	}
	names, _ := columnsOf(nil)
	for i, f := range found {
		if math.IsNaN(f.Estimate) || math.IsNaN(f.Low) || math.IsNaN(p[i]) {
			continue
		}
		out.Columns = append(out.Columns, Difference{Column: names[i], Value: f.Estimate, Low: f.Low, High: f.High, P: p[i]})
	}
	return out, nil
}
