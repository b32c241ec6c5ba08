package activities

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
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
	all := map[string][][]results.ScoredTurn{}
	for _, system := range r.shown {
		if system.Paradigm == experiments.Gold {
			continue // Table 4
		}
		row := r.row(system)
		scored, err := r.system(ctx, &row)
		if err == nil {
			row.Intervals, err = r.intervals(ctx, scored)
		}
		if err == nil {
			err = r.curve(ctx, &row)
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
	for _, method := range experiments.Anchors() {
		row := report.Row{Paradigm: experiments.Anchor, Method: method}
		if _, ok := r.at(row.System(), r.seeds[0]); !ok {
			continue // a run that was planned before there were anchors
		}
		scored, err := r.system(ctx, &row)
		if err == nil {
			row.Intervals, err = r.intervals(ctx, scored)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.System(), err)
		}
		row.Intervals = row.Shown()
		all[row.System()] = scored
		r.data.Anchors = append(r.data.Anchors, row)
	}
	var err error
	if r.data.Headline, err = effects(ctx, report.Headline(slices.Collect(maps.Keys(all))), all, r.seeds, r.params.Seed); err != nil {
		return err
	}
	if r.data.Checks, err = effects(ctx, report.JudgeChecks(), all, r.seeds, r.params.Seed); err != nil {
		return err
	}
	r.data.Questions, err = answers(ctx, all, r.seeds, r.params.Seed)
	return err
}

