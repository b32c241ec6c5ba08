package activities

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// attempt is one try at one stage: a lease that fences its writes, a scratch
// directory, and the way to report progress.
type attempt struct {
	a       *Activities
	in      workflows.StageInput
	lease   *artifacts.Lease
	dir     string
	started time.Time
	engine  string
	reason  string            // why the stage is computed
	resumed bool              // from a checkpoint
	stored  time.Duration     // spent on the store
	inputs  map[string]string // artifact digests by input name
	base    *models.Backbone  // on a device, to be kept for the next stage; nil: none
	baseKey string
	pulse   *pulse
	log     zerolog.Logger // names the stage, the attempt and its lease's token
	// What the attempts before this one paid a judge, and this one's ledger.
	paid   workflows.Spent
	ledger *openai.Ledger
}

// output is what a stage's body made: local files by their names in the
// artifact, the numbers worth showing, and of a training its loss, drawn.
type output struct {
	files     map[string]string
	metrics   map[string]float64
	sparkline string
}

// stageOf gives the activity of a kind of stage with parameters P: body makes
// the files of the artifact.
func stageOf[P any](a *Activities, body func(ctx context.Context, t *attempt, params P) (output, error)) workflows.StageActivity {
	return func(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
		return a.execute(ctx, in, func(ctx context.Context, t *attempt) (output, error) {
			params, err := experiments.ParamsOf[P](in.Stage)
			if err != nil {
				return output{}, badInput(err)
			}
			return body(ctx, t, params)
		})
	}
}

// execute runs a stage's body as one attempt and commits what it made.
func (a *Activities) execute(ctx context.Context, in workflows.StageInput, body func(context.Context, *attempt) (output, error)) (result workflows.StageResult, err error) {
	t, err := a.begin(ctx, in)
	var finished *finishedError
	if errors.As(err, &finished) {
		return finished.result, nil
	}
	if err != nil {
		return workflows.StageResult{}, err
	}
	defer func() {
		t.log.Debug().Err(err).Msg("attempt ends")
		t.end(ctx, err)
	}()
	if a.Observer != nil {
		a.Observer.Begin(in.Stage.Name, string(in.Stage.Kind))
		defer func() { t.observeEnd(ctx, err) }()
	}
	if t.lease.Token() > 1 {
		// Whoever held the stage before may have finished it without this Temporal
		// having heard of it. The checkpoints are gone then, and the artifact is the
		// result.
		found, err := a.Lookup(ctx, in)
		if err == nil && found.Found {
			err = t.lease.Release(ctx)
		}
		if err != nil || found.Found {
			return found.Result, err
		}
		t.reason = found.Reason
	}
	// A worker that has to stop ends the body as a cancellation does, with its
	// own cause; what the body made before is still committed.
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			stop(errWorkerStopping)
		case <-working.Done():
		}
	}()
	go t.hold(working, stop)
	out, err := body(working, t)
	if err != nil {
		if why := context.Cause(working); why != nil {
			err = why
		}
		return workflows.StageResult{}, classify(fmt.Errorf("stage %s: %w", in.Stage.Name, err))
	}
	return t.commit(ctx, out)
}

