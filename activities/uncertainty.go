package activities

import (
	"context"
	"fmt"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// reportResamples is the number of bootstrap resamples and of permutations
// that the report's intervals and tests take.
const reportResamples = 1000

// scoredTurn is a test turn with everything that one system got on it.
type scoredTurn struct {
	dialogue, turn  int
	gold, predicted int // strategies; predicted may be metrics.Unparsed
	automatic       metrics.Scores
	judged          bool // scores and clean are set
	scores          judge.Scores
	clean           bool
}

// place is where the turn stands: its dialogue and its number there.
func (t scoredTurn) place() esc.Place { return esc.Place{Dialogue: t.dialogue, Turn: t.turn} }

// scoreTurns joins a system's predictions with their automatic scores, which
// are in the same order, and with what the judge says of some of them.
func scoreTurns(predictions []results.Prediction, automatic []metrics.Scores, verdicts []results.Judged) ([]scoredTurn, error) {
	if len(predictions) != len(automatic) {
		return nil, fmt.Errorf("%d predictions but %d scores in %s: run the score stage again", len(predictions), len(automatic), results.FileScores)
	}
	byPlace := make(map[esc.Place]results.Judged, len(verdicts))
	for _, v := range verdicts {
		byPlace[v.Place] = v
	}
	turns := make([]scoredTurn, len(predictions))
	for i, p := range predictions {
		one := scoredTurn{dialogue: p.Dialogue, turn: p.Turn, automatic: automatic[i]}
		var err error
		if one.gold, one.predicted, err = p.Classes(); err != nil {
			return nil, fmt.Errorf("prediction %d: %w", i+1, err)
		}
		if v, ok := byPlace[p.Place]; ok {
			one.judged, one.scores, one.clean = v.Problem == "", v.Scores, v.Problem == "" && len(v.Findings) == 0
		}
		turns[i] = one
	}
	return turns, nil
}

// byDialogue groups each run's items by their dialogue: [run][dialogue][item],
// the same dialogues in every run, in the order of appearance. Runs are those of
// several seeds; one that has nothing of a dialogue has an empty group.
func byDialogue[T any](runs [][]T, dialogue func(T) int) [][][]T {
	index := map[int]int{}
	for _, items := range runs {
		for _, item := range items {
			if d := dialogue(item); !has(index, d) {
				index[d] = len(index)
			}
		}
	}
	grouped := make([][][]T, len(runs))
	for k, items := range runs {
		grouped[k] = make([][]T, len(index))
		for _, item := range items {
			g := index[dialogue(item)]
			grouped[k][g] = append(grouped[k][g], item)
		}
	}
	return grouped
}

func has[K comparable, V any](m map[K]V, key K) bool {
	_, ok := m[key]
	return ok
}

// mean averages what value gives for the turns that it is defined on; NaN
// where it is on none.
func mean(turns []scoredTurn, value func(scoredTurn) (v float64, ok bool)) float64 {
	sum, n := 0.0, 0
	for _, t := range turns {
		if v, ok := value(t); ok {
			sum += v
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// strategyScores are B, weighted and macro F1 of turns; NaN where no turn has
// a readable strategy.
func strategyScores(turns []scoredTurn) (bias, weighted, macro float64) {
	gold, predicted := make([]int, len(turns)), make([]int, len(turns))
	for i, t := range turns {
		gold[i], predicted[i] = t.gold, t.predicted
	}
	r, err := metrics.Strategy(gold, predicted, esc.NumStrategies)
	if err != nil || r.Pairs == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	return r.PreferenceBias, r.WeightedF1, r.MacroF1
}

// columnsOf are the columns of Table 3 on turns, by name; NaN where no turn has
// a value.
func columnsOf(turns []scoredTurn) (names []string, values []float64) {
	add := func(name string, v float64) {
		names, values = append(names, name), append(values, v)
	}
	ofScores := func(f func(metrics.Scores) float64) float64 {
		return mean(turns, func(t scoredTurn) (float64, bool) { return f(t.automatic), true })
	}
	ofJudge := func(f func(judge.Scores) float64) float64 {
		return mean(turns, func(t scoredTurn) (float64, bool) { return f(t.scores), t.judged })
	}
	add("distinct_1", ofScores(func(s metrics.Scores) float64 { return s.Distinct1 }))
	add("bleu_1", ofScores(func(s metrics.Scores) float64 { return s.Bleu1 }))
	add("f1", ofScores(func(s metrics.Scores) float64 { return s.F1 }))
	add("rouge_l", ofScores(func(s metrics.Scores) float64 { return s.RougeL }))
	add("fluency", ofJudge(func(s judge.Scores) float64 { return s.Fluency }))
	add("professionalism", ofJudge(func(s judge.Scores) float64 { return s.Professionalism }))
	add("empathy", ofJudge(func(s judge.Scores) float64 { return s.Empathy }))
	add("helpfulness", ofJudge(func(s judge.Scores) float64 { return s.Helpfulness }))
	bias, weighted, macro := strategyScores(turns)
	add("preference_bias", bias)
	add("weighted_f1", weighted)
	add("macro_f1", macro)
	return names, values
}

// intervals are the 95 % intervals of a system's columns, by bootstrap over
// dialogues and, where its turns come from several seeds' models, over these.
func intervals(ctx context.Context, runs [][]scoredTurn, seed uint64) ([]report.Interval, error) {
	names, _ := columnsOf(nil)
	found, err := metrics.BootstrapsOver(ctx, byDialogue(runs, func(t scoredTurn) int { return t.dialogue }), func(turns []scoredTurn) []float64 {
		_, values := columnsOf(turns)
		return values
	}, reportResamples, seed)
	if err != nil {
		return nil, err
	}
	out := make([]report.Interval, len(found))
	for i, f := range found {
		out[i] = report.Interval{Column: names[i], Low: f.Low, High: f.High}
	}
	return out, nil
}

// turnPair is one turn as two systems replied to it.
type turnPair struct{ system, against scoredTurn }

// pairTurns keeps the turns that both systems have; for a measure of the
// judge's, those that it saw of both.
func pairTurns(system, against []scoredTurn, ofJudge bool) []turnPair {
	byPlace := make(map[esc.Place]scoredTurn, len(against))
	for _, t := range against {
		byPlace[t.place()] = t
	}
	var pairs []turnPair
	for _, t := range system {
		other, ok := byPlace[t.place()]
		if ok && (!ofJudge || t.judged && other.judged) {
			pairs = append(pairs, turnPair{t, other})
		}
	}
	return pairs
}

// measured is the value of a measure on turns.
func measured(m report.Measure, turns []scoredTurn) float64 {
	switch m {
	case report.MeasureBias:
		bias, _, _ := strategyScores(turns)
		return bias
	case report.MeasureQuality:
		return mean(turns, func(t scoredTurn) (float64, bool) {
			s := t.scores
			return (s.Fluency + s.Professionalism + s.Empathy + s.Helpfulness) / 4, t.judged
		})
	case report.MeasureClean:
		return mean(turns, func(t scoredTurn) (float64, bool) {
			if t.clean {
				return 100, t.judged
			}
			return 0, t.judged
		})
	}
	return math.NaN()
}

// answers measures the effects of the research questions between the systems
// of a run, by name; of each, the turns by seed, in the order of seeds. A
// question none of whose systems' pairs ran is left out.
func answers(ctx context.Context, systems map[string][][]scoredTurn, seeds []uint64, seed uint64) ([]report.Question, error) {
	done := map[report.Contrast]report.Effect{}
	var out []report.Question
	for _, q := range report.ResearchQuestions() {
		any := false
		for i, e := range q.Effects {
			if _, ok := done[e.Contrast]; !ok {
				var err error
				if done[e.Contrast], err = effect(ctx, e.Contrast, systems, seeds, seed); err != nil {
					return nil, fmt.Errorf("%s: %w", q.Name, err)
				}
			}
			q.Effects[i] = done[e.Contrast]
			any = any || q.Effects[i].Difference != nil
		}
		if any {
			out = append(out, q)
		}
	}
	return out, nil
}

// effect measures one contrast; its numbers stay nil where a system is not in
// the run.
func effect(ctx context.Context, c report.Contrast, systems map[string][][]scoredTurn, seeds []uint64, seed uint64) (report.Effect, error) {
	e := report.Effect{Contrast: c}
	system, against := systems[c.System], systems[c.Against]
	if len(system) != len(seeds) || len(against) != len(seeds) {
		return e, nil
	}
	pairs := make([][]turnPair, len(seeds))
	places, dialogues := map[esc.Place]bool{}, map[int]bool{}
	for k := range seeds {
		pairs[k] = pairTurns(system[k], against[k], c.Measure != report.MeasureBias)
		for _, p := range pairs[k] {
			places[p.system.place()], dialogues[p.system.dialogue] = true, true
		}
	}
	if len(dialogues) == 0 {
		return e, nil
	}
	difference := func(pairs []turnPair) []float64 {
		a, b := make([]scoredTurn, len(pairs)), make([]scoredTurn, len(pairs))
		for i, p := range pairs {
			a[i], b[i] = p.system, p.against
		}
		return []float64{measured(c.Measure, a) - measured(c.Measure, b)}
	}
	groups := byDialogue(pairs, func(p turnPair) int { return p.system.dialogue })
	interval, err := metrics.BootstrapsOver(ctx, groups, difference, reportResamples, seed)
	if err != nil {
		return e, err
	}
	swap := func(p turnPair) turnPair { return turnPair{p.against, p.system} }
	p, err := metrics.PermutationOver(ctx, groups, swap, difference, reportResamples, seed)
	if err != nil {
		return e, err
	}
	e.Dialogues, e.Turns = len(dialogues), len(places)
	e.Low, e.High, e.P = report.Value(interval[0].Low), report.Value(interval[0].High), report.Value(p[0])
	if d := interval[0].Estimate; !math.IsNaN(d) {
		e.Difference = report.Value(d)
	}
	if len(seeds) > 1 {
		for k, of := range seeds {
			e.Seeds = append(e.Seeds, report.SeedDifference{Seed: of, Difference: report.Value(difference(pairs[k])[0])})
		}
	}
	return e, nil
}
