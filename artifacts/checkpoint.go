package artifacts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// WriteFunc writes the content of one file. It may be called once only and must
// not keep w.
type WriteFunc func(w io.Writer) error

// BytesFile is a file with the given content.
func BytesFile(data []byte) WriteFunc {
	return func(w io.Writer) error { _, err := w.Write(data); return err }
}

// Checkpoint is the resumable state of an unfinished stage after a number of
// steps. Open reads its files.
type Checkpoint struct {
	Version     int            `json:"version"`
	Fingerprint string         `json:"fingerprint"`
	Step        int64          `json:"step"`  // steps done
	Token       int64          `json:"token"` // of the lease it was written under
	Files       map[string]Ref `json:"files"`
	Digest      string         `json:"digest"`
}

func (c *Checkpoint) digest() *string { return &c.Digest }

const (
	markerName = "marker.json"
	latestName = "latest.json"
)

// latestCheckpoint is a second way to the newest checkpoint. Where a service's
// lists lag behind its writes, a checkpoint that was acknowledged is still found
// by its name.
type latestCheckpoint struct {
	Version int    `json:"version"`
	Step    int64  `json:"step"`
	Token   int64  `json:"token"`
	Digest  string `json:"digest"`
}

func (c *latestCheckpoint) digest() *string { return &c.Digest }

func latestKey(fingerprint string) string { return stageKey(fingerprint, "checkpoints", latestName) }

// checkpointDir is one directory of checkpoints/, complete or torn.
type checkpointDir struct {
	step, token int64
	keys        []string // of its files, without the marker
	marked      bool
}

func checkpointKey(fingerprint string, step, token int64, name string) string {
	return stageKey(fingerprint, "checkpoints", checkpointName(step, token), name)
}

func checkpointName(step, token int64) string { return fmt.Sprintf("%010d-%010d", step, token) }

// SaveCheckpoint stores the state after step steps and removes all but the last
// Claim.Keep complete checkpoints. File names are plain names. It returns
// ErrLeaseLost, without having published anything, if another attempt has taken
// the stage over.
//
// A checkpoint counts once its marker is there, which is written last and names
// the digest of each file. Saving a step twice under one lease is allowed: a
// stage is deterministic, so a whole checkpoint of that step is kept as it is.
//
// If old checkpoints could not be removed, the error says so and the Checkpoint
// returned with it is good.
func (l *Lease) SaveCheckpoint(ctx context.Context, step int64, files map[string]WriteFunc) (Checkpoint, error) {
	c, err := l.saveCheckpoint(ctx, step, files)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("save checkpoint of stage %.12s at step %d: %w", l.fingerprint, step, err)
	}
	if err := l.readBack(ctx, c); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of stage %.12s at step %d was stored, but is not what was written; the ones before it stay: %w", l.fingerprint, step, err)
	}
	if err := l.pruneCheckpoints(ctx, step); err != nil {
		return c, fmt.Errorf("checkpoint of stage %.12s at step %d is saved, but old ones could not be removed: %w", l.fingerprint, step, err)
	}
	return c, nil
}

// readBack checks a checkpoint before older ones are removed: the sizes of its
// files, and their whole content if it is going to be the only checkpoint.
func (l *Lease) readBack(ctx context.Context, c Checkpoint) error {
	if l.keep == 1 {
		_, err := l.store.readCheckpoint(ctx, l.fingerprint, c.Step, c.Token)
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if err := l.store.checkSize(ctx, c.Files[name]); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
	}
	return nil
}

