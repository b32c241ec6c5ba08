// Package activities executes stages: it loads the inputs' artifacts, runs a
// model or counts, and commits the artifact. One file per kind of stage; what
// all kinds share (the lease, the scratch directory, heartbeats, checkpoints,
// the translation of errors) is in attempt.go and train.go.
package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"golang.org/x/sync/errgroup"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// Activities is a worker's share in the DAG. It is safe for concurrent use.
type Activities struct {
	Store  *artifacts.Store
	Client client.Client
	Log    zerolog.Logger
	// Scratch is a directory for the files of running stages.
	Scratch string
	// Identity names this process in leases.
	Identity string
	// Realm names the Temporal namespace that this worker serves, in leases: what
	// others hold is waited for.
	Realm string
	// DataDir is esclab's data directory, below which engines' libraries are installed.
	DataDir string
	// Host is this machine as plans see it.
	Host func(ctx context.Context) experiments.Host
	// DemoCorpus is the sample corpus in the binary.
	DemoCorpus []byte
	// Remote opens what an s3://bucket/prefix names, for backbones that lie in
	// a bucket; nil: none do.
	Remote func(ctx context.Context, uri string) (artifacts.Backend, error)
	// JudgeKey gives the API key that this worker pairs with a judge's endpoint,
	// "" for none. It refuses endpoints that this worker may not ask.
	JudgeKey func(baseURL string) (string, error)
	// Parked says why a stage is not tried again on this machine; nil: none is.
	Parked func(fingerprint string) error
	// Nightly is what this worker brings to the nights of schedules.
	Nightly Nightly
	// Observer is told how stages go; nil: nobody watches.
	Observer Observer

	// Version is the build of this worker where runs stay on the build that
	// started them; zero where they do not.
	Version worker.WorkerDeploymentVersion

	engines engines
	kept    keptBase
	judges  judges
	plans   sweepPlans
}

var _ workflows.Activities = (*Activities)(nil)

// Stages gives the activity of every kind of stage.
func (a *Activities) Stages() map[experiments.Kind]workflows.StageActivity {
	return map[experiments.Kind]workflows.StageActivity{
		experiments.KindCorpus:     stageOf(a, runCorpus),
		experiments.KindBase:       stageOf(a, runBase),
		experiments.KindSFT:        stageOf(a, runSFT),
		experiments.KindMine:       stageOf(a, runMine),
		experiments.KindReference:  stageOf(a, runReference),
		experiments.KindDPO:        stageOf(a, runDPO),
		experiments.KindGenerate:   stageOf(a, runGenerate),
		experiments.KindStrategies: stageOf(a, runStrategies),
		experiments.KindAnchor:     stageOf(a, runAnchor),
		experiments.KindScore:      stageOf(a, runScore),
		experiments.KindJudge:      stageOf(a, runJudge),
		experiments.KindBias:       stageOf(a, runBias),
		experiments.KindPrefer:     stageOf(a, runPrefer),
		experiments.KindQuality:    stageOf(a, runQuality),
		experiments.KindReport:     stageOf(a, runReport),
	}
}

// errWorkerStopping ends an attempt whose worker was asked to stop. It is
// retryable: another worker, or this one after its restart, continues.
var errWorkerStopping = errors.New("the worker is stopping; the stage continues elsewhere from its last checkpoint")

// engines opens each engine once per process: compiled graphs and device
// memory belong to it.
type engines struct {
	mu   sync.Mutex
	open map[experiments.Engine]*lm.Engine
}

func (e *engines) get(dataDir string, spec experiments.Engine) (*lm.Engine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if engine, ok := e.open[spec]; ok {
		return engine, nil
	}
	engine, err := lm.EngineOptions{DataDir: dataDir}.Open(string(spec))
	if err != nil {
		return nil, err
	}
	if e.open == nil {
		e.open = map[experiments.Engine]*lm.Engine{}
	}
	e.open[spec] = engine
	return engine, nil
}

// Lookup says whether the stage's artifact is in the store, whole: every blob
// is read and its SHA-256 compared, once in the life of this process, so that
// nothing damaged is ever reused.
func (a *Activities) Lookup(ctx context.Context, in workflows.StageInput) (workflows.LookupResult, error) {
	defer startPulse(ctx).end() // a checkpoint of many gigabytes takes a while
	if err := in.Stage.CheckFingerprint(in.Inputs); err != nil {
		return workflows.LookupResult{}, classify(badInput(err))
	}
	content, err := in.Stage.Content()
	if err != nil {
		return workflows.LookupResult{}, classify(badInput(err))
	}
	return a.lookup(ctx, workflows.StageKey{Name: in.Stage.Name, Fingerprint: in.Stage.Fingerprint, Content: content}, in.Inputs)
}

