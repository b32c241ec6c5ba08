package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workflows"
)

// reportSamples is how many test turns the report shows with every system's
// reply.
const reportSamples = 6

// Report puts a run's results beside the paper's.
func (a *Activities) Report(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.report)
}

func (a *Activities) report(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.ReportParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	data, err := t.reportData(ctx, params)
	if err != nil {
		return output{}, err
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{"systems": float64(len(data.Systems))}}
	files, err := report.Files(data)
	if err != nil {
		return output{}, err
	}
	for _, f := range files {
		if out.files[f.Name], err = t.create(f.Name, func(w *os.File) error { _, err := w.Write(f.Data); return err }); err != nil {
			return output{}, err
		}
	}
	return out, nil
}

// reportData reads what the report shows from the inputs' artifacts.
func (t *attempt) reportData(ctx context.Context, params experiments.ReportParams) (report.Data, error) {
	data := report.Data{Run: report.Run{
		Experiment: params.Name, Backbone: params.Backbone, Seed: params.Seed,
	}}
	corpus, err := t.readCorpus(ctx, fileTrain, fileValid, fileTest)
	if err != nil {
		return data, err
	}
	for _, part := range []string{fileTrain, fileValid, fileTest} {
		data.Corpus = append(data.Corpus, report.Split{
			Name: strings.TrimSuffix(part, ".json"), Statistics: esc.ComputeStatistics(corpus[part]),
		})
	}
	test := esc.AllTurns(corpus[fileTest])
	for _, turn := range test {
		data.GoldStrategies[turn.Strategy]++
	}
	steps := []func() error{
		func() error { return t.reportTraining(ctx, &data) },
		func() error { return t.reportPairs(ctx, &data) },
		func() error { return t.reportSystems(ctx, params, test, &data) },
		func() error { return t.reportProvenance(ctx, &data) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return data, err
		}
	}
	return data, nil
}