func (a *Activities) begin(ctx context.Context, in workflows.StageInput) (*attempt, error) {
	info, started := activity.GetInfo(ctx), time.Now()
	if err := in.Stage.CheckFingerprint(in.Inputs); err != nil {
		return nil, classify(badInput(err))
	}
	if a.Parked != nil {
		if err := a.Parked(in.Stage.Fingerprint); err != nil {
			return nil, classify(&permanentError{workflows.ErrTypeCrashes, fmt.Errorf("stage %s: %w", in.Stage.Name, err)})
		}
	}
	// In one namespace a stage's workflow gives the stage to one attempt at a time, so
	// whoever comes now takes the lease over from an earlier one, which cannot write
	// any more should it wake up. Another workflow, of another Temporal with the same
	// store or of a run that knows the stage by another name, knows nothing of this
	// one, and the other way round: of the two the later waits, without a slot.
	workflow := info.WorkflowExecution.ID
	claim := artifacts.Claim{
		Owner:   workflow + "/" + info.WorkflowExecution.RunID,
		Attempt: int(info.Attempt),
		Realm:   a.Realm,
		Worker:  a.Identity,
		Keep:    in.Checkpoint.Keep,
	}
	lease, err := a.Store.Acquire(ctx, in.Stage.Fingerprint, claim)
	var held *artifacts.HeldError
	if errors.As(err, &held) && strings.HasPrefix(held.Owner, workflow+"/") {
		claim.Steal = true
		lease, err = a.Store.Acquire(ctx, in.Stage.Fingerprint, claim)
	}
	if errors.As(err, &held) {
		return a.waitFor(ctx, in, held)
	}
	if err != nil {
		return nil, fmt.Errorf("stage %s: lease: %w", in.Stage.Name, err)
	}
	if err := os.MkdirAll(a.Scratch, 0o700); err != nil {
		return nil, fmt.Errorf("stage %s: scratch directory: %w", in.Stage.Name, err)
	}
	dir, err := os.MkdirTemp(a.Scratch, string(in.Stage.Kind)+"-*")
	if err != nil {
		return nil, fmt.Errorf("stage %s: scratch directory: %w", in.Stage.Name, err)
	}
	// What is still there when the process is gone tells what ran in it.
	if err := os.WriteFile(filepath.Join(dir, AttemptFile), []byte(in.Stage.Fingerprint+" "+in.Stage.Name), 0o600); err != nil {
		return nil, fmt.Errorf("stage %s: scratch directory: %w", in.Stage.Name, err)
	}
	t := &attempt{
		a: a, in: in, lease: lease, dir: dir, started: started,
		inputs: map[string]string{}, stored: time.Since(started),
		log: a.Log.With().Str("stage", in.Stage.Name).Int32("attempt", info.Attempt).Int64("token", lease.Token()).Logger(),
	}
	t.log.Debug().Msg("attempt begins")
	if last := (workflows.Progress{}); activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &last) == nil && last.Spent != nil {
		t.paid = *last.Spent
	}
	t.pulse = startPulse(ctx)
	t.beat(workflows.Progress{Phase: "load"})
	return t, nil
}

// AttemptFile names the stage of a scratch directory: its fingerprint, a blank
// and its name.
const AttemptFile = ".attempt"

// strangerPoll is how often a stage that a stranger holds is looked at.
const strangerPoll = 15 * time.Second

// waitFor ends an attempt at a stage that another Temporal's attempt holds: the
// next one comes when that one's time is up, or soon to see whether it is done.
func (a *Activities) waitFor(ctx context.Context, in workflows.StageInput, held *artifacts.HeldError) (*attempt, error) {
	found, err := a.Lookup(ctx, in)
	if err != nil {
		return nil, err
	}
	if found.Found {
		return nil, &finishedError{found.Result}
	}
	a.Log.Info().Str("stage", in.Stage.Name).Err(held).Msg("waits for a stranger's attempt")
	pause := min(max(time.Until(held.Expires), time.Second), strangerPoll)
	return nil, temporal.NewApplicationErrorWithOptions("waits: "+held.Error(), workflows.ErrTypeHeld, temporal.ApplicationErrorOptions{NextRetryDelay: pause})
}

// finishedError is the end of an attempt whose stage is done already.
type finishedError struct{ result workflows.StageResult }

func (e *finishedError) Error() string { return "stage " + e.result.Stage + " is done" }

