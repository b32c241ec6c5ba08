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
	if err := os.MkdirAll(s.cacheTemp(), 0o755); err != nil {
		return err
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
// for readers that need a file (memory-mapped weights, tokenizers). The copy is
// verified each time; one that has gone bad is fetched again. The file is
// read-only and shared: do not change or remove it.
func (s *Store) LocalFile(ctx context.Context, ref Ref) (string, error) {
	if err := ref.validate(); err != nil {
		return "", err
	}
	path := filepath.Join(s.cache, "sha256", ref.SHA256[:2], ref.SHA256)
	switch err := verifyFile(ctx, path, ref); {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrCorrupt):
	default:
		return "", fmt.Errorf("cached copy of %s: %w", ref.Key, err)
	}
	if err := s.fetch(ctx, ref, path); err != nil {
		return "", fmt.Errorf("local copy of %s: %w", ref.Key, fullDisk(err, s.cache))
	}
	return path, nil
}

func verifyFile(ctx context.Context, path string, ref Ref) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = copyBytes(io.Discard, newVerifyingReader(ref, ContextReader(ctx, f)))
	return err
}

// fetch copies ref to path in one step. It needs no fsync: a copy that a power
// cut truncates fails its verification and is fetched again.
func (s *Store) fetch(ctx context.Context, ref Ref, path string) error {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.CreateTemp(s.cacheTemp(), "fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = copyBytes(f, ContextReader(ctx, r))
	if err := errors.Join(err, f.Chmod(0o444), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// fullDisk adds to an error that a disk is full what to do about it.
func fullDisk(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; free space for %s, or use another directory", err, dir)
	}
	return err
}
