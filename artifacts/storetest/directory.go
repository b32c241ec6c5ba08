package storetest

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
	"testing"

	"github.com/esclab/esclab/artifacts"
)

// Directory is a Backend on a local file system, for tests that need no
// service: objects are plain files at the path of their key. A write goes to a
// temporary file, which is then renamed. It keeps every promise of a Backend
// but one: nothing is flushed to the disk, so a power cut may lose objects.
type Directory struct {
	root, temp string
}

// OpenDirectory opens a directory as a backend and creates it if need be.
func OpenDirectory(t testing.TB, root string) *Directory {
	t.Helper()
	// Absolute, because the gateway changes the working directory.
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	d := &Directory{root: abs, temp: filepath.Join(abs, ".tmp")}
	if err := os.MkdirAll(d.temp, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// OpenStore opens a store whose objects and cache lie below dir.
func OpenStore(t testing.TB, dir string) *artifacts.Store {
	t.Helper()
	store, err := artifacts.New(OpenDirectory(t, filepath.Join(dir, "store")), artifacts.Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (d *Directory) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// fail names the operation and the key, and translates what is not found.
func (d *Directory) fail(op, key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // ENOTDIR: a parent is an object
		err = artifacts.ErrNotFound
	}
	return fmt.Errorf("%s %s in %s: %w", op, key, d.root, err)
}

// Location implements artifacts.Backend.
func (d *Directory) Location() string { return d.root }

// Put implements artifacts.Backend.
func (d *Directory) Put(ctx context.Context, key string, r io.Reader) error {
	if err := d.write(ctx, key, r, os.Rename); err != nil {
		return d.fail("put", key, err)
	}
	return nil
}

// PutIfAbsent implements artifacts.Backend. It needs hard links: link(2) is the
// one call that publishes a finished file and fails if the name is taken.
func (d *Directory) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	err := d.write(ctx, key, strings.NewReader(string(data)), os.Link)
	if errors.Is(err, fs.ErrExist) {
		err = artifacts.ErrExists
	}
	if err != nil {
		return d.fail("put if absent", key, err)
	}
	return nil
}

// write fills a temporary file and publishes it under key.
func (d *Directory) write(ctx context.Context, key string, r io.Reader, publish func(temp, path string) error) error {
	if err := artifacts.ValidKey(key); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.temp, "put-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after a rename there is nothing to remove
	_, err = io.Copy(f, artifacts.ContextReader(ctx, r))
	if err := errors.Join(err, f.Close(), ctx.Err()); err != nil {
		return err
	}
	for {
		err := os.MkdirAll(filepath.Dir(d.path(key)), 0o755)
		made := err == nil
		if made {
			err = publish(f.Name(), d.path(key))
		}
		// A concurrent Delete removes directories that are empty: before the file
		// gets there, or between two calls of MkdirAll.
		gone := errors.Is(err, fs.ErrNotExist) || !made && errors.Is(err, fs.ErrExist)
		if !gone || ctx.Err() != nil {
			return err
		}
	}
}

// Get implements artifacts.Backend.
func (d *Directory) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if _, err := d.Stat(ctx, key); err != nil {
		return nil, err
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return nil, d.fail("get", key, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{artifacts.ContextReader(ctx, f), f}, nil
}

// Stat implements artifacts.Backend.
func (d *Directory) Stat(ctx context.Context, key string) (artifacts.Object, error) {
	err := errors.Join(ctx.Err(), artifacts.ValidKey(key))
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(d.path(key))
	}
	if err == nil && !info.Mode().IsRegular() {
		err = artifacts.ErrNotFound
	}
	if err != nil {
		return artifacts.Object{}, d.fail("stat", key, err)
	}
	return artifacts.Object{Key: key, Bytes: info.Size(), ModTime: info.ModTime()}, nil
}

// List implements artifacts.Backend.
func (d *Directory) List(ctx context.Context, prefix string) iter.Seq2[artifacts.Object, error] {
	return func(yield func(artifacts.Object, error) bool) {
		err := artifacts.ValidPrefix(prefix)
		if err == nil {
			err = filepath.WalkDir(d.path(prefix), func(path string, e fs.DirEntry, err error) error {
				var info fs.FileInfo
				if err = errors.Join(err, ctx.Err()); err == nil {
					info, err = e.Info()
				}
				switch {
				case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
					return nil
				case err != nil:
					return err
				case path == d.temp:
					return fs.SkipDir
				case info.IsDir():
					return nil
				}
				key := filepath.ToSlash(strings.TrimPrefix(path, d.root+string(filepath.Separator)))
				if !yield(artifacts.Object{Key: key, Bytes: info.Size(), ModTime: info.ModTime()}, nil) {
					return fs.SkipAll
				}
				return nil
			})
		}
		if err != nil {
			yield(artifacts.Object{}, d.fail("list", prefix, err))
		}
	}
}

// Delete implements artifacts.Backend. It also removes the directories that it
// empties.
func (d *Directory) Delete(ctx context.Context, key string) error {
	err := errors.Join(ctx.Err(), artifacts.ValidKey(key))
	if err == nil {
		err = os.Remove(d.path(key))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.fail("delete", key, err)
	}
	for dir := filepath.Dir(d.path(key)); dir != d.root && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
	return nil
}