func (t *attempt) end(ctx context.Context, err error) {
	t.pulse.end()
	switch {
	case t.base == nil:
	case err == nil:
		t.a.kept.keep(t.baseKey, t.base)
	default: // it may have been memory that was lacking
		t.base.Model.Unload()
	}
	if err != nil && !errors.Is(err, artifacts.ErrLeaseLost) {
		// Strangers need not wait for the lease to run out.
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer stop()
		if err := t.lease.Release(ctx); err != nil {
			t.log.Warn().Err(err).Msg("the lease could not be released")
		}
	}
	if err := os.RemoveAll(t.dir); err != nil {
		t.a.Log.Warn().Err(err).Str("dir", t.dir).Msg("cannot remove a scratch directory")
	}
}

// hold renews the lease while the attempt advances, and ends the body where
// another has taken the stage over. A store that gives no answer ends nothing:
// a lease that has run out still holds until somebody takes it.
func (t *attempt) hold(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(t.lease.TTL() / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, alive := t.pulse.state(); !alive {
			continue
		}
		if err := t.lease.Renew(ctx); errors.Is(err, artifacts.ErrLeaseLost) {
			lost(err)
		} else if err != nil && ctx.Err() == nil {
			t.log.Warn().Err(err).Msg("the lease could not be renewed")
		}
	}
}

// beat reports that something has advanced.
func (t *attempt) beat(p workflows.Progress) {
	p.Stage = t.in.Stage.Name
	p.Spent = t.spent()
	t.pulse.touch(func(last *workflows.Progress) { *last = p })
}

// input gives a directory with the files of an input's artifact under their
// own names, verified: all of them, or only those that are asked for and there.
func (t *attempt) input(ctx context.Context, name string, only ...string) (string, error) {
	fingerprint, ok := t.in.Inputs[name]
	if !ok {
		return "", badInput(fmt.Errorf("stage %s has no input %q", t.in.Stage.Name, name))
	}
	defer t.onStore(time.Now())
	dir := filepath.Join(t.dir, "inputs", filepath.FromSlash(name))
	a, err := results.Checkout(artifacts.WithProgress(ctx, t.loading()), t.a.Store, fingerprint, dir, only...)
	if err != nil {
		return "", inputError(name, err)
	}
	t.inputs[name] = a.Digest
	return dir, nil
}

// loading reports the bytes of inputs as they come: a download of hours is no silence.
func (t *attempt) loading() func(bytes int) {
	var total atomic.Int64
	return func(bytes int) {
		n := total.Add(int64(bytes))
		t.pulse.touch(func(last *workflows.Progress) {
			if last.Step == 0 && n >= 1<<30 {
				last.Phase = fmt.Sprintf("load %.1f GB", float64(n)/1e9)
			}
		})
	}
}

// onStore counts the time since a call of the store began.
func (t *attempt) onStore(began time.Time) { t.stored += time.Since(began) }

// inputError tells an input that is gone or damaged, though it was whole when
// the run looked, from a store that cannot be reached. Trying again mends only
// the latter; the next run finds the damage and makes the input again.
func inputError(name string, err error) error {
	err = fmt.Errorf("input %s: %w", name, err)
	for _, gone := range []error{artifacts.ErrNotFound, artifacts.ErrDamaged, artifacts.ErrCorrupt} {
		if errors.Is(err, gone) {
			return &permanentError{workflows.ErrTypeNotPresent, fmt.Errorf("%w; start the run again, it makes the input anew", err)}
		}
	}
	return err
}

