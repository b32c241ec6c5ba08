package artifacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// parallel bounds the requests that one call has under way.
const parallel = 8

// Lookup returns the artifact of a stage. An error wrapping ErrNotFound means
// that the stage has not been done; a DamagedError that it was, but that its
// manifest is corrupt or a blob is missing or has the wrong size. The content
// of the blobs is not read: Verify does that, and so does every reader.
func (s *Store) Lookup(ctx context.Context, fingerprint string) (Manifest, error) {
	m, err := s.readManifest(ctx, fingerprint)
	if err != nil {
		return Manifest{}, err
	}
	if err := s.checkFiles(ctx, &m, s.checkSize); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Verify reads every blob of m and returns a DamagedError for the first file,
// by name, that is missing or corrupt.
func (s *Store) Verify(ctx context.Context, m Manifest) error {
	return s.checkFiles(ctx, &m, s.VerifyRef)
}

func (s *Store) readManifest(ctx context.Context, fingerprint string) (Manifest, error) {
	m, _, err := s.readManifestBytes(ctx, fingerprint)
	return m, err
}

func (s *Store) readManifestBytes(ctx context.Context, fingerprint string) (Manifest, []byte, error) {
	if err := validDigest("fingerprint", fingerprint); err != nil {
		return Manifest{}, nil, err
	}
	key := ManifestKey(fingerprint)
	data, err := s.readObject(ctx, key)
	var m Manifest
	if err == nil {
		err = unseal(key, data, &m)
	}
	if err == nil && m.Fingerprint != fingerprint {
		err = &CorruptError{key, "it is the manifest of stage " + m.Fingerprint}
	}
	if err == nil {
		// Anybody who may write to the bucket may have written this manifest, so
		// no name in it becomes a path before it is known to be a clean one.
		if invalid := m.validate(); invalid != nil {
			err = &CorruptError{key, invalid.Error()}
		}
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return Manifest{}, data, &DamagedError{Fingerprint: fingerprint, Key: key, Reason: corrupt.Reason}
	}
	if err != nil {
		return Manifest{}, nil, fmt.Errorf("artifact of stage %.12s: %w", fingerprint, err)
	}
	if m.Params, err = canonicalJSON(m.Params); err != nil { // as it was given, without the indentation
		return Manifest{}, nil, fmt.Errorf("artifact of stage %.12s: parameters: %w", fingerprint, err)
	}
	return m, data, nil
}

// checkFiles applies check to the blob of each file and turns missing and
// corrupt ones into a DamagedError: the first by name, whichever fails first.
func (s *Store) checkFiles(ctx context.Context, m *Manifest, check func(context.Context, Ref) error) error {
	names := m.names()
	failed := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, name := range names {
		g.Go(func() error {
			failed[i] = check(ctx, m.Files[name])
			return nil
		})
	}
	g.Wait() // its functions report in failed
	for i, err := range failed {
		var corrupt *CorruptError
		switch {
		case errors.Is(err, ErrNotFound):
			return &DamagedError{m.Fingerprint, names[i], m.Files[names[i]].Key, "missing"}
		case errors.As(err, &corrupt):
			return &DamagedError{m.Fingerprint, names[i], corrupt.Key, corrupt.Reason}
		case err != nil:
			return fmt.Errorf("check file %s of stage %.12s: %w", names[i], m.Fingerprint, err)
		}
	}
	return nil
}

func (s *Store) checkSize(ctx context.Context, ref Ref) error {
	if err := ref.validate(); err != nil {
		return &CorruptError{ref.Key, err.Error()}
	}
	o, err := s.backend.Stat(ctx, ref.Key)
	if err == nil && o.Bytes != ref.Bytes {
		err = &CorruptError{ref.Key, fmt.Sprintf("%d bytes, want %d", o.Bytes, ref.Bytes)}
	}
	return err
}

// Commit publishes m as the artifact of the stage and returns its name. It
// refuses m (with a DamagedError) if one of its blobs is missing, because it was
// never stored or because a garbage collection has removed it meanwhile: store
// the content again and commit again. It returns ErrLeaseLost if another
// attempt has taken the stage over.
//
// The first artifact stays: if a whole one is there already, Commit returns
// that one. A damaged one is replaced, and so is one of another kind, other
// parameters or other inputs, which is none of this stage. provenance, if not nil, is kept beside
// the artifact as JSON and is no part of it: times, host, attempt.
func (l *Lease) Commit(ctx context.Context, m Manifest, provenance any) (ArtifactRef, error) {
	published, err := l.commit(ctx, m, provenance)
	if err == nil {
		err = l.store.confirm(ctx, &published)
	}
	if err != nil {
		return ArtifactRef{}, fmt.Errorf("commit stage %s %.12s: %w", m.Stage, l.fingerprint, err)
	}
	return published.Ref(), nil
}

// commit publishes m and returns the manifest that is published then.
func (l *Lease) commit(ctx context.Context, m Manifest, provenance any) (Manifest, error) {
	if m.Fingerprint != "" && m.Fingerprint != l.fingerprint {
		return Manifest{}, fmt.Errorf("the manifest is of stage %s", m.Fingerprint)
	}
	m.Fingerprint = l.fingerprint
	data, err := m.encode()
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	var note []byte
	if provenance != nil {
		if note, err = encodeJSON(provenance); err != nil {
			return Manifest{}, fmt.Errorf("provenance: %w", err)
		}
	}
	if err := l.Renew(ctx); err != nil {
		return Manifest{}, err
	}
	s, key := l.store, ManifestKey(l.fingerprint)
	if err := s.checkFiles(ctx, &m, s.checkSize); err != nil {
		return Manifest{}, err
	}
	for range acquireTries {
		present, stored, err := s.readManifestBytes(ctx, l.fingerprint)
		switch {
		case err == nil && bytes.Equal(stored, data):
			return m, nil
		case err == nil:
			// Another artifact. Read it all: it may be the one that a reader
			// found corrupt, for which this stage was run again.
			if !present.sameOrigin(m) {
				err = ErrDamaged
			} else if err = s.Verify(ctx, present); err == nil {
				return present, nil
			}
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
			return Manifest{}, err
		}
		damaged := errors.Is(err, ErrDamaged)
		if note != nil {
			if err := s.putDigested(ctx, stageKey(l.fingerprint, "provenance.json"), note); err != nil {
				return Manifest{}, fmt.Errorf("provenance: %w", err)
			}
		}
		// The check comes as late as possible. An attempt that loses the stage
		// after it finds the other's manifest by PutIfAbsent.
		if err := l.check(ctx); err != nil {
			return Manifest{}, err
		}
		if damaged {
			// If another attempt takes the stage over and commits at this very
			// moment, this removes an artifact that is equal or equally good,
			// and puts ours in its place.
			if err := s.backend.Delete(ctx, key); err != nil {
				return Manifest{}, err
			}
		}
		err = s.backend.PutIfAbsent(ctx, key, data)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, ErrExists) {
			return Manifest{}, err
		}
		// The manifest that exists is ours if the answer to the write was lost,
		// and another's otherwise: read it again.
	}
	return Manifest{}, errors.New("the manifest keeps changing; is another program writing to this store?")
}

// Provenance returns the JSON that Commit kept beside the artifact, or an error
// wrapping ErrNotFound.
func (s *Store) Provenance(ctx context.Context, fingerprint string) ([]byte, error) {
	if err := validDigest("fingerprint", fingerprint); err != nil {
		return nil, err
	}
	return s.getDigested(ctx, stageKey(fingerprint, "provenance.json"))
}
