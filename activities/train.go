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

// Files of a training checkpoint: the kernel's whole state, and the record of
// the steps that led to it.
const (
	stateFile  = "state.safetensors"
	recordFile = "metrics.jsonl"
)

// saveLimit bounds the saving of a checkpoint on the way out, when the
// activity's own context is over.
const saveLimit = 5 * time.Minute

// train runs a trainer to its end: it resumes from the newest checkpoint,
// saves one every so many steps or seconds and whenever it is interrupted,
// validates after each epoch and at the end, and leaves the record of its steps
// in the output.
func (t *attempt) train(ctx context.Context, trainer *lm.Trainer, validate bool, notes results.DataNotes) (output, error) {
	record, err := t.resume(ctx, trainer)
	if err != nil {
		return output{}, err
	}
	cadence := t.in.Checkpoint
	saved, savedAt := trainer.Step(), time.Now()
	meter := t.meter("train", trainer.Step(), trainer.Steps())
	save := func(ctx context.Context) error {
		if trainer.Step() == saved {
			return nil
		}
		if err := t.saveTraining(ctx, trainer, record); err != nil {
			return err
		}
		saved, savedAt = trainer.Step(), time.Now()
		return nil
	}
	stopped := func(err error) error {
		if why := context.Cause(ctx); why != nil {
			return t.leave(ctx, why, save)
		}
		return t.keepFailedTraining(ctx, trainer, record, err)
	}
	for {
		if validate && record.lacksValidation(trainer.Steps()) {
			// No step may be lost to a long validation.
			if err := save(ctx); err != nil {
				return output{}, err
			}
			t.beat(ctx, workflows.Progress{Phase: "validate", Step: trainer.Step(), Steps: trainer.Steps()})
			v, err := trainer.Validate(ctx)
			if err != nil {
				return output{}, stopped(fmt.Errorf("after step %d: %w", trainer.Step(), err))
			}
			record.validated(v)
		}
		if trainer.Step() >= trainer.Steps() {
			break
		}
		if ctx.Err() != nil {
			return output{}, stopped(nil)
		}
		m, err := trainer.Next(ctx)
		if err != nil {
			return output{}, stopped(fmt.Errorf("step %d: %w", trainer.Step()+1, err))
		}
		record.add(m)
		t.log.Debug().Int("step", m.Step).Int("steps", trainer.Steps()).Float64("epoch", m.Epoch).Msg("step")
		meter.step(ctx, trainer.Step(), float64(m.Tokens), m.Loss, saved)

		due := cadence.EverySteps > 0 && trainer.Step()-saved >= cadence.EverySteps ||
			cadence.EverySeconds > 0 && time.Since(savedAt) >= time.Duration(cadence.EverySeconds)*time.Second
		if due && trainer.Step() < trainer.Steps() {
			if err := save(ctx); err != nil {
				return output{}, err
			}
		}
	}

	s := results.Summarize(record.steps, notes)
	s.Shapes = len(trainer.Shapes())
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"steps": float64(s.Steps), "loss": s.Loss, "tokens": float64(s.Tokens), "tokens_unpacked": float64(s.TokensUnpacked),
	}}
	if s.ValidationLoss != nil {
		out.metrics["validation_loss"] = *s.ValidationLoss
	}
	if out.files[results.FileMetrics], err = t.create(results.FileMetrics, func(f *os.File) error { return record.write(f) }); err != nil {
		return output{}, err
	}
	if out.files[results.FileSummary], err = t.createJSON(results.FileSummary, s); err != nil {
		return output{}, err
	}
	return out, nil
}

// resume restores the newest whole checkpoint, if there is one, and gives the
// record of the steps before it.
func (t *attempt) resume(ctx context.Context, trainer *lm.Trainer) (*trainingRecord, error) {
	record := &trainingRecord{}
	state, err := t.checkpoint(ctx)
	if err != nil || state == nil {
		return record, err
	}
	r, err := t.a.Store.Open(ctx, state.Files[stateFile])
	if err != nil {
		return nil, fmt.Errorf("checkpoint at step %d: %w", state.Step, err)
	}
	err = errors.Join(trainer.Restore(r), r.Close())
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		// Whole, but of another version's making: the trainer has refused it
		// before changing anything, and begins at its beginning.
		t.a.Log.Warn().Err(err).Str("stage", t.in.Stage.Name).Int64("step", state.Step).Msg("a checkpoint does not fit and is not used")
		return record, nil
	}
	lines, err := t.readCheckpointFile(ctx, state, recordFile)
	if err != nil {
		return nil, err
	}
	if record.steps, err = results.DecodeRows[results.Step](lines); err != nil {
		return nil, fmt.Errorf("checkpoint at step %d: %s: %w", state.Step, recordFile, err)
	}
	t.resumed = true
	t.log.Info().Int64("step", state.Step).Int("steps", trainer.Steps()).Msg("resumed from a checkpoint")
	return record, nil
}

// checkpoint finds the newest whole checkpoint; nil where there is none.
func (t *attempt) checkpoint(ctx context.Context) (*artifacts.Checkpoint, error) {
	c, skipped, err := t.a.Store.LatestCheckpoint(ctx, t.in.Stage.Fingerprint)
	for _, s := range skipped {
		t.a.Log.Warn().Err(s).Str("stage", t.in.Stage.Name).Msg("skipped a checkpoint that is not whole")
	}
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (t *attempt) readCheckpointFile(ctx context.Context, c *artifacts.Checkpoint, name string) ([]byte, error) {
	r, err := t.a.Store.Open(ctx, c.Files[name])
	if err != nil {
		return nil, fmt.Errorf("checkpoint at step %d: %s: %w", c.Step, name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("checkpoint at step %d: %s: %w", c.Step, name, err)
	}
	return data, nil
}

// saveTraining commits a checkpoint, fenced by the attempt's lease.
func (t *attempt) saveTraining(ctx context.Context, trainer *lm.Trainer, record *trainingRecord) error {
	return t.saveCheckpoint(ctx, int64(trainer.Step()), map[string]artifacts.WriteFunc{
		stateFile:  func(w io.Writer) error { return trainer.Save(w) },
		recordFile: record.write,
	})
}

// leave saves what has been done before an interrupted attempt ends. The
// reason of the interruption is what the attempt returns; a lost lease means
// that somebody else has taken over and nothing is to be saved.
func (t *attempt) leave(ctx context.Context, why error, save func(context.Context) error) error {
	saveCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer stop()
	if err := save(saveCtx); err != nil && !errors.Is(err, artifacts.ErrLeaseLost) {
		t.a.Log.Error().Err(err).Str("stage", t.in.Stage.Name).Msg("the checkpoint on the way out could not be saved")
	}
	return why
}