// names gives the inputs of a kind, in the order of the alphabet.
func (t *attempt) names(kind experiments.Kind) []string {
	var names []string
	for name := range t.in.Inputs {
		if name == string(kind) || strings.HasPrefix(name, string(kind)+"/") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

func (t *attempt) reportTraining(ctx context.Context, data *report.Data) error {
	for _, kind := range []experiments.Kind{experiments.KindBase, experiments.KindSFT, experiments.KindDPO} {
		for _, name := range t.names(kind) {
			// The weights beside them may be many gigabytes.
			dir, err := t.input(ctx, name, fileSummary, fileMetrics)
			if err != nil {
				return err
			}
			var s summary
			err = readJSON(filepath.Join(dir, fileSummary), &s)
			if errors.Is(err, os.ErrNotExist) {
				continue // an imported base was not trained here
			}
			if err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
			one := report.Training{
				Stage: name, Kind: string(kind), Steps: s.Steps, Tokens: int64(s.Tokens),
				Loss: report.Value(s.Loss), ValidationLoss: s.ValidationLoss,
			}
			if kind == experiments.KindBase {
				one.Kind = "pretrain"
			}
			record, err := os.ReadFile(filepath.Join(dir, fileMetrics))
			if err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
			steps, err := decodeRows[stepRecord](record)
			if err != nil {
				return fmt.Errorf("input %s: %s: %w", name, fileMetrics, err)
			}
			addCurve(&one, steps, kind == experiments.KindDPO)
			data.Training = append(data.Training, one)
		}
	}
	return nil
}

// curvePoints bounds the points of a loss curve in the report.
const curvePoints = 200

// addCurve gives a training its loss curve, each point the mean over the steps
// it stands for and their last validation, and DPO's accuracy and margin over
// the last tenth.
func addCurve(one *report.Training, steps []stepRecord, preference bool) {
	stride := (len(steps) + curvePoints - 1) / curvePoints
	for i := 0; i < len(steps); i += max(stride, 1) {
		part := steps[i:min(i+stride, len(steps))]
		loss := 0.0
		point := report.Point{Step: part[len(part)-1].Step}
		for _, s := range part {
			loss += s.Loss / float64(len(part))
			if s.Validation != nil {
				point.Validation = report.Value(s.Validation.Loss)
			}
		}
		point.Loss = report.Value(loss)
		one.Curve = append(one.Curve, point)
	}
	if !preference || len(steps) == 0 {
		return
	}
	tail := steps[len(steps)-(len(steps)+9)/10:]
	accuracy, margin := 0.0, 0.0
	for _, s := range tail {
		if s.Rewards == nil {
			return
		}
		accuracy += s.Rewards.Accuracy / float64(len(tail))
		margin += s.Rewards.Margin / float64(len(tail))
	}
	one.Accuracy, one.Margin = report.Value(accuracy), report.Value(margin)
}

func (t *attempt) reportPairs(ctx context.Context, data *report.Data) error {
	for _, role := range experiments.Roles() {
		name := string(experiments.KindMine) + "/" + string(role)
		if !slices.Contains(t.names(experiments.KindMine), name) {
			continue
		}
		dir, err := t.input(ctx, name)
		if err != nil {
			return err
		}
		var found mined
		if err := readJSON(filepath.Join(dir, fileMined), &found); err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
		data.Pairs = append(data.Pairs, report.Pairs{Role: role, Mined: found.Mined})
	}
	return nil
}

// reportSystems reads every row of Table 3, and sample replies.
func (t *attempt) reportSystems(ctx context.Context, params experiments.ReportParams, test []esc.Turn, data *report.Data) error {
	chosen := drawTurns(test, reportSamples, params.Seed)
	for _, turn := range chosen {
		data.Samples = append(data.Samples, report.Sample{
			Dialogue: turn.Dialogue, Turn: turn.Index, Context: turn.Context, Strategy: turn.Strategy, Response: turn.Response,
		})
	}
	turns := map[string][]scoredTurn{}
	for _, system := range params.Systems() {
		if system.Paradigm == experiments.Gold {
			continue // no row of Table 3
		}
		row := report.Row{Backbone: params.Backbone, Paradigm: system.Paradigm, Method: system.Method}
		if system.PairSet != experiments.PairsAll {
			row.Pairs = system.PairSet
		}
		scored, err := t.reportRow(ctx, &row, data)
		if err != nil {
			return fmt.Errorf("system %s: %w", row.System(), err)
		}
		if row.Intervals, err = intervals(ctx, scored, params.Seed); err != nil {
			return fmt.Errorf("system %s: %w", row.System(), err)
		}
		turns[row.System()] = scored
		data.Systems = append(data.Systems, row)
	}
	var err error
	data.Questions, err = answers(ctx, turns, params.Seed)
	return err
}

// reportRow reads one system's evaluation, and gives what each turn got.
func (t *attempt) reportRow(ctx context.Context, row *report.Row, data *report.Data) ([]scoredTurn, error) {
	system := row.System()
	dirs := map[string]string{}
	for _, kind := range []string{"generate", "score", "judge", "bias"} {
		dir, err := t.input(ctx, kind+"/"+system)
		if err != nil {
			return nil, err
		}
		dirs[kind] = dir
	}
	var scores metrics.AutomaticReport
	var bias metrics.StrategyReport
	var v verdict
	if err := errors.Join(
		readJSON(filepath.Join(dirs["score"], fileScores), &scores),
		readJSON(filepath.Join(dirs["bias"], fileBias), &bias),
		readJSON(filepath.Join(dirs["judge"], fileVerdict), &v),
	); err != nil {
		return nil, err
	}
	row.Columns = report.Columns{
		Distinct1: report.Value(scores.Average.Distinct1), Bleu1: report.Value(scores.Average.Bleu1),
		F1: report.Value(scores.Average.F1), RougeL: report.Value(scores.Average.RougeL),
		Fluency: report.Value(v.Scores.Fluency), Professionalism: report.Value(v.Scores.Professionalism),
		Empathy: report.Value(v.Scores.Empathy), Helpfulness: report.Value(v.Scores.Helpfulness),
		PreferenceBias: report.Value(bias.PreferenceBias), WeightedF1: report.Value(bias.WeightedF1), MacroF1: report.Value(bias.MacroF1),
	}
	data.Run.Judge = report.Judge{Name: v.Judge, Offline: v.Judge == judge.OfflineName, Samples: v.Samples}

	raw, err := os.ReadFile(filepath.Join(dirs["generate"], filePredictions))
	if err != nil {
		return nil, err
	}
	predictions, err := decodeRows[prediction](raw)
	if err != nil {
		return nil, err
	}
	row.Turns = len(predictions)
	replies := map[[2]int]report.Reply{}
	for _, p := range predictions {
		reply := report.Reply{System: system, Strategy: esc.NoStrategy, Response: p.Response}
		if s, err := esc.ParseStrategy(p.Strategy); err == nil {
			reply.Strategy = s
			row.Strategies[s]++
		} else {
			row.Unparsed++
		}
		replies[[2]int{p.Dialogue, p.Turn}] = reply
	}
	row.Preference = bias.Preference
	row.BiasNote = esc.NameStrategies(bias.Note)
	verdicts, err := reportErrors(dirs["judge"], row, replies, data)
	if err != nil {
		return nil, err
	}
	return scoreTurns(predictions, scores.PerSample, verdicts)
}

// reportErrors counts a system's psychological errors and shows its replies. It
// gives what the judge says of each.
func reportErrors(dir string, row *report.Row, replies map[[2]int]report.Reply, data *report.Data) ([]judged, error) {
	raw, err := os.ReadFile(filepath.Join(dir, fileJudged))
	if err != nil {
		return nil, err
	}
	all, err := decodeRows[judged](raw)
	if err != nil {
		return nil, err
	}
	counts := &report.Errors{}
	for _, one := range all {
		if one.Problem != "" {
			continue
		}
		counts.Judged++
		if len(one.Findings) == 0 {
			counts.Clean++
		}
		errs := judge.Verdict{Findings: one.Findings}.Errors()
		for _, e := range errs {
			counts.Classes[e]++
		}
		at := [2]int{one.Dialogue, one.Turn}
		if reply, ok := replies[at]; ok {
			reply.Errors = errs
			replies[at] = reply
		}
	}
	row.Errors = counts
	for i := range data.Samples {
		if reply, ok := replies[[2]int{data.Samples[i].Dialogue, data.Samples[i].Turn}]; ok {
			data.Samples[i].Replies = append(data.Samples[i].Replies, reply)
		}
	}
	return all, nil
}

// reportProvenance names every stage the report rests on.
func (t *attempt) reportProvenance(ctx context.Context, data *report.Data) error {
	engines := map[string]bool{}
	for _, kind := range experiments.Kinds() {
		for _, name := range t.names(kind) {
			m, err := t.a.Store.Lookup(ctx, t.in.Inputs[name])
			if err != nil {
				return inputError(name, err)
			}
			data.Provenance = append(data.Provenance, report.Stage{
				Name: name, Kind: string(kind), Fingerprint: m.Fingerprint, Digest: m.Digest, Engine: m.Engine,
			})
			if m.Engine != "" {
				engines[m.Engine] = true
			}
		}
	}
	var used []string
	for e := range engines {
		used = append(used, e)
	}
	sort.Strings(used)
	data.Run.Engine = strings.Join(used, ", ")
	return nil
}
