package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// training reads how the models were trained.
func (r *reporter) training(ctx context.Context) error {
	for _, kind := range []experiments.Kind{experiments.KindBase, experiments.KindSFT, experiments.KindDPO} {
		for _, name := range r.names(kind) {
			// The weights beside them may be many gigabytes.
			dir, err := r.input(ctx, name, results.FileSummary, results.FileMetrics)
			if err != nil {
				return err
			}
			var s results.Summary
			err = results.ReadJSON(results.Dir(dir), results.FileSummary, &s)
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
			steps, err := results.ReadRows[results.Step](results.Dir(dir), results.FileMetrics)
			if err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
			addCurve(&one, steps, kind == experiments.KindDPO)
			if kind == experiments.KindDPO {
				p, err := r.preference(ctx, name)
				if err != nil {
					return fmt.Errorf("input %s: %w", name, err)
				}
				if m := results.Moved(steps, p.Beta, p.Loss.NeedsReference()); m != nil {
					one.Moved = &report.Movement{Chosen: m.Chosen, Rejected: m.Rejected, Noise: m.Noise, Warning: m.Warning()}
				}
			}
			r.data.Training = append(r.data.Training, one)
		}
	}
	return nil
}

// preference reads a dpo stage's hyperparameters from its manifest.
func (r *reporter) preference(ctx context.Context, name string) (p experiments.DPOParams, err error) {
	m, err := r.a.Store.Lookup(ctx, r.in.Inputs[name])
	if err != nil {
		return p, inputError(name, err)
	}
	if err := json.Unmarshal(m.Params, &p); err != nil {
		return p, fmt.Errorf("parameters in the manifest: %w", err)
	}
	stage := experiments.WithoutSeed(name)
	for _, had := range r.data.Preference {
		if had.Stage == stage {
			return p, nil // the seeds differ in nothing else
		}
	}
	r.data.Preference = append(r.data.Preference, report.DPO{
		Stage: stage, Role: p.Role, Pairs: p.PairSet, Loss: p.Loss,
		LearningRate: p.LearningRate, Beta: p.Beta, Epochs: p.Epochs, BatchSize: p.BatchSize,
	})
	return p, nil
}

// curvePoints bounds the points of a loss curve in the report.
const curvePoints = 200

// addCurve gives a training its loss curve, each point the mean over the steps
// it stands for and their last validation, and DPO's accuracy and margin, also
// over the last tenth.
func addCurve(one *report.Training, steps []results.Step, preference bool) {
	stride := (len(steps) + curvePoints - 1) / curvePoints
	for i := 0; i < len(steps); i += max(stride, 1) {
		part := steps[i:min(i+stride, len(steps))]
		loss, accuracy, margin, rewarded := 0.0, 0.0, 0.0, preference
		point := report.Point{Step: part[len(part)-1].Step}
		for _, s := range part {
			loss += s.Loss / float64(len(part))
			if rewarded = rewarded && s.Rewards != nil; rewarded {
				accuracy += s.Rewards.Accuracy / float64(len(part))
				margin += s.Rewards.Margin / float64(len(part))
			}
			if s.Validation != nil {
				point.Validation = report.Value(s.Validation.Loss)
			}
		}
		point.Loss = report.Value(loss)
		if rewarded {
			point.Accuracy, point.Margin = report.Value(accuracy), report.Value(margin)
		}
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

// pairs reads what mining found for each role and seed.
func (r *reporter) pairs(ctx context.Context) error {
	for _, role := range esc.Roles() {
		for i, seed := range r.seeds {
			name, ok := r.at(string(experiments.KindMine)+"/"+string(role), seed)
			if !ok {
				continue
			}
			dir, err := r.input(ctx, name, results.FileMined, results.FilePairs)
			if err != nil {
				return err
			}
			one := report.Pairs{Role: role}
			if len(r.seeds) > 1 {
				one.Seed = &r.seeds[i]
			}
			pairs, found, err := results.ReadMined(results.Dir(dir))
			if err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
			one.Mined, one.Judge = found.Mined, found.Judge
			for _, p := range pairs {
				one.Gold[p.Gold]++
				one.Rejected[p.Strategy]++
			}
			r.data.Pairs = append(r.data.Pairs, one)
		}
	}
	return nil
}
