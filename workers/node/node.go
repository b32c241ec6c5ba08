// Package node makes a process a part of the lab: it connects to Temporal and
// to the store, and works on the task queues. It starts no server.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/telemetry"
	"github.com/esclab/esclab/workflows"
)

// Node is a process's connection to Temporal and the store, and its workers.
type Node struct {
	Client client.Client
	Store  *artifacts.Store

	// Attributes are the search attributes (name → type) that a run may set:
	// those of the settings that the namespace has.
	Attributes map[string]string

	// Revision is the build of this program, on which runs stay where the
	// settings pin them; Promote makes new runs start on it. Set them before Work.
	Revision string
	Promote  bool
	// StopTimeout is the time that interrupted stages have to save their
	// checkpoints; 0 means workers' default. Set it before Work.
	StopTimeout time.Duration

	settings  *settings.Settings
	namespace string
	log       zerolog.Logger
	telemetry *telemetry.Telemetry
	backend   *s3.Backend
	workers   *workers.Workers
	health    health
}

// Connect reaches Temporal and the store of a target. Errors are one line that
// says what to do. tel, which may be nil, gets the metrics and traces of
// Temporal's client.
func Connect(ctx context.Context, s *settings.Settings, target connect.Target, log zerolog.Logger, tel *telemetry.Telemetry) (*Node, error) {
	n := &Node{settings: s, namespace: target.Temporal.Namespace, log: log, telemetry: tel}
	if exposed := target.Temporal.Exposed(); exposed != "" {
		log.Warn().Str("address", target.Temporal.Address).Msg("Temporal is reached " + exposed)
	}
	if exposed := target.S3.Exposed(); exposed != "" {
		log.Warn().Str("endpoint", target.S3.Endpoint).Msg("the store is reached " + exposed)
	}
	var err error
	if n.Client, err = connect.Dial(ctx, target.Temporal, quiet(log), tel.Client); err != nil {
		return nil, err
	}
	if err := n.open(ctx, target); err != nil {
		n.Client.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) open(ctx context.Context, target connect.Target) error {
	if err := connect.EnsureBucket(ctx, target.S3); err != nil {
		return err
	}
	// This is also done for a stack that is already up, since another release may
	// have started it.
	var err error
	if n.Attributes, err = connect.SearchAttributes(ctx, n.Client, target.Temporal.Namespace, n.settings.SearchAttributes); err != nil {
		n.log.Warn().Err(err).Msg("some search attributes are missing; runs go without them")
	}
	// The cache and the scratch files hold dialogues, which are private.
	if err := os.MkdirAll(n.settings.Embedded.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w: set ESCLAB_DATA_DIR to a directory that you may write", err)
	}
	if err := os.MkdirAll(n.settings.CacheDir(), 0o700); err != nil {
		return fmt.Errorf("cache directory: %w: set cache.dir to a directory that you may write", err)
	}
	backend, err := s3.Open(ctx, storeConfig(target.S3))
	if err != nil {
		return err
	}
	n.backend = backend
	n.Store, err = artifacts.New(backend, artifacts.Options{CacheDir: n.settings.CacheDir(), CacheBytes: int64(n.settings.Cache.Gigabytes) * 1e9})
	return err
}

// storeConfig is how the store is reached. A credentials file is read again when
// the service says that its keys have expired: workers outlive temporary keys.
func storeConfig(p connect.S3) s3.Config {
	c := s3.Config{
		Bucket: p.Bucket, Endpoint: p.Endpoint, Region: p.Region, PathStyle: p.PathStyle, Checksums: string(p.Checksum),
		Encryption: string(p.Encryption), KMSKey: p.KMSKey, TLS: p.TLS,
		AccessKey: p.Credentials.AccessKey, SecretKey: string(p.Credentials.SecretKey), SessionToken: string(p.Credentials.SessionToken),
	}
	if p.CredentialsFile != "" {
		c.Reload = func(context.Context) (access, secret, token string, err error) {
			k, err := settings.ReadCredentials(p.CredentialsFile)
			return k.AccessKey, string(k.SecretKey), string(k.SessionToken), err
		}
	}
	return c
}

// quiet is a logger for the SDK: its chatter is not for users, and a failed
// activity shows in the run's progress and in the web UI.
func quiet(log zerolog.Logger) zerolog.Logger {
	return log.Level(max(log.GetLevel(), zerolog.WarnLevel)).Hook(zerolog.HookFunc(
		func(e *zerolog.Event, _ zerolog.Level, message string) {
			switch message {
			case "Activity error.", "RecordActivityHeartbeat with error":
				e.Discard()
			}
		}))
}

// Queues are the task queues of the settings.
func (n *Node) Queues() workflows.Queues {
	q := n.settings.TaskQueues
	return workflows.Queues{Control: q.Control, CPU: q.CPU, GPU: q.GPU}
}

// Work polls the queues of the given classes (all of them where there are
// none) and runs at most slots kernel stages at the same time.
func (n *Node) Work(serve []experiments.Queue, slots int) error {
	version, err := n.version()
	if err != nil {
		return err
	}
	realm, err := connect.Realm(context.Background(), n.Client, n.namespace)
	if err != nil {
		return err
	}
	identity := fmt.Sprintf("%d@%s", os.Getpid(), hostname())
	memory.LimitHeap()
	n.sweepScratch()
	if n.settings.EmbedTemporal() {
		if err := n.giveBack(context.Background()); err != nil {
			n.log.Warn().Err(err).Msg("stages of workers that were killed go on only when Temporal misses their heartbeats")
		}
	}
	does := &activities.Activities{
		Store: n.Store, Client: n.Client, Log: n.log, Scratch: n.scratch(), Identity: identity, Realm: realm, DemoCorpus: democorpus.JSON(),
		Remote: func(ctx context.Context, uri string) (artifacts.Backend, error) {
			return OpenBucket(ctx, n.settings, uri)
		},
		JudgeKey: n.judgeKey, Parked: n.crashes().parked,
		DataDir:  n.settings.Embedded.DataDir,
		Version:  version,
		Nightly:  n.nightly(),
		Host:     func(ctx context.Context) experiments.Host { return Host(ctx, n.settings) },
		Observer: n.telemetry.Observer(),
	}
	n.workers, err = workers.Start(workers.Options{
		Client:     n.Client,
		Activities: does, Stages: does.Stages(),
		Queues: n.Queues(), Serve: serve, KernelSlots: slots, CPUSlots: slots, Identity: identity, Failed: n.health.failed, StopTimeout: n.StopTimeout, Version: version,
		HeartbeatThrottle: n.settings.HeartbeatThrottle(),
	})
	if err != nil {
		return err
	}
	n.health.works(identity, n.Queues(), serve)
	n.telemetry.Serve(n)
	return n.promote(version)
}

// UnfinishedReport gives the data of a report of what is done of a run that goes
// on; see activities.Activities.
func (n *Node) UnfinishedReport(ctx context.Context, in workflows.StageInput) (report.Data, bool, error) {
	a := &activities.Activities{Store: n.Store, Log: n.log, Scratch: n.scratch()}
	return a.UnfinishedReport(ctx, in)
}

// judgeKey gives the key that the settings pair with a judge's endpoint. The
// file is read again, so that an endpoint that was added needs no new worker.
func (n *Node) judgeKey(baseURL string) (string, error) {
	now, err := settings.Load(n.settings.Path)
	if err != nil {
		return "", err
	}
	key, err := now.JudgeKey(baseURL)
	return string(key), err
}

// promote makes new runs start on this build, if that was asked for or if no
// build would take them otherwise.
func (n *Node) promote(version worker.WorkerDeploymentVersion) error {
	if version.BuildID == "" {
		return nil
	}
	current, err := workers.Promote(context.Background(), n.Client, version, n.Promote)
	if err != nil {
		return err
	}
	log := n.log.Info().Str("build", version.BuildID)
	if current != version.BuildID {
		log.Str("current", current).Msg("works on the runs of this build; new runs start on the current one (--promote changes that)")
		return nil
	}
	log.Msg("new runs start on this build")
	return nil
}

// nightly is what this process brings to the nights of schedules.
func (n *Node) nightly() activities.Nightly {
	of := n.settings.Nightly
	return activities.Nightly{
		Revision: n.Revision, Newest: of.Newest, Webhooks: of.Webhooks,
		Secret:      func() string { return os.Getenv(of.SecretEnv) },
		Directories: append([]string{filepath.Join(n.settings.Embedded.DataDir, "nightly")}, of.Directories...),
	}
}

// version is the build that this process's workers are, where the settings
// pin runs to builds.
func (n *Node) version() (worker.WorkerDeploymentVersion, error) {
	v := n.settings.Versioning
	if v.Mode != settings.VersioningPinned {
		if n.Promote {
			return worker.WorkerDeploymentVersion{}, errors.New("--promote goes with versioning.mode: pinned in temporal.yaml")
		}
		return worker.WorkerDeploymentVersion{}, nil
	}
	if n.Revision == "" || strings.HasSuffix(n.Revision, "-dirty") || n.Revision == "dev" {
		return worker.WorkerDeploymentVersion{}, fmt.Errorf("versioning.mode is pinned, and this program has no revision of its own (%q): build it with make build from a clean checkout", n.Revision)
	}
	return worker.WorkerDeploymentVersion{DeploymentName: v.Deployment, BuildID: n.Revision}, nil
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return host
}

// HasWorker tells whether somebody polls the control queue. Temporal remembers
// pollers for a while, so those of this machine count while their process lives.
func (n *Node) HasWorker(ctx context.Context) (bool, error) {
	queue := n.Queues().Control
	d, err := n.Client.DescribeTaskQueue(ctx, queue, enums.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return false, fmt.Errorf("describe task queue %s: %w", queue, err)
	}
	for _, p := range d.GetPollers() {
		if killed(p.GetIdentity()) {
			continue
		}
		if time.Since(p.GetLastAccessTime().AsTime()) < 90*time.Second {
			return true, nil
		}
	}
	return false, nil
}

// Close stops the workers, which save their checkpoints, and disconnects.
func (n *Node) Close() {
	if n.workers != nil {
		n.workers.Stop()
		if err := os.RemoveAll(n.scratch()); err != nil {
			n.log.Warn().Err(err).Msg("cannot remove the scratch directory")
		}
	}
	// The embedded store waits ten seconds for connections that are open when it
	// is stopped.
	if err := n.backend.Close(); err != nil {
		n.log.Warn().Err(err).Msg("cannot close the connections to the store")
	}
	n.Client.Close()
}

// scratch is where this process keeps the files of running stages.
func (n *Node) scratch() string {
	return filepath.Join(n.settings.Embedded.DataDir, "scratch", processName())
}

// processName tells the processes apart that use a data directory.
func processName() string { return fmt.Sprintf("%s-%d", hostname(), os.Getpid()) }

// crashes is this machine's record of crashes.
func (n *Node) crashes() crashes { return crashesOf(n.settings.Embedded.DataDir) }

// alive tells whether a process of this machine lives.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// sweepScratch removes what killed processes of this machine have left behind;
// other machines may share the directory.
func (n *Node) sweepScratch() {
	crashes := n.crashes()
	dirs, err := filepath.Glob(filepath.Join(n.settings.Embedded.DataDir, "scratch", "*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if !gone(filepath.Base(dir)) {
			continue
		}
		if process := filepath.Base(dir); crashes.crashed(process) {
			n.log.Warn().Str("last_words", crashes.file(process)).Msg("a process that worked here has crashed")
			if err := crashes.count(process, dir); err != nil {
				n.log.Warn().Err(err).Msg("cannot count its crash")
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			n.log.Warn().Err(err).Str("dir", dir).Msg("cannot remove a scratch directory")
		}
	}
	crashes.sweep()
}

// gone tells whether a process that is called so was one of this machine's and
// lives no more.
func gone(process string) bool {
	pid, ours := strings.CutPrefix(process, hostname()+"-")
	id, err := strconv.Atoi(pid)
	return ours && err == nil && !alive(id)
}

// ParseQueues reads classes of queues as flags name them.
func ParseQueues(names []string) ([]experiments.Queue, error) {
	var classes []experiments.Queue
	for _, name := range names {
		switch q := experiments.Queue(name); q {
		case experiments.QueueControl, experiments.QueueCPU, experiments.QueueGPU:
			classes = append(classes, q)
		default:
			return nil, fmt.Errorf("--queues %s: use control, cpu, gpu", name)
		}
	}
	return classes, nil
}
