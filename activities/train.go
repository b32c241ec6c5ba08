package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Files of a training checkpoint: the trainer's whole state, the record of the
// steps that led to it, and where kernels were chosen by timing, those.
const (
	stateFile   = "state.safetensors"
	recordFile  = "metrics.jsonl"
	choicesFile = "kernels.json"
)

// training is a trainer on its way through an attempt.
type training struct {
	t       *attempt
	trainer *lm.Trainer
	record  trainingRecord
	curves  *curves
	saved   int // step of the newest checkpoint
	savedAt time.Time
}

// runTraining runs a trainer to its end: it resumes from the newest checkpoint,
// saves one every so many steps or seconds and whenever it is interrupted,
// validates after each epoch and at the end, and leaves the record of its steps
// in the output.
func runTraining(ctx context.Context, t *attempt, trainer *lm.Trainer, validate bool, notes results.DataNotes) (output, error) {
	if trainer.Recomputes() {
		t.log.Info().Str("memory", string(t.in.Memory)).Msg("layers are computed again on the way back, to save memory")
	}
	r := &training{t: t, trainer: trainer, curves: openCurves(t)}
	defer r.curves.close()
	if err := r.resume(ctx); err != nil {
		return output{}, err
	}
	if err := r.run(ctx, validate); err != nil {
		return output{}, r.leave(ctx, err)
	}
	return r.output(notes)
}

// resume goes on at the newest checkpoint, if there is one.
func (r *training) resume(ctx context.Context) error {
	state, err := r.t.latestCheckpoint(ctx)
	if err == nil && state != nil {
		err = r.restore(ctx, state)
	}
	r.saved, r.savedAt = r.trainer.Step(), time.Now()
	return err
}

// restore takes over a checkpoint's state and the record of the steps before it.
func (r *training) restore(ctx context.Context, state *artifacts.Checkpoint) error {
	t := r.t
	f, err := t.a.Store.Open(ctx, state.Files[stateFile])
	if err != nil {
		return fmt.Errorf("checkpoint at step %d: %w", state.Step, err)
	}
	err = errors.Join(r.trainer.Restore(f), f.Close())
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		// The checkpoint is whole, but another version has made it. The trainer
		// has refused it before changing anything, and begins at its beginning.
		t.log.Warn().Err(err).Int64("step", state.Step).Msg("a checkpoint does not fit and is not used")
		return nil
	}
	lines, err := t.readCheckpointFile(ctx, state, recordFile)
	if err != nil {
		return err
	}
	if r.record.steps, err = results.DecodeRows[results.Step](lines); err != nil {
		return fmt.Errorf("checkpoint at step %d: %s: %w", state.Step, recordFile, err)
	}
	if err := r.takeChoices(ctx, state); err != nil {
		return err
	}
	t.resumed = true
	t.log.Info().Int64("step", state.Step).Int("steps", r.trainer.Steps()).Msg("resumed from a checkpoint")
	return nil
}

// takeChoices has the steps that are left computed by the kernels of the steps before, which another
// machine of the same type may have chosen. Without them the last digits may differ, which the log says.
func (r *training) takeChoices(ctx context.Context, state *artifacts.Checkpoint) error {
	ref, ok := state.Files[choicesFile]
	if !ok {
		return nil
	}
	if r.trainer.Engine().ChoicesDir == "" {
		r.t.log.Warn().Msg("the steps before ran with kernels chosen by timing, those that are left do not: their last digits may differ")
		return nil
	}
	f, err := r.t.a.Store.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("checkpoint at step %d: %s: %w", state.Step, choicesFile, err)
	}
	others, err := r.trainer.Engine().LoadChoices(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("checkpoint at step %d: %s: %w", state.Step, choicesFile, err)
	}
	if others > 0 {
		r.t.log.Warn().Int("kernels", others).Msg("kernels were chosen differently on this machine: the last digits of the steps that are left may differ")
	}
	return nil
}

