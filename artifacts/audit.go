package artifacts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Damage is an object that is not what it should be.
type Damage struct {
	Key         string `json:"key"`
	Reason      string `json:"reason"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the stage it belongs to, if it does to one
	Stage       string `json:"stage,omitempty"`       // its name, where the manifest can be read
	File        string `json:"file,omitempty"`        // its name in the artifact or checkpoint
	Remedy      string `json:"remedy"`
}

// Audited is what an audit has read and what it has found.
type Audited struct {
	Stages      int      `json:"stages"`      // with an artifact
	Unfinished  int      `json:"unfinished"`  // asked for, without an artifact
	Checkpoints int      `json:"checkpoints"` // whole ones
	Documents   int      `json:"documents"`   // of runs, and kept replies
	Blobs       int      `json:"blobs"`       // each counted and read once
	Bytes       int64    `json:"bytes"`       // of blobs and checkpoints
	Damaged     []Damage `json:"damaged"`     // sorted by key
}

const (
	remedyStage      = "run the experiment again: the stage is made anew, everything else is reused"
	remedyCheckpoint = "nothing: a stage goes on at its last whole checkpoint"
	remedyReply      = "nothing: the judge is asked again"
	remedyRun        = "write the file again with the command that wrote it, or remove it"
	remedyBlob       = "nothing: no artifact needs it; esclab gc removes it"
	reasonMissing    = "missing"
	remedyWay        = "the store gives the right bytes now and gave wrong ones before: check memory, network and proxies on the way"
)

// Audit reads every blob of the stages with these fingerprints and compares its
// SHA-256, and every checkpoint of those without an artifact. check, if not nil,
// says by a DamagedError that a manifest is not the stage's. progress, if not
// nil, is told of bytes as they are read, from several goroutines. The error is
// that of a store that cannot be read; damage is no error.
func (s *Store) Audit(ctx context.Context, fingerprints []string, check func(context.Context, Manifest) error, progress func(bytes int64)) (Audited, error) {
	a := newAudit(s, check, progress)
	err := a.stages(ctx, fingerprints)
	return a.result(), wrapAudit(s, err)
}

// AuditAll reads everything in the store: artifacts, checkpoints, documents of
// runs, kept replies, and the blobs that no manifest names.
func (s *Store) AuditAll(ctx context.Context, check func(context.Context, Manifest) error, progress func(bytes int64)) (Audited, error) {
	a := newAudit(s, check, progress)
	err := a.everything(ctx)
	return a.result(), wrapAudit(s, err)
}

func wrapAudit(s *Store, err error) error {
	if err != nil {
		return fmt.Errorf("verify %s: %w", s.Location(), err)
	}
	return nil
}

// audit is one run of Audit or AuditAll.
type audit struct {
	store    *Store
	check    func(context.Context, Manifest) error
	progress func(int64)

	mu      sync.Mutex
	out     Audited
	checked map[string]string // key of a blob → what is wrong with it, "" for nothing
}

func newAudit(s *Store, check func(context.Context, Manifest) error, progress func(int64)) *audit {
	if check == nil {
		check = func(context.Context, Manifest) error { return nil }
	}
	if progress == nil {
		progress = func(int64) {}
	}
	return &audit{store: s, check: check, progress: progress, checked: map[string]string{}}
}

func (a *audit) result() Audited {
	slices.SortFunc(a.out.Damaged, func(x, y Damage) int {
		return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.Fingerprint, y.Fingerprint))
	})
	return a.out
}

func (a *audit) damaged(d Damage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out.Damaged = append(a.out.Damaged, d)
}

func (a *audit) count(n *int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*n++
}

// auditFile is a blob to be read, and whose it is.
type auditFile struct {
	ref Ref
	of  Damage // with key, reason and remedy left out
}

func (a *audit) stages(ctx context.Context, fingerprints []string) error {
	var files []auditFile
	for _, fingerprint := range fingerprints {
		m, err := a.store.readManifest(ctx, fingerprint)
		if err == nil {
			err = a.check(ctx, m)
		}
		var damaged *DamagedError
		switch {
		case errors.Is(err, ErrNotFound):
			a.out.Unfinished++
			if err := a.checkpoints(ctx, fingerprint); err != nil {
				return err
			}
			continue
		case errors.As(err, &damaged):
			a.damaged(Damage{Key: damaged.Key, Reason: damaged.Reason, Fingerprint: fingerprint, Remedy: remedyStage})
			continue
		case err != nil:
			return err
		}
		a.out.Stages++
		for _, name := range m.names() {
			files = append(files, auditFile{m.Files[name], Damage{Fingerprint: fingerprint, Stage: m.Stage, File: name}})
		}
		if _, err := a.store.Provenance(ctx, fingerprint); errors.Is(err, ErrCorrupt) {
			a.damaged(Damage{Key: stageKey(fingerprint, "provenance.json"), Reason: reason(err), Fingerprint: fingerprint, Stage: m.Stage,
				Remedy: "nothing depends on it: it only says who made the artifact and when"})
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return a.files(ctx, files)
}

// files reads each blob once and records what is wrong with it for every
// artifact that names it.
func (a *audit) files(ctx context.Context, files []auditFile) error {
	byKey := map[string][]auditFile{}
	for _, f := range files {
		byKey[f.ref.Key] = append(byKey[f.ref.Key], f)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for key, users := range byKey {
		g.Go(func() error {
			wrong, remedy, err := a.read(ctx, users[0].ref)
			if err != nil {
				return err
			}
			a.mu.Lock()
			a.checked[key] = wrong
			a.out.Blobs++
			a.mu.Unlock()
			for _, f := range users {
				if wrong != "" {
					d := f.of
					d.Key, d.Reason, d.Remedy = key, wrong, cmp.Or(remedy, remedyStage)
					a.damaged(d)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// read says what is wrong with a blob. A blob that is wrong is read a second
// time, which tells damage in the store from damage on the way from it.
func (a *audit) read(ctx context.Context, ref Ref) (wrong, remedy string, err error) {
	for range 2 {
		err := a.readOnce(ctx, ref)
		switch {
		case err == nil && wrong == "":
			return "", "", nil
		case err == nil:
			return wrong + " (at the first of two readings)", remedyWay, nil
		case errors.Is(err, ErrNotFound):
			return reasonMissing, "", nil
		case errors.Is(err, ErrCorrupt):
			wrong = reason(err)
		default:
			return "", "", err
		}
	}
	return wrong, "", nil
}

func (a *audit) readOnce(ctx context.Context, ref Ref) error {
	r, err := a.store.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		a.progress(int64(n))
		a.mu.Lock()
		a.out.Bytes += int64(n)
		a.mu.Unlock()
		return n, err
	}))
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// checkpoints reads the complete checkpoints of one stage. Torn ones, whose save
// was cut short, are no damage.
func (a *audit) checkpoints(ctx context.Context, fingerprint string) error {
	dirs, err := a.store.checkpointDirs(ctx, fingerprint)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		c, err := a.store.readCheckpoint(ctx, fingerprint, d.step, d.token)
		var corrupt *CorruptError
		switch {
		case errors.Is(err, ErrNotFound): // torn, or removed meanwhile
		case errors.As(err, &corrupt):
			a.damaged(Damage{Key: corrupt.Key, Reason: corrupt.Reason, Fingerprint: fingerprint, File: path.Base(corrupt.Key), Remedy: remedyCheckpoint})
		case err != nil:
			return err
		default:
			a.out.Checkpoints++
			for _, f := range c.Files {
				a.out.Bytes += f.Bytes
				a.progress(f.Bytes)
			}
		}
	}
	return nil
}

func (a *audit) everything(ctx context.Context) error {
	stages, err := a.store.ListStages(ctx)
	if err != nil {
		return err
	}
	if err := a.stages(ctx, stages); err != nil {
		return err
	}
	if err := a.runs(ctx); err != nil {
		return err
	}
	if err := a.replies(ctx); err != nil {
		return err
	}
	var rest []auditFile
	for o, err := range a.store.Blobs(ctx) {
		if err != nil {
			return err
		}
		digest := path.Base(o.Key)
		if _, read := a.checked[o.Key]; read || validDigest("", digest) != nil || o.Key != blobKey(digest) {
			continue
		}
		rest = append(rest, auditFile{ref: Ref{Key: o.Key, SHA256: digest, Bytes: o.Bytes}})
	}
	before := len(a.out.Damaged)
	if err := a.files(ctx, rest); err != nil {
		return err
	}
	named := a.out.Damaged[:before]
	for _, d := range a.out.Damaged[before:] {
		if d.Reason != reasonMissing { // a collection may have removed it meanwhile
			d.Remedy = remedyBlob
			named = append(named, d)
		}
	}
	a.out.Damaged = named
	return nil
}

func (a *audit) runs(ctx context.Context) error {
	runs, err := a.store.ListRuns(ctx)
	if err != nil {
		return err
	}
	for _, run := range runs {
		files, err := a.store.ListRunFiles(ctx, run)
		if err != nil {
			return err
		}
		for _, name := range files {
			_, err := a.store.GetRunFile(ctx, run, name)
			switch {
			case errors.Is(err, ErrNotFound):
			case errors.Is(err, ErrCorrupt):
				key, _ := runKey(run, name) // it was listed, so it has one
				a.damaged(Damage{Key: key, Reason: reason(err), File: name, Remedy: remedyRun})
			case err != nil:
				return err
			default:
				a.out.Documents++
			}
		}
	}
	return nil
}

func (a *audit) replies(ctx context.Context) error {
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for o, err := range a.store.backend.List(ctx, "cache/") {
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		space, name, _ := strings.Cut(strings.TrimPrefix(o.Key, "cache/"), "/")
		key := strings.TrimSuffix(path.Base(name), ".json")
		if want, err := replyKey(space, key); err != nil || want != o.Key {
			continue // not ours
		}
		g.Go(func() error {
			_, err := a.store.Reply(working, space, key)
			switch {
			case errors.Is(err, ErrNotFound):
			case errors.Is(err, ErrCorrupt):
				a.damaged(Damage{Key: o.Key, Reason: reason(err), Remedy: remedyReply})
			case err != nil:
				return err
			default:
				a.count(&a.out.Documents)
			}
			return nil
		})
	}
	return g.Wait()
}

// reason is what a CorruptError found, without its key and its remedy.
func reason(err error) string {
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return corrupt.Reason
	}
	return err.Error()
}
