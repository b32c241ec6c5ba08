package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// systems reads every row of Table 3, and sample replies.
func (r *reporter) systems(ctx context.Context) error {
	for _, turn := range drawTurns(r.test, reportSamples, r.params.Seed) {
		r.data.Samples = append(r.data.Samples, report.Sample{
			Dialogue: turn.Dialogue, Turn: turn.Index, Context: turn.Context, Strategy: turn.Strategy, Response: turn.Response,
		})
	}
	all := map[string][][]scoredTurn{}
	for _, system := range r.params.Systems() {
		if system.Paradigm == experiments.Gold {
			continue // Table 4
		}
		row := r.row(system)
		scored, err := r.system(ctx, &row)
		if err == nil {
			row.Intervals, err = intervals(ctx, scored, r.params.Seed)
		}
		if err != nil {
			return fmt.Errorf("system %s: %w", row.System(), err)
		}
		if len(r.data.Systems) == 0 {
			r.gold(scored)
		}
		all[row.System()] = scored
		r.data.Systems = append(r.data.Systems, row)
	}
	var err error
	r.data.Questions, err = answers(ctx, all, r.seeds, r.params.Seed)
	return err
}

// row is a system's, empty yet.
func (r *reporter) row(system experiments.System) report.Row {
	row := report.Row{Backbone: r.params.Backbone, Paradigm: system.Paradigm, Method: system.Method}
	if system.PairSet != experiments.PairsAll {
		row.Pairs = system.PairSet
	}
	return row
}

// gold counts the gold strategies of the turns that were replied to.
func (r *reporter) gold(scored [][]scoredTurn) {
	for _, turns := range scored {
		for _, turn := range turns {
			r.data.GoldStrategies[turn.gold]++
			r.data.GoldPhases[r.phases[turn.place()]][turn.gold]++
		}
	}
}

// system reads one system's evaluation under every seed into its row, and gives
// what each turn got, by seed.
func (r *reporter) system(ctx context.Context, row *report.Row) ([][]scoredTurn, error) {
	var scored [][]scoredTurn
	var columns []report.Columns
	var preference [][]float64
	for i, seed := range r.seeds {
		one, err := r.evaluation(ctx, row.System(), seed)
		if err != nil {
			return nil, err
		}
		columns = append(columns, one.columns())
		if one.bias != nil {
			preference = append(preference, one.bias.Preference)
			if note := esc.NameStrategies(one.bias.Note); note != "" && row.BiasNote == "" {
				row.BiasNote = note
				if len(r.seeds) > 1 {
					row.BiasNote = fmt.Sprintf("seed %d: %s", seed, note)
				}
			}
		}
		r.count(row, one)
		if i == 0 {
			r.samples(row.System(), one)
		}
		turns, err := scoreTurns(one.predictions, one.scores.PerSample, one.judged)
		if err != nil {
			return nil, err
		}
		scored = append(scored, turns)
	}
	row.Columns = report.MeanColumns(columns)
	if len(r.seeds) > 1 {
		for i, seed := range r.seeds {
			row.Seeds = append(row.Seeds, report.SeedColumns{Seed: seed, Columns: columns[i]})
		}
	}
	if len(preference) == len(r.seeds) {
		row.Preference = make([]float64, esc.NumStrategies)
		for _, p := range preference {
			for s, v := range p {
				row.Preference[s] += v / float64(len(preference))
			}
		}
	}
	return scored, nil
}

// evaluation is what the stages after a generation say of one seed's system.
type evaluation struct {
	predictions []results.Prediction
	scores      metrics.AutomaticReport
	verdict     results.Verdict
	judged      []results.Judged
	bias        *metrics.StrategyReport // nil: the strategies are not the system's own
}