// run takes the steps that are left.
func (r *training) run(ctx context.Context, validate bool) error {
	trainer := r.trainer
	meter := newMeter(r.t, "train", trainer.Step(), trainer.Steps())
	for {
		if validate && r.record.lacksValidation(trainer.Steps()) {
			if err := r.validate(ctx); err != nil {
				return err
			}
		}
		if trainer.Step() >= trainer.Steps() {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m, err := trainer.Next(ctx)
		if err != nil {
			return fmt.Errorf("step %d: %w", trainer.Step()+1, err)
		}
		r.record.add(m)
		r.curves.add(*r.record.last())
		r.t.log.Debug().Int("step", m.Step).Int("steps", trainer.Steps()).Float64("epoch", m.Epoch).Msg("step")
		meter.spark = results.Sparkline(r.record.steps)
		meter.step(trainer.Step(), float64(m.Tokens), m.Loss, r.saved)
		if r.due() && trainer.Step() < trainer.Steps() {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
}

// validate validates the weights of the newest step, which is saved first: no
// step may be lost to a long validation.
func (r *training) validate(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
		return err
	}
	r.t.beat(workflows.Progress{Phase: "validate", Step: r.trainer.Step(), Steps: r.trainer.Steps(), Sparkline: results.Sparkline(r.record.steps)})
	v, err := r.trainer.Validate(ctx)
	if err != nil {
		return fmt.Errorf("after step %d: %w", r.trainer.Step(), err)
	}
	r.record.validated(v)
	r.curves.add(*r.record.last())
	return nil
}

// due says whether it is time for a checkpoint.
func (r *training) due() bool {
	cadence := r.t.in.Checkpoint
	return cadence.EverySteps > 0 && r.trainer.Step()-r.saved >= cadence.EverySteps ||
		cadence.EverySeconds > 0 && time.Since(r.savedAt) >= time.Duration(cadence.EverySeconds)*time.Second
}

// save commits a checkpoint of the newest step, unless there is one.
func (r *training) save(ctx context.Context) error {
	if r.trainer.Step() == r.saved {
		return nil
	}
	files := map[string]artifacts.WriteFunc{
		stateFile:  func(w io.Writer) error { return r.trainer.Save(w) },
		recordFile: r.record.write,
	}
	if engine := r.trainer.Engine(); engine.ChoicesDir != "" {
		files[choicesFile] = engine.SaveChoices
	}
	err := r.t.saveCheckpoint(ctx, int64(r.trainer.Step()), files)
	if err == nil {
		r.saved, r.savedAt = r.trainer.Step(), time.Now()
	}
	return err
}

// leave is the one way out of a training that has not come to its end, whatever
// interrupted it and wherever: the steps since the last checkpoint are saved.
func (r *training) leave(ctx context.Context, err error) error {
	diverged := errors.Is(err, lm.ErrNonFinite) || errors.Is(err, lm.ErrExploded)
	if diverged && ctx.Err() == nil {
		return r.keepDiverged(ctx, err)
	}
	return r.t.leave(ctx, err, r.save)
}

// keepDiverged leaves what led to numbers that are no use, and names it in the
// error.
func (r *training) keepDiverged(ctx context.Context, err error) error {
	f := failure{Step: r.trainer.Step() + 1, Steps: r.trainer.Steps()}
	f.Last = r.record.steps[max(0, len(r.record.steps)-keptSteps):]
	var diverged *lm.DivergedError
	if errors.As(err, &diverged) {
		m := diverged.Metrics
		f.Loss, f.LearningRate = new(number(m.Loss)), m.LearningRate
		if m.GradNorm != 0 {
			f.GradNorm = new(number(m.GradNorm))
		}
		for _, i := range diverged.Batch {
			f.Batch = append(f.Batch, failedSample{i, r.trainer.Group(i)})
		}
		if diverged.Intact && r.trainer.Step() > 0 {
			if saveErr := r.save(ctx); saveErr != nil {
				r.t.log.Error().Err(saveErr).Msg("the state before the failed step could not be saved")
			}
		}
	}
	if c, _ := r.t.latestCheckpoint(ctx); c != nil {
		f.Checkpoint = &failedState{Step: c.Step, Files: c.Files}
	}
	return r.t.keepFailure(ctx, f, err)
}

// output gives the record and the summary of a training that has ended.
func (r *training) output(notes results.DataNotes) (out output, err error) {
	s := results.Summarize(r.record.steps, notes)
	s.Shapes = len(r.trainer.Shapes())
	out = output{files: map[string]string{}, sparkline: results.Sparkline(r.record.steps), metrics: map[string]float64{
		"steps": float64(s.Steps), "loss": s.Loss, "tokens": float64(s.Tokens), "tokens_unpacked": float64(s.TokensUnpacked),
	}}
	if s.ValidationLoss != nil {
		out.metrics["validation_loss"] = *s.ValidationLoss
	}
	if out.files[results.FileMetrics], err = r.t.create(results.FileMetrics, func(f *os.File) error { return r.record.write(f) }); err != nil {
		return output{}, err
	}
	out.files[results.FileSummary], err = r.t.createJSON(results.FileSummary, s)
	return out, err
}
