package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Store is the content-addressed store on top of a Backend. It is safe for
// concurrent use.
type Store struct {
	backend Backend
	cache   string
	now     func() time.Time

	cacheBytes int64

	compared compared
}

// Options configures a Store.
type Options struct {
	// CacheDir holds verified local copies (LocalFile) and content on its way
	// into the store; it needs room for the largest blob. Processes may share
	// it. Required.
	CacheDir string
	// CacheBytes bounds the local copies together: of those above it the ones go that
	// were asked for longest ago, though none within a day. 0: no bound.
	CacheBytes int64
	// Now is the clock of the leases; nil means time.Now.
	Now func() time.Time
}

// New returns a store on backend.
func New(backend Backend, o Options) (*Store, error) {
	if o.CacheDir == "" {
		return nil, errors.New("open store: no cache directory; set one with room for the largest blob")
	}
	cache, err := filepath.Abs(o.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("open store: cache directory: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{backend: backend, cache: cache, now: o.Now, cacheBytes: o.CacheBytes}
	if err := s.openCache(); err != nil {
		return nil, fmt.Errorf("open store: cache directory: %w", err)
	}
	return s, nil
}

// Location describes where the store lies, for messages.
func (s *Store) Location() string { return s.backend.Location() }

// Reach says whether the store answers: nil, or why it does not.
func (s *Store) Reach(ctx context.Context) error {
	if _, err := s.backend.Stat(ctx, "reach"); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("store %s: %w", s.Location(), err)
	}
	return nil
}

// PutFunc stores what write writes as a blob. Content that is already there whole
// is not sent again; content that is there but corrupt is replaced.
func (s *Store) PutFunc(ctx context.Context, write WriteFunc) (Ref, error) {
	// The key is the digest, so the content has to be seen once before it can
	// be sent.
	f, err := os.CreateTemp(s.cacheTemp(), "blob-*")
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", fullDisk(err, s.cache))
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h, n := sha256.New(), int64(0)
	err = write(writerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		k, err := f.Write(p)
		h.Write(p[:k])
		n += int64(k)
		return k, err
	}))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", fullDisk(err, s.cache))
	}
	return s.putKnown(ctx, f, hex.EncodeToString(h.Sum(nil)), n)
}

// PutFile stores the content of a local file as a blob.
func (s *Store) PutFile(ctx context.Context, path string) (Ref, error) {
	f, err := os.Open(path)
	if err != nil {
		return Ref{}, fmt.Errorf("put file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyBytes(h, ContextReader(ctx, f))
	if err != nil {
		return Ref{}, fmt.Errorf("put file %s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Ref{}, fmt.Errorf("put file %s: %w", path, err)
	}
	ref, err := s.putKnown(ctx, f, hex.EncodeToString(h.Sum(nil)), n)
	if errors.Is(err, ErrCorrupt) {
		return Ref{}, fmt.Errorf("put file %s: it changed while it was stored: %w", path, err)
	}
	return ref, err
}

// reuseAge is the age up to which a blob that is there is not sent again.
const reuseAge = time.Hour

// putKnown stores content whose digest is known. The content is checked again
// on its way out, so that a source that changes meanwhile stores nothing.
func (s *Store) putKnown(ctx context.Context, r io.Reader, digest string, n int64) (Ref, error) {
	ref := Ref{Key: blobKey(digest), SHA256: digest, Bytes: n}
	if err := s.keepOrWait(ctx, digest); err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	switch whole, err := s.whole(ctx, ref); {
	case err != nil:
		return Ref{}, fmt.Errorf("put blob: %w", err)
	case whole:
		return ref, nil
	}
	if err := s.backend.Put(ctx, ref.Key, newVerifyingReader(ref, r)); err != nil {
		return Ref{}, fmt.Errorf("put blob: %w", err)
	}
	return ref, nil
}

// whole reports whether the content of ref is stored and right. It reads all of
// it, because a blob of the right size with a flipped bit would otherwise never
// be repaired, and because reading costs no more than the upload it may save. An
// old blob counts as absent: once it is sent again it is young, and garbage
// collections leave it alone even where a service's lists lag behind.
func (s *Store) whole(ctx context.Context, ref Ref) (bool, error) {
	object, err := s.backend.Stat(ctx, ref.Key)
	if err == nil && object.Bytes == ref.Bytes && s.now().Sub(object.ModTime) < reuseAge {
		err = s.VerifyRef(ctx, ref)
		if err == nil {
			return true, nil
		}
	}
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	return false, err
}