func (r *reporter) evaluation(ctx context.Context, system string, seed uint64) (evaluation, error) {
	var e evaluation
	read := func(kind experiments.Kind, file string) (string, error) {
		name, _ := r.at(string(kind)+"/"+system, seed)
		dir, err := r.input(ctx, name)
		return filepath.Join(dir, file), err
	}
	rows := func(kind experiments.Kind, file string) ([]byte, error) {
		path, err := read(kind, file)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}
	document := func(kind experiments.Kind, file string, into any) error {
		path, err := read(kind, file)
		if err != nil {
			return err
		}
		return readJSON(path, into)
	}
	if err := errors.Join(
		document(experiments.KindScore, results.FileScores, &e.scores),
		document(experiments.KindJudge, results.FileVerdict, &e.verdict),
	); err != nil {
		return e, err
	}
	if _, ok := r.at(string(experiments.KindBias)+"/"+system, seed); ok {
		e.bias = &metrics.StrategyReport{}
		if err := document(experiments.KindBias, results.FileBias, e.bias); err != nil {
			return e, err
		}
	}
	raw, err := rows(experiments.KindGenerate, results.FilePredictions)
	if err != nil {
		return e, err
	}
	if e.predictions, err = results.DecodeRows[results.Prediction](raw); err != nil {
		return e, fmt.Errorf("%s: %w", results.FilePredictions, err)
	}
	if raw, err = rows(experiments.KindJudge, results.FileJudged); err != nil {
		return e, err
	}
	if e.judged, err = results.DecodeRows[results.Judged](raw); err != nil {
		return e, fmt.Errorf("%s: %w", results.FileJudged, err)
	}
	return e, nil
}

// columns are Table 3's.
func (e evaluation) columns() report.Columns {
	automatic, judged := e.scores.Average, e.verdict.Scores
	c := report.Columns{
		Distinct1: report.Value(automatic.Distinct1), Bleu1: report.Value(automatic.Bleu1),
		F1: report.Value(automatic.F1), RougeL: report.Value(automatic.RougeL),
		Fluency: report.Value(judged.Fluency), Professionalism: report.Value(judged.Professionalism),
		Empathy: report.Value(judged.Empathy), Helpfulness: report.Value(judged.Helpfulness),
	}
	if e.bias != nil {
		c.PreferenceBias, c.WeightedF1, c.MacroF1 = report.Value(e.bias.PreferenceBias), report.Value(e.bias.WeightedF1), report.Value(e.bias.MacroF1)
	}
	return c
}

// count adds one seed's strategies and errors to a system's.
func (r *reporter) count(row *report.Row, e evaluation) {
	r.data.Run.Judge = report.Judge{Name: e.verdict.Judge, Offline: e.verdict.Judge == judge.OfflineName, Samples: e.verdict.Samples}
	row.Turns += len(e.predictions)
	for _, p := range e.predictions {
		if s, err := esc.ParseStrategy(p.Strategy); err == nil {
			row.Strategies[s]++
			row.Phases[r.phases[esc.Place{Dialogue: p.Dialogue, Turn: p.Turn}]][s]++
		} else {
			row.Unparsed++
		}
	}
	if row.Errors == nil {
		row.Errors = &report.Errors{}
	}
	for _, one := range e.judged {
		if one.Problem != "" {
			continue
		}
		row.Errors.Judged++
		if len(one.Findings) == 0 {
			row.Errors.Clean++
			continue
		}
		row.Errors.Clearest[one.Findings[0].Error]++
		for _, found := range (judge.Verdict{Findings: one.Findings}).Errors() {
			row.Errors.Classes[found]++
		}
	}
}

// samples adds a system's replies to the sample turns.
func (r *reporter) samples(system string, e evaluation) {
	labels := make(map[esc.Place]results.Judged, len(e.judged))
	for _, one := range e.judged {
		labels[one.Place] = one
	}
	for _, p := range e.predictions {
		for i := range r.data.Samples {
			sample := &r.data.Samples[i]
			if sample.Dialogue != p.Dialogue || sample.Turn != p.Turn {
				continue
			}
			reply := report.Reply{System: system, Strategy: esc.NoStrategy, Response: p.Response}
			if s, err := esc.ParseStrategy(p.Strategy); err == nil {
				reply.Strategy = s
			}
			if one, ok := labels[p.Place]; ok {
				reply.Judged = one.Problem == ""
				reply.Errors = judge.Verdict{Findings: one.Findings}.Errors()
			}
			sample.Replies = append(sample.Replies, reply)
		}
	}
}
