package activities

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/tfevents"
)

// LogsDir is the directory below the data directory that TensorBoard shows: an event
// file for each training, in EXPERIMENT/STAGE/FINGERPRINT.
const LogsDir = "logs"

// curves appends a training's steps to its event file while they are taken. It is
// for people who watch: a stage does not fail where it cannot be written.
type curves struct {
	t   *attempt
	log *tfevents.Log // nil: nothing is written
}

// openCurves opens the event file of the attempt's stage, on this machine. It goes
// through os.Root, since the experiment's name comes from whoever started the run.
func openCurves(t *attempt) *curves {
	c := &curves{t: t}
	if t.a.DataDir == "" {
		return c
	}
	logs := filepath.Join(t.a.DataDir, LogsDir)
	if err := os.MkdirAll(logs, 0o700); err != nil {
		c.giveUp(err)
		return c
	}
	root, err := os.OpenRoot(logs)
	if err != nil {
		c.giveUp(err)
		return c
	}
	defer root.Close()
	dir := filepath.Join(cmp.Or(t.in.Facts.Experiment, "unnamed"), filepath.FromSlash(t.in.Stage.Name), t.in.Stage.Fingerprint[:12])
	if c.log, err = tfevents.OpenLog(root, dir); err != nil {
		c.giveUp(err)
	}
	return c
}

// add writes what is new of a step: its own numbers, or a validation after it.
func (c *curves) add(s results.Step) {
	if c.log == nil {
		return
	}
	if err := c.log.Scalars(int64(s.Step), tfevents.Of(s)...); err != nil {
		c.giveUp(err)
	}
}

// giveUp says once why nothing more is written.
func (c *curves) giveUp(err error) {
	c.t.log.Warn().Err(errors.Join(err, c.close())).Msg("the training's event file for TensorBoard cannot be written")
}

func (c *curves) close() error {
	if c.log == nil {
		return nil
	}
	log := c.log
	c.log = nil
	return log.Close()
}
