package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/esclab/esclab/artifacts"
)

// saveLimit bounds the saving of a checkpoint on the way out, when the
// activity's own context is over.
const saveLimit = 5 * time.Minute

// latestCheckpoint finds the newest whole checkpoint; nil where there is none.
func (t *attempt) latestCheckpoint(ctx context.Context) (*artifacts.Checkpoint, error) {
	c, skipped, err := t.a.Store.LatestCheckpoint(ctx, t.in.Stage.Fingerprint)
	for _, s := range skipped {
		t.log.Warn().Err(s).Msg("skipped a checkpoint that is not whole")
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

// saveCheckpoint commits a checkpoint, fenced by the attempt's lease.
func (t *attempt) saveCheckpoint(ctx context.Context, step int64, files map[string]artifacts.WriteFunc) error {
	began := time.Now()
	defer t.onStore(began)
	c, err := t.lease.SaveCheckpoint(ctx, step, files)
	if err != nil {
		return err
	}
	t.log.Debug().Int64("saved", step).Msg("checkpoint saved")
	if t.a.Observer == nil {
		return nil
	}
	bytes := int64(0)
	for _, f := range c.Files {
		bytes += f.Bytes
	}
	t.a.Observer.Checkpoint(t.in.Stage.Name, bytes, time.Since(began).Seconds())
	return nil
}

// leave saves what has been done before an attempt ends with err, and returns the
// reason: what interrupted the attempt, where something did. If the lease is
// lost, another attempt has taken over and nothing needs to be saved.
func (t *attempt) leave(ctx context.Context, err error, save func(context.Context) error) error {
	if why := context.Cause(ctx); why != nil {
		err = why
	}
	if errors.Is(err, artifacts.ErrLeaseLost) {
		return err
	}
	saveCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), saveLimit)
	defer stop()
	if err := save(saveCtx); err != nil && !errors.Is(err, artifacts.ErrLeaseLost) {
		t.log.Error().Err(err).Msg("the checkpoint on the way out could not be saved")
	}
	return err
}
