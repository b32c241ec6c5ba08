package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Directory is a Backend on a local or shared file system. Objects are plain
// files at the path of their key. A write goes to a temporary file in .tmp,
// is flushed to the disk and renamed, and the directory entry is flushed too,
// so that an object survives a power cut or is not there at all.
type Directory struct {
	root string
}

// staleTemp is the age at which a temporary file that nobody has written to is
// taken for the remains of a killed process.
const staleTemp = 24 * time.Hour

// OpenDirectory opens a directory as a backend and creates it if need be.
// It removes what killed processes left half-written more than a day ago.
func OpenDirectory(root string) (*Directory, error) {
	// Absolute, because an embedded S3 gateway changes the working directory.
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store directory %s: %w", root, err)
	}
	d := &Directory{root: abs}
	if err := os.MkdirAll(d.temp(), 0o755); err != nil {
		return nil, fmt.Errorf("open store directory %s: %w", root, err)
	}
	entries, err := os.ReadDir(d.temp())
	if err != nil {
		return nil, fmt.Errorf("open store directory %s: %w", root, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleTemp {
			os.Remove(filepath.Join(d.temp(), e.Name())) // best effort: the next opening tries again
		}
	}
	return d, nil
}

func (d *Directory) temp() string { return filepath.Join(d.root, ".tmp") }

func (d *Directory) path(key string) string {
	return filepath.Join(d.root, filepath.FromSlash(key))
}

// Location implements Backend.
func (d *Directory) Location() string { return d.root }

// Put implements Backend.
func (d *Directory) Put(ctx context.Context, key string, r io.Reader) error {
	err := d.write(ctx, key, r, os.Rename)
	if err != nil {
		return fmt.Errorf("put %s in %s: %w", key, d.root, fullDisk(err, d.root))
	}
	return nil
}

// PutIfAbsent implements Backend. It needs hard links: link(2) is the one call
// that publishes a finished file and fails if the name is taken.
func (d *Directory) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	err := d.write(ctx, key, strings.NewReader(string(data)), os.Link)
	if errors.Is(err, fs.ErrExist) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("put %s in %s if absent: %w", key, d.root, fullDisk(err, d.root))
	}
	return nil
}

// write fills a temporary file and publishes it under key.
func (d *Directory) write(ctx context.Context, key string, r io.Reader, publish func(temp, path string) error) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.temp(), "put-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after a rename there is nothing to remove
	if _, err := io.Copy(f, contextReader{ctx, r}); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path := d.path(key)
	for {
		if err := d.makeDir(filepath.Dir(path)); err != nil {
			return err
		}
		err := publish(f.Name(), path)
		// A concurrent Delete may have removed the directory, then empty.
		if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil && exists(f.Name()) {
			continue
		}
		if err != nil {
			return err
		}
		return syncDir(filepath.Dir(path))
	}
}

// makeDir creates dir below the root, durably.
func (d *Directory) makeDir(dir string) error {
	if dir == d.root || exists(dir) {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := d.makeDir(parent); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist): // the parent went away again
		return d.makeDir(dir)
	case err != nil:
		return err
	}
	return syncDir(parent)
}

// Get implements Backend.
func (d *Directory) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	f, err := d.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s from %s: %w", key, d.root, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{contextReader{ctx, f}, f}, nil
}

func (d *Directory) open(ctx context.Context, key string) (*os.File, error) {
	if err := errors.Join(ctx.Err(), ValidKey(key)); err != nil {
		return nil, err
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return nil, notFound(err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		if err == nil {
			err = ErrNotFound
		}
		return nil, err
	}
	return f, nil
}

// Stat implements Backend.
func (d *Directory) Stat(ctx context.Context, key string) (Object, error) {
	err := errors.Join(ctx.Err(), ValidKey(key))
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(d.path(key))
	}
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		return Object{}, fmt.Errorf("stat %s in %s: %w", key, d.root, notFound(err))
	}
	return Object{Key: key, Bytes: info.Size(), ModTime: info.ModTime()}, nil
}

// List implements Backend.
func (d *Directory) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := validPrefix(prefix); err != nil {
			yield(Object{}, fmt.Errorf("list %s: %w", d.root, err))
			return
		}
		err := filepath.WalkDir(d.path(prefix), func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && path == d.temp() {
				return fs.SkipDir
			}
			if err == nil && e.IsDir() {
				return nil
			}
			var info fs.FileInfo
			if err == nil {
				info, err = e.Info()
			}
			if errors.Is(err, fs.ErrNotExist) { // deleted while we walk
				return nil
			}
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(d.root, path)
			if err != nil {
				return err
			}
			key := filepath.ToSlash(rel)
			if ValidKey(key) != nil { // not ours: an editor's or a file manager's
				return nil
			}
			if !yield(Object{Key: key, Bytes: info.Size(), ModTime: info.ModTime()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Object{}, fmt.Errorf("list %s in %s: %w", prefix, d.root, err))
		}
	}
}

// Delete implements Backend. It also removes the directories it empties.
func (d *Directory) Delete(ctx context.Context, key string) error {
	err := errors.Join(ctx.Err(), ValidKey(key))
	if err == nil {
		err = os.Remove(d.path(key))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s in %s: %w", key, d.root, err)
	}
	for dir := filepath.Dir(d.path(key)); dir != d.root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // not empty
			return syncDir(dir)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // ENOTDIR: a parent is an object
		return ErrNotFound
	}
	return err
}

// fullDisk adds to an error that a disk is full what to do about it.
func fullDisk(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; free space for %s, or use another directory", err, dir)
	}
	return err
}

// syncDir flushes a directory entry. A directory that is gone needs no flush.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// contextReader fails once its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
