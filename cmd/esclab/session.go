package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/esclab/esclab/cmd/internal/revision"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/telemetry"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// session is a command's connection to Temporal and the store, with the stack
// that it may have started for itself.
type session struct {
	app      *app
	settings *settings.Settings
	target   connect.Target
	stack    *stack.Stack // nil unless this process started it
	node     *node.Node
	lab      *lab.Client

	telemetry *telemetry.Telemetry
	lastWords func() error // ends what a crash would leave; nil before
}

// loadSettings reads temporal.yaml and applies the flags.
func (a *app) loadSettings() (*settings.Settings, error) {
	s, err := settings.Load(a.configPath)
	if err != nil {
		return nil, err
	}
	if a.dataDir != "" {
		if err := s.SetDataDir(a.dataDir); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// open connects to what the settings name: a stack that is up, external
// services, or, with own, a stack that it starts.
func (a *app) open(ctx context.Context, own bool) (*session, error) {
	s, err := a.loadSettings()
	if err != nil {
		return nil, err
	}
	se := &session{app: a, settings: s}
	if own {
		freePorts(&s.Embedded.Ports)
		se.target, se.stack, err = stack.Ensure(ctx, s, a.log)
	} else {
		se.target, err = connect.Find(ctx, s)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	a.watch(ctx, se.stack)
	if err := se.connect(ctx); err != nil {
		se.close()
		return nil, unreachable(err)
	}
	return se, nil
}

// freePorts lets a stack that a command starts for itself live beside another
// program that uses the usual ports. `esclab up` insists on them instead.
func freePorts(p *settings.Ports) {
	for _, port := range []*settings.Port{&p.Temporal, &p.UI, &p.S3} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(*port))))
		if err != nil {
			*port = 0
			continue
		}
		l.Close()
	}
}

func (se *session) connect(ctx context.Context) (err error) {
	build := cmp.Or(revision.Of(), version)
	se.telemetry, err = telemetry.New(ctx, telemetry.Options{Address: se.app.metrics, Service: "esclab", Version: build, Log: se.app.log})
	if err != nil {
		return err
	}
	if se.node, err = node.Connect(ctx, se.settings, se.target, se.app.log, se.telemetry); err != nil {
		return err
	}
	se.node.Revision = build
	if se.lastWords, err = node.LastWords(se.settings.Embedded.DataDir); err != nil {
		se.app.log.Warn().Err(err).Msg("a crash of this process would leave no last words in the data directory")
	}
	se.lab = &lab.Client{
		Temporal: se.node.Client, Store: se.node.Store, Queues: se.node.Queues(), HeartbeatSeconds: int(se.settings.HeartbeatTimeout().Seconds()),
		Revision: revision.Of(), Attributes: workflows.UsableAttributes(se.node.Attributes, se.settings.SearchAttributePrefix), Origin: originOf(build),
		Waits: func(err error) { se.app.log.Warn().Err(err).Msg("Temporal gives no answer; waiting for it") }, FilesPath: se.target.FilesPath,
	}
	return nil
}

// originOf says who uses this program of a build, and how.
func originOf(build string) workflows.Origin {
	o := workflows.Origin{User: os.Getenv("USER"), Command: filepath.Base(os.Args[0]), Build: build}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	o.Host, _ = os.Hostname() // without a name there is none to tell
	for _, arg := range os.Args[1:] {
		o.Command += " " + quoted(arg)
	}
	return o
}

// close stops the workers, which save their checkpoints, then the stack.
func (se *session) close() {
	if se.node != nil {
		se.node.Close()
	}
	se.telemetry.Close()
	if se.stack != nil {
		if err := se.stack.Stop(); err != nil {
			se.app.log.Warn().Err(err).Msg("the embedded stack did not stop cleanly")
		}
	}
	if se.lastWords != nil {
		if err := se.lastWords(); err != nil {
			se.app.log.Warn().Err(err).Msg("cannot remove the file for this process's last words")
		}
	}
}

// lookAfter ends the command where the stack that it follows, of another process,
// has ended: again is what to type then.
func (se *session) lookAfter(ctx context.Context, again string) {
	if se.stack != nil || se.target.Stack == nil || se.app.fail == nil {
		return
	}
	go func() {
		if err := connect.Ended(ctx, se.settings.Embedded.DataDir, se.target.Stack); err != nil {
			se.app.fail(unreachable(fmt.Errorf("%w: go on with: %s", err, again)))
		}
	}()
}

// prepare plans an experiment on this machine.
func (a *app) prepare(ctx context.Context, nameOrPath string, set []string) (experiments.Prepared, error) {
	s, err := a.loadSettings()
	if err != nil {
		return experiments.Prepared{}, err
	}
	return experiments.Prepare(nameOrPath, set, node.Host(ctx, s))
}

// prepareSweep plans a sweep on this machine.
func (a *app) prepareSweep(ctx context.Context, nameOrPath string, set []string) (experiments.PreparedSweep, error) {
	s, err := a.loadSettings()
	if err != nil {
		return experiments.PreparedSweep{}, err
	}
	return experiments.PrepareSweep(nameOrPath, set, node.Host(ctx, s))
}

// withSession runs a command on a stack that is up.
func (a *app) withSession(ctx context.Context, do func(*session) error) error {
	se, err := a.open(ctx, false)
	if err != nil {
		return err
	}
	defer se.close()
	return do(se)
}

// workerWait is how long a detached command waits for a worker to show itself:
// esclab up answers a moment before its worker polls.
const workerWait = 5 * time.Second

// findWorker makes sure that somebody does the work: a worker that is up, or
// else this process, which then takes so many kernel stages at a time. A
// detached command does none and needs one that is up.
func (se *session) findWorker(ctx context.Context, detach bool, slots int) error {
	for began := time.Now(); ; {
		there, err := se.node.HasWorker(ctx)
		switch {
		case err != nil:
			return unreachable(err)
		case there && se.stack == nil:
			return nil
		case !detach:
			// A stack of our own has no other worker: pollers of a process that
			// was killed a moment ago do not count.
			if err := se.node.Work(nil, slots); err != nil {
				return unreachable(err)
			}
			return nil
		case se.stack != nil || time.Since(began) > workerWait:
			return unreachable(errors.New("no worker is up to do the work: start esclab up or esclab worker first, or leave --detach out"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