// LookupAll looks up many stages side by side.
func (a *Activities) LookupAll(ctx context.Context, in []workflows.StageKey) (workflows.LookupAllResult, error) {
	defer startPulse(ctx).end()
	found := make([]workflows.LookupResult, len(in))
	made := make(map[string]string, len(in))
	for _, key := range in {
		made[key.Name] = key.Fingerprint
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, key := range in {
		g.Go(func() (err error) {
			inputs := make(map[string]string, len(key.Inputs))
			for name, stage := range key.Inputs {
				inputs[name] = made[stage]
			}
			found[i], err = a.lookup(ctx, key, inputs)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return workflows.LookupAllResult{}, err
	}
	all := workflows.LookupAllResult{Found: []workflows.StageResult{}}
	for _, f := range found {
		if f.Found {
			all.Found = append(all.Found, f.Result)
		}
	}
	return all, nil
}

// LookupPlan reads a run's plan and looks its stages up.
func (a *Activities) LookupPlan(ctx context.Context, in workflows.RunPlan) (workflows.PlannedStages, error) {
	stages, err := lab.ReadRunPlan(ctx, a.Store, in)
	var unusable *lab.PlanError
	if errors.As(err, &unusable) || errors.Is(err, artifacts.ErrNotFound) {
		err = badInput(fmt.Errorf("%w; start the run again with esclab run", err))
	}
	if err != nil {
		return workflows.PlannedStages{}, classify(err)
	}
	keys, err := workflows.Keys(stages)
	if err != nil {
		return workflows.PlannedStages{}, classify(badInput(err))
	}
	all, err := a.LookupAll(ctx, keys)
	return workflows.PlannedStages{Stages: stages, Found: all.Found}, err
}

// lookups bounds the stages that one activity looks up at the same time.
const lookups = 8

// lookup looks for a stage's artifact; inputs are the fingerprints of its inputs.
func (a *Activities) lookup(ctx context.Context, key workflows.StageKey, inputs map[string]string) (workflows.LookupResult, error) {
	m, err := a.Store.LookupWhole(ctx, key.Fingerprint)
	if err == nil && key.Content != "" {
		err = lab.CheckOrigin(ctx, a.Store, m, key.Content, inputs)
	}
	switch {
	case err == nil:
		return workflows.LookupResult{Found: true, Reason: "in the store", Result: workflows.StageResult{
			Stage: key.Name, Fingerprint: key.Fingerprint, Digest: m.Digest,
			Reused: true, Reason: "in the store", Engine: m.Engine, Metrics: m.Metrics,
		}}, nil
	case errors.Is(err, artifacts.ErrNotFound):
		return workflows.LookupResult{Reason: "not in the store"}, nil
	case errors.Is(err, artifacts.ErrDamaged), errors.Is(err, artifacts.ErrCorrupt):
		// What is damaged is made again; say so where a person may see it.
		a.Log.Warn().Err(err).Str("stage", key.Name).Msg("the artifact is damaged and will be made again")
		return workflows.LookupResult{Reason: err.Error()}, nil
	default:
		return workflows.LookupResult{}, fmt.Errorf("look up stage %s: %w", key.Name, err)
	}
}

// permanentError is an error that no retry can mend, with its Temporal type.
type permanentError struct {
	kind string
	err  error
}

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// badInput marks an error of the data or the parameters.
func badInput(err error) error { return &permanentError{workflows.ErrTypeBadInput, err} }

// classify gives an activity's error its Temporal type: what is wrong with the
// data, the parameters or the numbers is not tried again. It is called once,
// where the activity returns, so that the type stands outermost; the message
// says everything, so the causes do not travel.
func classify(err error) error {
	if err == nil {
		return nil
	}
	return classified(err, brief(err.Error()))
}

// maxMessage bounds the message of an error that goes into a history.
const maxMessage = 8 << 10

func brief(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + " …"
}

func classified(err error, message string) error {
	var permanent *permanentError
	var data *esc.DataError
	var unfit *models.UnfitError
	switch {
	case errors.As(err, &permanent):
		return temporal.NewNonRetryableApplicationError(message, permanent.kind, nil)
	case errors.As(err, &data), errors.As(err, &unfit):
		return temporal.NewNonRetryableApplicationError(message, workflows.ErrTypeBadInput, nil)
	case errors.Is(err, openai.ErrBudget):
		return temporal.NewNonRetryableApplicationError(message, workflows.ErrTypeBudget, nil)
	case errors.Is(err, openai.ErrRefused):
		return temporal.NewNonRetryableApplicationError(message, workflows.ErrTypeJudge, nil)
	case errors.Is(err, lm.ErrNonFinite):
		return temporal.NewNonRetryableApplicationError(message, workflows.ErrTypeNonFinite, nil)
	case errors.Is(err, lm.ErrExploded):
		return temporal.NewNonRetryableApplicationError(message, workflows.ErrTypeExploded, nil)
	case len(message) < len(err.Error()):
		return errors.New(message)
	}
	return err
}
