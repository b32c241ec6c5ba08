// Package lab is the lab as a client sees it: runs and sweeps are listed,
// found, started, followed, steered and cancelled, and what they were started
// with is read from their histories. It executes nothing, and it prints
// nothing.
package lab

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/workflows"
)

// Client is a program's way to the lab: Temporal and the store, and what the
// runs that it starts have in common.
type Client struct {
	Temporal client.Client
	Store    *artifacts.Store
	Queues   workflows.Queues
	// HeartbeatSeconds is how long a silent worker counts as alive.
	HeartbeatSeconds int
	// Revision is the git revision of this program.
	Revision string
	// Attributes names the search attributes that a run may set; see
	// workflows.UsableAttributes.
	Attributes []string
	// FilesPath is where the web UI has the store's files; empty where it has none.
	FilesPath string
	// Origin says who uses this client, and how.
	Origin workflows.Origin
}

// facts are those that every run has which this client starts.
func (c *Client) facts() workflows.Facts {
	return workflows.Facts{Revision: c.Revision, Attributes: c.Attributes, FilesPath: c.FilesPath}
}

// Error is an error of the lab. What a caller asks for that does not exist is
// none: it is an error of the request.
type Error struct {
	// Unreachable tells that Temporal or the store cannot be used; otherwise
	// they answer, and something has failed.
	Unreachable bool
	Err         error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives what happened.
func (e *Error) Unwrap() error { return e.Err }

func unreachable(format string, args ...any) error {
	return &Error{Unreachable: true, Err: fmt.Errorf(format, args...)}
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err}
}

var errCancelled = errors.New("it was cancelled; what is done stays in the store, and esclab run continues it")

// RootCause is what a failed workflow failed of, without Temporal's layers.
func RootCause(err error) error {
	if temporal.IsCanceledError(err) {
		return errCancelled
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return errors.New(app.Message())
	}
	return err
}

// CancelRun cancels a run: its stages save a checkpoint and stop.
func (c *Client) CancelRun(ctx context.Context, id string) error {
	if err := c.Temporal.CancelWorkflow(ctx, id, ""); err != nil {
		return failed(fmt.Errorf("cancel run %s: %w", id, err))
	}
	return nil
}