// otherJudges reads what the judges of judge.also say.
func (r *reporter) otherJudges(ctx context.Context) error {
	for _, name := range r.params.AlsoJudged {
		other, err := r.otherJudge(ctx, name)
		if err == nil {
			other.Quality, err = r.qualityBy(ctx, name)
		}
		if err == nil {
			other.Wins, err = r.winsBy(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("judge %s: %w", name, err)
		}
		r.data.OtherJudges = append(r.data.OtherJudges, other)
	}
	return nil
}

// otherJudge reads what a judge of judge.also says of the systems' and the anchors' replies.
func (r *reporter) otherJudge(ctx context.Context, name string) (report.OtherJudge, error) {
	j := report.OtherJudge{Name: name}
	all := map[string][][]results.ScoredTurn{}
	for _, row := range slices.Concat(r.data.Systems, r.data.Given, r.data.Anchors) {
		system := row.System()
		if row.Errors == nil {
			continue // it writes nothing that could be judged
		}
		quality, clean := 0.0, 0.0
		for _, seed := range r.seeds {
			one, err := r.evaluation(ctx, system, seed, name)
			if err != nil {
				return j, fmt.Errorf("%s: %w", system, err)
			}
			turns, err := one.Turns()
			if err != nil {
				return j, fmt.Errorf("%s: %w", system, err)
			}
			j.Judge = judgeOf(one.Verdict)
			quality += measured(report.MeasureQuality, turns) / float64(len(r.seeds))
			clean += measured(report.MeasureClean, turns) / float64(len(r.seeds))
			all[system] = append(all[system], turns)
		}
		j.Rows = append(j.Rows, report.JudgedRow{System: system, Quality: report.Value(quality), Clean: report.Value(clean)})
	}
	var err error
	if j.Checks, err = effects(ctx, report.JudgeChecks(), all, r.seeds, r.params.Seed); err == nil {
		j.Questions, err = answers(ctx, all, r.seeds, r.params.Seed)
	}
	return j, err
}

// row is a system's, empty yet.
func (r *reporter) row(system experiments.System) report.Row {
	row := report.Row{Backbone: r.params.Backbone, Paradigm: system.Paradigm, Method: system.Method}
	if system.PairSet != esc.PairsAll {
		row.Pairs = system.PairSet
	}
	return row
}

// gold counts the gold strategies of the turns that were replied to.
func (r *reporter) gold(scored [][]results.ScoredTurn) {
	for _, turns := range scored {
		for _, turn := range turns {
			r.data.GoldStrategies[turn.Gold]++
			r.data.GoldPhases[r.phases[turn.Place]][turn.Gold]++
		}
	}
}

// system reads one system's evaluation under every seed into its row, and gives
// what each turn got, by seed.
func (r *reporter) system(ctx context.Context, row *report.Row) ([][]results.ScoredTurn, error) {
	var scored [][]results.ScoredTurn
	var columns []report.Columns
	var preference [][]float64
	for i, seed := range r.seeds {
		one, err := r.evaluation(ctx, row.System(), seed, "")
		if err != nil {
			return nil, err
		}
		columns = append(columns, report.ColumnsOf(one.Columns()))
		if one.Bias != nil {
			preference = append(preference, one.Bias.Preference)
			if note := esc.NameStrategies(one.Bias.Note); note != "" && row.BiasNote == "" {
				row.BiasNote = note
				if len(r.seeds) > 1 {
					row.BiasNote = fmt.Sprintf("seed %d: %s", seed, note)
				}
			}
		}
		r.count(row, one)
		if i == 0 && row.Paradigm != experiments.Anchor {
			r.samples(row.System(), one)
		}
		turns, err := one.Turns()
		if err != nil {
			return nil, err
		}
		scored = append(scored, turns)
	}
	row.Columns = report.MeanColumns(columns)
	if len(preference) > 0 { // the strategies are its own
		if err := r.chosen(ctx, row, scored); err != nil {
			return nil, err
		}
	}
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

// chosen measures what a system's strategy metrics rest on.
func (r *reporter) chosen(ctx context.Context, row *report.Row, scored [][]results.ScoredTurn) error {
	c, ok, err := results.ChosenOf(ctx, scored, r.params.Seed)
	if ok {
		row.Chosen = &report.Chosen{Accuracy: c.Accuracy, Floor: c.Floor, FloorHigh: c.FloorHigh, All: report.StrategyNumbers(c.All)}
	}
	return err
}

// curve reads a system's strategy metrics over temperature, where its strategies
// were scored.
func (r *reporter) curve(ctx context.Context, row *report.Row) error {
	n := float64(len(r.seeds))
	for _, seed := range r.seeds {
		name, ok := r.at(string(experiments.KindStrategies)+"/"+row.System(), seed)
		if !ok {
			return nil
		}
		dir, err := r.input(ctx, name)
		if err != nil {
			return err
		}
		var names results.StrategyNames
		if err := results.ReadJSON(results.Dir(dir), results.FileStrategyNames, &names); err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
		scores, err := results.ReadRows[results.StrategyScores](results.Dir(dir), results.FileStrategyScores)
		if err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
		numbers, mass, err := results.StrategyCurve(ctx, names, scores, r.params.Seed)
		if err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
		row.Mass += mass / n
		for i, temperature := range results.Temperatures() {
			if i == len(row.Temperatures) {
				row.Temperatures = append(row.Temperatures, report.AtTemperature{Temperature: temperature})
			}
			at := &row.Temperatures[i]
			at.PreferenceBias += numbers[i].PreferenceBias / n
			at.WeightedF1 += numbers[i].WeightedF1 / n
			at.MacroF1 += numbers[i].MacroF1 / n
		}
	}
	return nil
}

// evaluation reads what the stages after a generation say of one seed's system;
// by names a judge of judge.also, "" the experiment's own.
func (r *reporter) evaluation(ctx context.Context, system string, seed uint64, by string) (results.Evaluation, error) {
	return results.ReadEvaluation(func(kind experiments.Kind) (results.Files, error) {
		stage := string(kind) + "/" + system
		anchor := strings.HasPrefix(system, string(experiments.KindAnchor)+"/")
		if anchor && kind == experiments.KindGenerate {
			stage = system // it stands for a generation
		}
		if kind == experiments.KindJudge {
			stage = experiments.JudgedBy(kind, by, system)
		}
		name, ok := r.at(stage, seed)
		if !ok && (anchor || kind == experiments.KindBias) {
			return nil, nil
		}
		dir, err := r.input(ctx, name)
		return results.Dir(dir), err
	})
}

// intervals are those of a system's columns, as the report has them.
func (r *reporter) intervals(ctx context.Context, scored [][]results.ScoredTurn) ([]report.Interval, error) {
	found, err := results.Intervals(ctx, scored, r.params.Seed)
	out := make([]report.Interval, len(found))
	for i, f := range found {
		out[i] = report.Interval(f)
	}
	return out, err
}

func judgeOf(v *results.Verdict) report.Judge {
	return report.Judge{Name: v.Judge, Offline: v.Judge == judge.OfflineName, Protocol: experiments.Protocol(v.Protocol), Samples: v.Samples}
}

// count adds one seed's strategies and errors to a system's.
func (r *reporter) count(row *report.Row, e results.Evaluation) {
	if e.Verdict != nil {
		r.data.Run.Judge = judgeOf(e.Verdict)
		row.Errors = cmp.Or(row.Errors, &report.Errors{})
	}
	row.Turns += len(e.Predictions)
	unlike := map[esc.Place]bool{}
	for _, p := range e.Predictions {
		unlike[p.Place] = p.Strategy != p.GoldStrategy
		if s, err := esc.ParseStrategy(p.Strategy); err == nil {
			row.Strategies[s]++
			row.Phases[r.phases[p.Place]][s]++
		} else {
			row.Unparsed++
			// Such a response of the vanilla model is its whole text; a decoupled
			// system's is the generator's, and the authors' code reads none of the
			// planner's texts that ours does not.
			if row.Paradigm == experiments.Vanilla && esc.AuthorsStrategy(p.Response).Valid() {
				row.AuthorsRead++
			}
		}
	}
	for _, one := range e.Judged {
		if one.Problem != "" {
			continue
		}
		row.Errors.Judged++
		if unlike[one.Place] {
			row.Errors.Unlike++
		}
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
func (r *reporter) samples(system string, e results.Evaluation) {
	labels := make(map[esc.Place]results.Judged, len(e.Judged))
	for _, one := range e.Judged {
		labels[one.Place] = one
	}
	for _, p := range e.Predictions {
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