// create writes a file of the artifact and gives its path.
func (t *attempt) create(name string, write func(*os.File) error) (string, error) {
	path := filepath.Join(t.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// createJSON writes a value as a file of the artifact.
func (t *attempt) createJSON(name string, v any) (string, error) {
	return t.create(name, func(f *os.File) error {
		return results.WriteJSON(f, v)
	})
}

// commit stores the files and writes the manifest last.
func (t *attempt) commit(ctx context.Context, out output) (workflows.StageResult, error) {
	t.beat(workflows.Progress{Phase: "store"})
	began := time.Now()
	m := artifacts.Manifest{
		Kind:    string(t.in.Stage.Kind),
		Stage:   t.in.Stage.Name,
		Files:   map[string]artifacts.Ref{},
		Inputs:  t.inputs,
		Params:  t.in.Stage.Params,
		Engine:  t.engine,
		Metrics: out.metrics,
	}
	seconds := time.Since(t.started).Seconds()
	ref, err := t.publish(ctx, m, out.files, seconds)
	for try := 1; try < publishTries && errors.Is(err, artifacts.ErrDamaged); try++ {
		// A garbage collection was removing an old copy of one of the files.
		ref, err = t.publish(ctx, m, out.files, seconds)
	}
	if err != nil {
		return workflows.StageResult{}, err
	}
	// The artifact is there: what only served an unfinished stage may go. A
	// failure here costs space, not the stage.
	if err := errors.Join(t.lease.DropCheckpoints(ctx), t.lease.Release(ctx)); err != nil {
		t.log.Warn().Err(err).Msg("checkpoints or lease of a finished stage could not be removed")
	}
	t.onStore(began)
	seconds = time.Since(t.started).Seconds() // with the artifact's way into the store
	t.log.Info().Float64("seconds", seconds).Str("artifact", ref.Digest).Msg("stage done")
	return workflows.StageResult{
		Stage: t.in.Stage.Name, Fingerprint: ref.Fingerprint, Digest: ref.Digest,
		Seconds: seconds, StoreSeconds: t.stored.Seconds(), Resumed: t.resumed, Engine: t.engine, Metrics: out.metrics, Sparkline: out.sparkline,
		Reason: cmp.Or(t.reason, "not in the store"),
	}, nil
}

// releaseLimit bounds the release of a lease on the way out.
const releaseLimit = 10 * time.Second

// publishTries bounds how often an attempt stores its files again.
const publishTries = 5

// publish stores the files and commits the manifest that names them.
func (t *attempt) publish(ctx context.Context, m artifacts.Manifest, files map[string]string, seconds float64) (artifacts.ArtifactRef, error) {
	for name, path := range files {
		ref, err := t.a.Store.PutFile(ctx, path)
		if err != nil {
			return artifacts.ArtifactRef{}, fmt.Errorf("stage %s: store %s: %w", t.in.Stage.Name, name, err)
		}
		m.Files[name] = ref
	}
	return t.lease.Commit(ctx, m, t.provenance(ctx, seconds))
}

// provenance is what differs between two executions of the same stage.
type provenance struct {
	Worker     string    `json:"worker"`
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
	Attempt    int       `json:"attempt"`
	Finished   time.Time `json:"finished"`
	// Seconds is the wall time of the attempt that finished.
	Seconds float64 `json:"seconds"`
	Engine  string  `json:"engine,omitempty"`
	// PeakBytes is the most memory that this process has held so far.
	PeakBytes int64 `json:"peak_bytes"`
	// Hardware is what the worker runs on, in a few words.
	Hardware string `json:"hardware"`
	// Revision is the build of the worker.
	Revision string      `json:"revision,omitempty"`
	Planned  lab.Planned `json:"planned"`
}

func (t *attempt) provenance(ctx context.Context, seconds float64) provenance {
	info := activity.GetInfo(ctx)
	return provenance{
		Worker: t.a.Identity, WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID,
		Attempt: int(info.Attempt), Finished: time.Now().UTC(), Seconds: seconds, Engine: t.engine, PeakBytes: memory.PeakBytes(), Hardware: hardware(), Revision: t.a.Nightly.Revision,
		Planned: lab.Planned{Version: t.in.Stage.Version, Inputs: t.in.Inputs, Fresh: t.in.Stage.Fresh},
	}
}

// checkDigest refuses a file that is not the one that was planned with.
func checkDigest(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has changed since the run was planned (SHA-256 %.12s, planned %.12s): start the run again", path, got, want)
	}
	return nil
}
