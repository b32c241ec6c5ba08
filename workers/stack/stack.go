// Package stack runs Temporal, its web UI and an S3 store inside the process,
// with their data in one directory, for users who have no cluster of their
// own. It listens on the loopback interface; other machines are let in through
// TLS alone, and to Temporal with a certificate.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/server/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// startTimeout bounds Start; a stack is usually ready within a second.
const startTimeout = 30 * time.Second

// Options of a stack. OptionsFrom fills them from settings.
type Options struct {
	DataDir          string            // created with mode 0700
	Ports            settings.Ports    // 0 picks a free one
	Namespace        string            // of Temporal, created when missing
	Retention        time.Duration     // of closed workflows
	SearchAttributes map[string]string // name → type, registered when missing
	AttributePrefix  string            // of their names
	Bucket           string            // of S3, created when missing
	NoTemporal       bool              // leave out Temporal and its UI
	NoS3             bool              // leave out S3
	Open             settings.Open     // for other machines
	Log              zerolog.Logger
}

// OptionsFrom returns the options that settings ask for, without what they open
// to other machines: a stack that a command starts for itself is no service.
func OptionsFrom(s *settings.Settings, log zerolog.Logger) Options {
	return Options{
		DataDir:          s.Embedded.DataDir,
		Ports:            s.Embedded.Ports,
		Namespace:        s.Temporal.Namespace,
		Retention:        s.Embedded.Retention,
		SearchAttributes: s.SearchAttributes,
		AttributePrefix:  s.SearchAttributePrefix,
		Bucket:           s.S3.Bucket,
		NoTemporal:       !s.EmbedTemporal(),
		NoS3:             !s.EmbedS3(),
		Log:              log,
	}
}

// Stack is a running stack.
type Stack struct {
	dir      string
	lock     *datadir.Lock
	logFile  io.Closer
	temporal temporal.Server
	inside   string // address of Temporal's internal frontend
	mesh     *mesh
	ui       *webUI
	gateway  *gateway
	gates    []*gate
	info     connect.Info
	s3       connect.S3

	failed    chan error // see Failed
	stopWatch func()
	stopSync  func() // a last time

	stopOnce sync.Once
	stopErr  error
}

// Start brings the stack up and returns when every part of it answers.
//
// One process runs a stack on a data directory: a second one gets an error
// that names the first (connect.Discover finds its addresses). Data of an
// earlier stack in the directory are kept, however it ended. A busy port, a
// directory that is not writable and a directory in use are errors of one line
// that say what to do.
func Start(ctx context.Context, o Options) (*Stack, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := datadir.Prepare(dir); err != nil {
		return nil, err
	}
	lock, err := datadir.Acquire(dir)
	if err != nil {
		return nil, err
	}
	if lock.Predecessor != 0 {
		o.Log.Info().Int("pid", lock.Predecessor).Str("data_dir", dir).Msg("the last stack was not stopped; its data are recovered")
	}
	s := &Stack{dir: dir, lock: lock, failed: make(chan error, 1), stopWatch: func() {}, stopSync: func() {}, info: connect.Info{PID: os.Getpid(), Started: began.UTC().Truncate(time.Second)}}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	o.Log.Info().Str("temporal", s.info.Temporal).Str("ui", s.info.UI).Str("s3", s.s3.Endpoint).
		Str("data_dir", dir).Dur("took_ms", time.Since(began)).Msg("stack is ready")
	return s, nil
}

