package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workflows"
)

// session is a command's connection to Temporal and the store, with the stack
// and the workers that it may have started for itself.
type session struct {
	app      *app
	settings *settings.Settings
	target   connect.Target
	client   client.Client
	store    *artifacts.Store
	stack    *stack.Stack // nil unless this process started it
	workers  *workers.Workers
}

// loadSettings reads temporal.yaml and applies the flags.
func (a *app) loadSettings() (*settings.Settings, error) {
	s, err := settings.Load(a.configPath)
	if err != nil {
		return nil, err
	}
	if a.dataDir != "" {
		if s.Embedded.DataDir, err = filepath.Abs(a.dataDir); err != nil {
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
		se.target, err = a.discover(ctx, s)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	if err := se.connect(ctx); err != nil {
		se.close()
		return nil, unreachable(err)
	}
	return se, nil
}

// discover finds a stack that is up, or the external services.
func (a *app) discover(ctx context.Context, s *settings.Settings) (connect.Target, error) {
	if !s.EmbedTemporal() && !s.EmbedS3() {
		return connect.Resolve(s, nil)
	}
	info, err := connect.Discover(ctx, s.Embedded.DataDir)
	if err != nil {
		return connect.Target{}, err
	}
	return connect.Resolve(s, info)
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

func (se *session) connect(ctx context.Context) error {
	var err error
	// The SDK's chatter is not for users, and a failed activity shows in the
	// run's progress and in the web UI.
	quiet := se.app.log.Level(max(se.app.log.GetLevel(), zerolog.WarnLevel)).Hook(zerolog.HookFunc(
		func(e *zerolog.Event, _ zerolog.Level, message string) {
			if message == "Activity error." {
				e.Discard()
			}
		}))
	if se.client, err = connect.Dial(ctx, se.target.Temporal, quiet); err != nil {
		return err
	}
	if err := connect.EnsureBucket(ctx, se.target.S3); err != nil {
		return err
	}
	if !se.settings.EmbedTemporal() {
		if _, err := connect.EnsureSearchAttributes(ctx, se.client, se.target.Temporal.Namespace, se.settings.SearchAttributes); err != nil {
			se.app.log.Warn().Err(err).Msg("search attributes could not be registered; runs work without them")
		}
	}
	// The cache and the scratch files hold dialogues: nobody else's business.
	if err := os.MkdirAll(se.settings.Embedded.DataDir, 0o700); err != nil {
		return err
	}
	se.store, err = openStore(ctx, se.target.S3, filepath.Join(se.settings.Embedded.DataDir, "cache"))
	return err
}

// openStore opens the artifact store on an S3 service.
func openStore(ctx context.Context, p connect.S3, cache string) (*artifacts.Store, error) {
	backend, err := artifacts.OpenS3(ctx, artifacts.S3Config{
		Bucket: p.Bucket, Endpoint: p.Endpoint, Region: p.Region, PathStyle: p.PathStyle,
		Checksums: string(p.Checksum),
		AccessKey: p.Credentials.AccessKey, SecretKey: string(p.Credentials.SecretKey), SessionToken: string(p.Credentials.SessionToken),
	})
	if err != nil {
		return nil, err
	}
	return artifacts.New(backend, artifacts.Options{CacheDir: cache})
}

// queues are the task queues of the settings.
func (se *session) queues() workflows.Queues {
	q := se.settings.TaskQueues
	return workflows.Queues{Control: q.Control, CPU: q.CPU, GPU: q.GPU}
}

// startWorkers makes this process a worker.
func (se *session) startWorkers(serve []experiments.Queue, slots int) error {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	identity := fmt.Sprintf("%d@%s", os.Getpid(), host)
	se.sweepScratch()
	acts := &activities.Activities{
		Store: se.store, Client: se.client, Log: se.app.log,
		Scratch:    se.scratch(),
		Identity:   identity,
		DemoCorpus: democorpus.JSON(),
	}
	se.workers, err = workers.Start(workers.Options{
		Client: se.client, Activities: acts, Queues: se.queues(), Serve: serve,
		KernelSlots: slots, CPUSlots: slots, Identity: identity,
	})
	return err
}

// scratch is where this process keeps the files of running stages.
func (se *session) scratch() string {
	return filepath.Join(se.settings.Embedded.DataDir, "scratch", strconv.Itoa(os.Getpid()))
}

// sweepScratch removes what processes that were killed have left behind.
func (se *session) sweepScratch() {
	dirs, err := filepath.Glob(filepath.Join(se.settings.Embedded.DataDir, "scratch", "*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || syscall.Kill(pid, 0) == nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			se.app.log.Warn().Err(err).Str("dir", dir).Msg("cannot remove a scratch directory")
		}
	}
}

// hasWorker tells whether somebody polls the control queue.
func (se *session) hasWorker(ctx context.Context) (bool, error) {
	d, err := se.client.DescribeTaskQueue(ctx, se.queues().Control, enums.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return false, fmt.Errorf("describe task queue %s: %w", se.queues().Control, err)
	}
	for _, p := range d.GetPollers() {
		if time.Since(p.GetLastAccessTime().AsTime()) < 90*time.Second {
			return true, nil
		}
	}
	return false, nil
}

// close stops the workers, which save their checkpoints, then the stack.
func (se *session) close() {
	if se.workers != nil {
		se.workers.Stop()
		if err := os.RemoveAll(se.scratch()); err != nil {
			se.app.log.Warn().Err(err).Msg("cannot remove the scratch directory")
		}
	}
	if se.client != nil {
		se.client.Close()
	}
	if se.stack != nil {
		if err := se.stack.Stop(); err != nil {
			se.app.log.Warn().Err(err).Msg("the embedded stack did not stop cleanly")
		}
	}
}

// heartbeat is how long a silent worker counts as alive: short where a killed
// process is soon started again, longer across machines.
func (se *session) heartbeat() int {
	if se.settings.EmbedTemporal() {
		return 15
	}
	return 60
}

// findRun gives the workflow ID of a run: as it is named, or the newest run of
// an experiment of that name; "" means the newest of all.
func (se *session) findRun(ctx context.Context, name string) (string, error) {
	query := fmt.Sprintf("WorkflowType = '%s'", workflows.RunName)
	list, err := se.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1000})
	if err != nil {
		return "", unreachable(fmt.Errorf("list runs: %w", err))
	}
	for _, w := range list.GetExecutions() { // newest first
		id := w.GetExecution().GetWorkflowId()
		if name == "" || id == name || runName(id) == name {
			return id, nil
		}
	}
	if name == "" {
		return "", errors.New("there is no run yet: start one with esclab run")
	}
	return "", fmt.Errorf("there is no run %q: esclab status --all lists them", name)
}