func (l *Lease) saveCheckpoint(ctx context.Context, step int64, files map[string]WriteFunc) (Checkpoint, error) {
	if step < 0 || len(files) == 0 {
		return Checkpoint{}, errors.New("a negative step or no files")
	}
	if err := l.Renew(ctx); err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Version: documentVersion, Fingerprint: l.fingerprint, Step: step, Token: l.record.Token, Files: map[string]Ref{}}
	marker := checkpointKey(l.fingerprint, step, c.Token, markerName)
	switch present, err := l.store.readCheckpoint(ctx, l.fingerprint, step, c.Token); {
	case err == nil:
		return present, nil
	case errors.Is(err, ErrCorrupt):
		// Delete the marker first, because the files below are about to change.
		if err := l.store.backend.Delete(ctx, marker); err != nil {
			return Checkpoint{}, err
		}
	case !errors.Is(err, ErrNotFound):
		return Checkpoint{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		escaped, err := EscapeSegment(name)
		if err != nil {
			return Checkpoint{}, err
		}
		if escaped == markerName {
			return Checkpoint{}, fmt.Errorf("%w: the name %s is taken by the marker", ErrInvalidKey, name)
		}
		ref, err := l.store.putStream(ctx, checkpointKey(l.fingerprint, step, c.Token, escaped), files[name])
		if err != nil {
			return Checkpoint{}, fmt.Errorf("file %s: %w", name, err)
		}
		c.Files[name] = ref
	}
	data, err := seal(&c)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := l.check(ctx); err != nil {
		return Checkpoint{}, err
	}
	if err := l.store.backend.Put(ctx, marker, bytes.NewReader(data)); err != nil {
		return Checkpoint{}, err
	}
	if data, err = seal(&latestCheckpoint{Version: documentVersion, Step: step, Token: c.Token}); err != nil {
		return Checkpoint{}, err
	}
	if err := l.store.backend.Put(ctx, latestKey(l.fingerprint), bytes.NewReader(data)); err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}

// putStream stores what write writes and returns its name and digest.
func (s *Store) putStream(ctx context.Context, key string, write WriteFunc) (Ref, error) {
	r, w := io.Pipe()
	h, n, done := sha256.New(), int64(0), make(chan struct{})
	go func() {
		defer close(done)
		counted := writerFunc(func(p []byte) (int, error) {
			k, err := w.Write(p)
			h.Write(p[:k])
			n += int64(k)
			return k, err
		})
		w.CloseWithError(write(counted)) // nil closes with io.EOF
	}()
	err := s.backend.Put(ctx, key, r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // wakes write if Put gave up
	<-done                                               // write must not outlive the call: it reads live state
	if err != nil {
		return Ref{}, err
	}
	return Ref{Key: key, SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: n}, nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// LatestCheckpoint returns the newest checkpoint of the stage whose files are
// all there and right; all of them are read. skipped says which newer ones were
// torn or corrupt. Without any it returns an error wrapping ErrNotFound. An
// error of the backend is returned as it is, never taken for a torn checkpoint.
//
// The newest is the one with the highest step among those with the highest
// token: what a later holder of the lease wrote takes precedence over what an
// earlier one may still have written.
func (s *Store) LatestCheckpoint(ctx context.Context, fingerprint string) (c Checkpoint, skipped []error, err error) {
	dirs, err := s.checkpointDirs(ctx, fingerprint)
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("checkpoints of stage %.12s: %w", fingerprint, err)
	}
	for _, d := range dirs {
		c, err := s.readCheckpoint(ctx, fingerprint, d.step, d.token)
		switch {
		case err == nil:
			return c, skipped, nil
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt):
			skipped = append(skipped, fmt.Errorf("checkpoint at step %d of token %d: %w", d.step, d.token, err))
		default:
			return Checkpoint{}, skipped, fmt.Errorf("checkpoint of stage %.12s at step %d: %w", fingerprint, d.step, err)
		}
	}
	return Checkpoint{}, skipped, fmt.Errorf("checkpoint of stage %.12s: %w", fingerprint, ErrNotFound)
}

// readCheckpoint returns a checkpoint after reading all of it. The error wraps
// ErrNotFound if there is no marker, ErrCorrupt if a file is missing or wrong.
func (s *Store) readCheckpoint(ctx context.Context, fingerprint string, step, token int64) (Checkpoint, error) {
	key := checkpointKey(fingerprint, step, token, markerName)
	data, err := s.readObject(ctx, key)
	if err != nil {
		return Checkpoint{}, err
	}
	var c Checkpoint
	if err := unseal(key, data, &c); err != nil {
		return Checkpoint{}, err
	}
	if c.Fingerprint != fingerprint || c.Step != step || c.Token != token {
		return Checkpoint{}, &CorruptError{key, "it is the marker of another checkpoint"}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		ref := c.Files[name]
		if !strings.HasPrefix(ref.Key, checkpointKey(fingerprint, step, token, "")) {
			return Checkpoint{}, &CorruptError{key, "file " + name + " lies elsewhere, at " + ref.Key}
		}
		switch err := s.VerifyRef(ctx, ref); {
		case errors.Is(err, ErrNotFound):
			return Checkpoint{}, &CorruptError{ref.Key, "missing"}
		case err != nil:
			return Checkpoint{}, err
		}
	}
	return c, nil
}

