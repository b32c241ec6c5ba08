package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// staleTemp is the age at which a temporary file that nobody has written to is
// taken for the remains of a killed process.
const staleTemp = 24 * time.Hour

func (s *Store) cacheTemp() string { return filepath.Join(s.cache, "tmp") }

// openCache makes the cache directory and removes what killed processes left.
func (s *Store) openCache() error {
	for _, dir := range []string{s.cacheTemp(), s.locks()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.cacheTemp())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleTemp {
			os.Remove(filepath.Join(s.cacheTemp(), e.Name())) // best effort: the next opening tries again
		}
	}
	return nil
}

// LocalFile returns the path of a verified copy of ref in the cache directory,
// for readers that need a file (memory-mapped weights, tokenizers). One process at
// a time fetches or verifies a blob, whoever else wants it waits and finds it. A
// copy is verified each time, a large one again where its inode, size or time of
// writing differ from those that were verified last; one that has gone bad is
// fetched again. The file is read-only and shared: do not change or remove it. It
// stays for usedLately at least.
func (s *Store) LocalFile(ctx context.Context, ref Ref) (string, error) {
	if err := ref.validate(); err != nil {
		return "", err
	}
	lock, err := s.lockBlob(ctx, ref.SHA256)
	if err != nil {
		return "", fmt.Errorf("local copy of %s: %w", ref.Key, fullDisk(err, s.cache))
	}
	defer lock.Close()
	path := s.cached(ref.SHA256)
	if noted, ok := identityOf(path); ok && ref.Bytes >= verifiedOnce && lock.noted() == noted {
		return path, lock.note(noted)
	}
	switch err := verifyFile(ctx, path, ref); {
	case err == nil:
		noted, _ := identityOf(path) // without one it is verified again
		return path, lock.note(noted)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrCorrupt):
	default:
		return "", fmt.Errorf("cached copy of %s: %w", ref.Key, err)
	}
	if err := s.fetch(ctx, ref, path); err != nil {
		return "", fmt.Errorf("local copy of %s: %w", ref.Key, fullDisk(err, s.cache))
	}
	noted, _ := identityOf(path)
	return path, errors.Join(lock.note(noted), s.evict(ctx, ref.SHA256))
}

// verifiedOnce is the size from which on a copy that is as it was verified is not
// read again: hashing a checkpoint of many gigabytes takes longer than mapping it.
const verifiedOnce = 16 << 20

// cached is where a blob's copy lies.
func (s *Store) cached(digest string) string {
	return filepath.Join(s.cache, "sha256", digest[:2], digest)
}

func verifyFile(ctx context.Context, path string, ref Ref) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = copyBytes(telling(ctx, io.Discard), newVerifyingReader(ref, ContextReader(ctx, f)))
	return err
}

// fetch copies ref to path in one step. It needs no fsync: a copy that a power
// cut truncates fails its verification and is fetched again.
func (s *Store) fetch(ctx context.Context, ref Ref, path string) error {
	f, err := os.CreateTemp(s.cacheTemp(), "fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if ranges, ok := s.backend.(Ranger); ok && ref.Bytes > rangeBytes {
		err = s.fetchRanges(ctx, ranges, ref, f)
	} else {
		err = s.fetchWhole(ctx, ref, f)
	}
	if err := errors.Join(err, f.Chmod(0o444), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (s *Store) fetchWhole(ctx context.Context, ref Ref, f *os.File) error {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = copyBytes(telling(ctx, f), ContextReader(ctx, r))
	return err
}

// fullDisk adds to an error that a disk is full what to do about it.
func fullDisk(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; free space for %s, or use another directory", err, dir)
	}
	return err
}
