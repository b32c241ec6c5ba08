package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/workflows"
)

// fileKept is what a run or a sweep has left of itself, among its files.
const fileKept = "run.json"

// KeepRun writes what a run, or a sweep, leaves of itself into the store.
func KeepRun(ctx context.Context, store *artifacts.Store, kept workflows.KeptRun) error {
	data, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("record of %s: %w", kept.ID, err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return fmt.Errorf("record of %s: %w", kept.ID, err)
	}
	_, err = store.PutRunFile(ctx, kept.ID, fileKept, b.Bytes())
	return err
}

// kept reads what an execution has left of itself in the store. The error wraps
// artifacts.ErrNotFound where it has left nothing, or another execution of its ID
// has followed it.
func (c *Client) kept(ctx context.Context, e Execution) (workflows.KeptRun, error) {
	var kept workflows.KeptRun
	raw, err := c.Store.GetRunFile(ctx, e.ID, fileKept)
	if err != nil {
		return kept, fmt.Errorf("record of %s: %w", e.ID, err)
	}
	if err := json.Unmarshal(raw, &kept); err != nil || kept.Version != workflows.KeptVersion {
		return kept, fmt.Errorf("record of %s: format version %d, this program knows %d: %w: use the release that wrote it", e.ID, kept.Version, workflows.KeptVersion, errFormat)
	}
	if e.RunID != "" && e.RunID != kept.RunID {
		return kept, fmt.Errorf("record of %s: it is of another execution: %w", e.ID, artifacts.ErrNotFound)
	}
	return kept, nil
}

// withKept gives, after the executions that Temporal knows, those of the kind that
// the store alone remembers, the newest first. Of these it gives names alone.
func (c *Client) withKept(ctx context.Context, known iter.Seq2[Execution, error], kind string) iter.Seq2[Execution, error] {
	return func(yield func(Execution, error) bool) {
		seen := map[string]bool{}
		for e, err := range known {
			if !yield(e, err) || err != nil {
				return
			}
			seen[e.ID] = true
		}
		files, err := c.Store.RunsWith(ctx, fileKept)
		if err != nil {
			yield(Execution{}, unreachable("%w", err))
			return
		}
		for _, f := range files {
			if strings.HasPrefix(f.Run, kind+"/") && !seen[f.Run] && !yield(Execution{ID: f.Run, Kept: true}, nil) {
				return
			}
		}
	}
}

// errFormat tells that a record is of another release.
var errFormat = errors.New("another format")

// filled reads the records of those executions that the store alone remembers. One
// whose record is damaged or of another release is left out.
func (c *Client) filled(ctx context.Context, all iter.Seq2[Execution, error]) iter.Seq2[Execution, error] {
	return func(yield func(Execution, error) bool) {
		for e, err := range all {
			if err == nil {
				if e, err = c.fill(ctx, e); err != nil && (ignoreAbsent(err) == nil || errors.Is(err, errFormat)) {
					continue
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// fill reads the record of an execution that the store alone remembers.
func (c *Client) fill(ctx context.Context, e Execution) (Execution, error) {
	if !e.Kept {
		return e, nil
	}
	kept, err := c.kept(ctx, e)
	if err != nil {
		return e, failed(err)
	}
	e.RunID, e.Started, e.Status = kept.RunID, kept.Started, workflows.StatusOf(kept.Status)
	return e, nil
}

// keptEnd gives how an execution that has ended stood at its end, by its record;
// false where it has kept none.
func (c *Client) keptEnd(ctx context.Context, e Execution, state any) (workflows.KeptRun, bool, error) {
	if !e.Kept && e.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return workflows.KeptRun{}, false, nil
	}
	kept, err := c.kept(ctx, e)
	if ignoreAbsent(err) == nil && (err != nil || kept.Ended.IsZero() || kept.Result == nil) {
		return kept, false, nil
	}
	if err == nil {
		err = json.Unmarshal(kept.Result, state)
	}
	return kept, err == nil, failed(err)
}

// ending is what a run or a sweep that has kept a record failed of; nil where it did not.
func ending(kept workflows.KeptRun) error {
	switch workflows.StatusOf(kept.Status) {
	case enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return errCancelled
	case enums.WORKFLOW_EXECUTION_STATUS_FAILED:
		return errors.New(kept.Failure)
	}
	return nil
}

// forgotten tells that Temporal no longer has what is asked for.
func forgotten(err error) bool {
	var gone *serviceerror.NotFound
	return errors.As(err, &gone)
}