// checkpointDirs lists the checkpoints of a stage, torn ones too, newest first,
// and the one that latest.json names, whether it is listed or not.
func (s *Store) checkpointDirs(ctx context.Context, fingerprint string) ([]*checkpointDir, error) {
	if err := validDigest("fingerprint", fingerprint); err != nil {
		return nil, err
	}
	prefix := stageKey(fingerprint, "checkpoints", "")
	byName := map[string]*checkpointDir{}
	for o, err := range s.backend.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		dir, file, ok := strings.Cut(o.Key[len(prefix):], "/")
		step, token, dash := strings.Cut(dir, "-")
		stepN, err1 := strconv.ParseInt(step, 10, 64)
		tokenN, err2 := strconv.ParseInt(token, 10, 64)
		if !ok || !dash || err1 != nil || err2 != nil {
			continue // not ours
		}
		d := byName[dir]
		if d == nil {
			d = &checkpointDir{step: stepN, token: tokenN}
			byName[dir] = d
		}
		if file == markerName {
			d.marked = true
		} else {
			d.keys = append(d.keys, o.Key)
		}
	}
	data, err := s.readObject(ctx, latestKey(fingerprint))
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	// If latest.json is damaged, the list alone has to do.
	var latest latestCheckpoint
	if err == nil && unseal(latestKey(fingerprint), data, &latest) == nil {
		if name := checkpointName(latest.Step, latest.Token); byName[name] == nil {
			byName[name] = &checkpointDir{step: latest.Step, token: latest.Token, marked: true}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *checkpointDir) int {
		return cmp.Or(cmp.Compare(b.token, a.token), cmp.Compare(b.step, a.step))
	}), nil
}

// pruneCheckpoints removes torn checkpoints and all complete ones but the
// newest l.keep ≥ 1, now that step has been saved. It leaves alone what a newer
// holder wrote.
func (l *Lease) pruneCheckpoints(ctx context.Context, step int64) error {
	dirs, err := l.store.checkpointDirs(ctx, l.fingerprint)
	if err != nil {
		return err
	}
	kept := 0
	for _, d := range dirs {
		// A checkpoint of an earlier holder at this step or a later one was
		// skipped on resumption, because it was corrupt or written after its
		// lease was lost. It must not count as one to fall back to.
		passedOver := d.token < l.record.Token && d.step >= step
		if d.marked && kept < l.keep && !passedOver {
			kept++
			continue
		}
		if d.token > l.record.Token {
			continue
		}
		if err := l.removeCheckpoint(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// removeCheckpoint deletes the marker first, so that a half-deleted checkpoint
// is no checkpoint.
func (l *Lease) removeCheckpoint(ctx context.Context, d *checkpointDir) error {
	marker := checkpointKey(l.fingerprint, d.step, d.token, markerName)
	for _, key := range append([]string{marker}, d.keys...) {
		if err := l.store.backend.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// DropCheckpoints removes the checkpoints of the stage, for which there is no
// use once its artifact is committed.
func (l *Lease) DropCheckpoints(ctx context.Context) error {
	if err := l.check(ctx); err != nil {
		return err
	}
	dirs, err := l.store.checkpointDirs(ctx, l.fingerprint)
	if err != nil {
		return fmt.Errorf("drop checkpoints of stage %.12s: %w", l.fingerprint, err)
	}
	for _, d := range dirs {
		if err := l.removeCheckpoint(ctx, d); err != nil {
			return fmt.Errorf("drop checkpoints of stage %.12s: %w", l.fingerprint, err)
		}
	}
	if err := l.store.backend.Delete(ctx, latestKey(l.fingerprint)); err != nil {
		return fmt.Errorf("drop checkpoints of stage %.12s: %w", l.fingerprint, err)
	}
	return nil
}