func (s *Stack) start(ctx context.Context, o Options) error {
	// The ports are chosen first: a busy one is the likeliest failure, and it
	// must not leave half a stack behind.
	var temporalPort, s3Port int
	var uiListener net.Listener
	var err error
	if !o.NoTemporal {
		if temporalPort, err = choosePort(o.Ports.Temporal, "temporal"); err != nil {
			return err
		}
		uiPort, err := choosePort(o.Ports.UI, "ui")
		if err != nil {
			return err
		}
		uiListener, err = net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(uiPort)))
		if err != nil {
			return fmt.Errorf("ui: %w", err)
		}
	}
	if !o.NoS3 {
		if s3Port, err = choosePort(o.Ports.S3, "s3"); err != nil {
			return errors.Join(err, closeListener(uiListener))
		}
	}

	var group errgroup.Group
	if !o.NoTemporal {
		group.Go(func() error { return s.startTemporal(ctx, o, temporalPort, uiListener) })
	}
	if !o.NoS3 {
		group.Go(func() error { return s.startS3(ctx, o, s3Port) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !o.NoTemporal && !o.NoS3 {
		if err := s.ui.files.open(ctx, s.dir, s.s3); err != nil {
			return err
		}
	}
	if o.Open.Enabled() {
		if err := s.open(o.Open, o.Log); err != nil {
			return err
		}
	}
	if err := datadir.Publish(s.dir, &s.info); err != nil {
		return fmt.Errorf("describe the stack: %w", err)
	}
	return s.startWatch(ctx)
}

func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

func (s *Stack) startTemporal(ctx context.Context, o Options, port int, uiListener net.Listener) error {
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	log, file, err := openLog(s.dir, o.Log)
	if err != nil {
		return errors.Join(err, uiListener.Close())
	}
	s.logFile = file
	if s.lock.Predecessor != 0 {
		if err := quickCheck(ctx, s.dir); err != nil {
			return errors.Join(err, uiListener.Close())
		}
	}
	key, keyFile, err := ensureKey(s.dir)
	if err != nil {
		return errors.Join(err, uiListener.Close())
	}
	if s.mesh, err = newMesh(); err != nil {
		return errors.Join(fmt.Errorf("temporal: certificate: %w", err), uiListener.Close())
	}
	options := temporalOptions{dataDir: s.dir, port: port, namespace: o.Namespace, retention: o.Retention, attributes: o.SearchAttributes, prefix: o.AttributePrefix,
		key: key, mesh: s.mesh, log: log}
	if s.temporal, s.inside, err = startTemporal(options); err != nil {
		return errors.Join(err, uiListener.Close())
	}
	s.stopSync = background(func(ctx context.Context) {
		keepSynced(ctx, filepath.Join(s.dir, datadir.DatabaseFile), o.Log)
	})
	// The UI starts after Temporal, because a connection that is refused at
	// first would be tried again only after a pause.
	if s.ui, err = startUI(uiListener, s.inside, options); err != nil {
		return errors.Join(err, uiListener.Close())
	}
	if err := prepareNamespace(ctx, options, o.Log); err != nil {
		return err
	}
	s.info.Temporal, s.info.Namespace, s.info.KeyFile = address, o.Namespace, keyFile
	s.info.UI = "http://" + uiListener.Addr().String()
	return nil
}

func (s *Stack) startS3(ctx context.Context, o Options, port int) error {
	credentials, path, err := ensureCredentials(s.dir)
	if err != nil {
		return err
	}
	if s.gateway, err = startGateway(ctx, s.dir, port, credentials, storeBounds); err != nil {
		return err
	}
	s.s3 = s3Target(port, o.Bucket, credentials)
	if err := connect.EnsureBucket(ctx, s.s3); err != nil {
		return err
	}
	s.info.S3 = &datadir.S3{Endpoint: s.s3.Endpoint, Region: s.s3.Region, Bucket: s.s3.Bucket, CredentialsFile: path}
	return nil
}

// Info describes the stack; connect.Resolve turns it into a target.
func (s *Stack) Info() *connect.Info { return &s.info }

// Temporal is how to reach the frontend, with its key.
func (s *Stack) Temporal() (connect.Temporal, error) { return connect.Embedded(&s.info) }

// Opened returns where other machines reach Temporal and the store, host:port by
// "temporal" and "s3".
func (s *Stack) Opened() map[string]string {
	at := make(map[string]string, len(s.gates))
	for _, g := range s.gates {
		at[g.name] = g.address()
	}
	return at
}

// Stop ends every server, waits for them, and gives the data directory back.
// Workers and clients should have stopped before. Stop may be called again; it
// then returns the first call's error.
func (s *Stack) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Stack) stop() error {
	// From now on nobody finds this stack any more.
	s.stopWatch()
	errs := []error{datadir.Withdraw(s.dir)}
	for _, g := range s.gates {
		errs = append(errs, g.stop())
	}
	if s.ui != nil {
		errs = append(errs, s.ui.stop())
	}
	if s.temporal != nil {
		if err := s.temporal.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("temporal: stop: %w", err))
		}
	}
	s.stopSync()
	if s.gateway != nil {
		errs = append(errs, s.gateway.stop())
	}
	if s.logFile != nil {
		errs = append(errs, s.logFile.Close())
	}
	return errors.Join(append(errs, s.lock.Release())...)
}

// Ensure returns the target that settings ask for: external services, the
// stack that already runs on the data directory, or one that it starts. The
// stack is nil unless Ensure started it; the caller then stops it.
func Ensure(ctx context.Context, s *settings.Settings, log zerolog.Logger) (connect.Target, *Stack, error) {
	if !s.EmbedTemporal() && !s.EmbedS3() {
		t, err := connect.Resolve(s, nil)
		return t, nil, err
	}
	var started *Stack
	info, err := connect.Discover(ctx, s.Embedded.DataDir)
	if errors.Is(err, connect.ErrNotRunning) {
		started, err = Start(ctx, OptionsFrom(s, log))
		var inUse *datadir.InUseError
		switch {
		case err == nil:
			info = started.Info()
		case errors.As(err, &inUse):
			// Another process was quicker: use its stack.
			info, err = connect.Discover(ctx, s.Embedded.DataDir)
		}
	}
	if err != nil {
		return connect.Target{}, nil, err
	}
	t, err := connect.Resolve(s, info)
	if err != nil && started != nil {
		return t, nil, errors.Join(err, started.Stop())
	}
	return t, started, err
}
