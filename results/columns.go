package results

import (
	"maps"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
)

// AutomaticColumns are the columns of Table 3 that a score stage fills, by name.
func AutomaticColumns(s metrics.Scores) map[string]float64 {
	return map[string]float64{"distinct_1": s.Distinct1, "bleu_1": s.Bleu1, "f1": s.F1, "rouge_l": s.RougeL}
}

// JudgedColumns are those that a judge stage fills.
func JudgedColumns(s judge.Scores) map[string]float64 {
	return map[string]float64{
		"fluency": s.Fluency, "professionalism": s.Professionalism, "empathy": s.Empathy, "helpfulness": s.Helpfulness,
	}
}

// StrategyColumns are those that a bias stage fills.
func StrategyColumns(r metrics.StrategyReport) map[string]float64 {
	return map[string]float64{"preference_bias": r.PreferenceBias, "weighted_f1": r.WeightedF1, "macro_f1": r.MacroF1}
}

// Columns are a system's columns of Table 3, by name: those that it has.
func (e Evaluation) Columns() map[string]float64 {
	columns := map[string]float64{}
	if len(e.Scores.PerSample) > 0 {
		columns = AutomaticColumns(e.Scores.Average)
	}
	if e.Verdict != nil && e.Verdict.Samples > 0 {
		maps.Copy(columns, JudgedColumns(e.Verdict.Scores))
	}
	if e.Bias != nil {
		maps.Copy(columns, StrategyColumns(*e.Bias))
	}
	return columns
}

// columnsOf are the columns of Table 3 on turns, in its order; NaN where no
// turn has a value.
func columnsOf(turns []ScoredTurn) []float64 {
	columns := map[string]float64{}
	automatic := make([]metrics.Scores, len(turns))
	judged, verdicts := judge.Scores{}, 0
	for i, t := range turns {
		automatic[i] = t.Automatic
		if t.Judged {
			verdicts++
			for k, v := range t.Scores.Fields() {
				*judged.Fields()[k] += *v
			}
		}
	}
	if len(turns) > 0 {
		columns = AutomaticColumns(metrics.Mean(automatic))
	}
	if verdicts > 0 {
		for _, v := range judged.Fields() {
			*v /= float64(verdicts)
		}
		maps.Copy(columns, JudgedColumns(judged))
	}
	if r, ok := StrategyOf(turns); ok {
		maps.Copy(columns, StrategyColumns(r))
	}
	var values []float64
	for _, c := range experiments.Table3() {
		v, ok := columns[c.Name]
		if !ok {
			v = math.NaN()
		}
		values = append(values, v)
	}
	return values
}

// classesOf are the turns' strategies, as metrics take them.
func classesOf(turns []ScoredTurn) (gold, predicted []int) {
	for _, t := range turns {
		gold, predicted = append(gold, t.Gold), append(predicted, t.Predicted)
	}
	return gold, predicted
}

// StrategyOf are the strategy metrics of turns; ok is false where no turn has a
// readable strategy.
func StrategyOf(turns []ScoredTurn) (_ metrics.StrategyReport, ok bool) {
	gold, predicted := classesOf(turns)
	r, err := metrics.Strategy(gold, predicted, esc.NumStrategies)
	return r, err == nil && r.Pairs > 0
}
