package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Files shows the objects whose keys have no slash as a directory, which is how a
// model's checkpoint lies in a bucket. Names that no key can have do not exist.
// Operations fail once ctx is done.
func Files(ctx context.Context, b Backend) fs.FS { return files{ctx, b} }

type files struct {
	ctx     context.Context
	backend Backend
}

// Open implements fs.FS. "." is the directory.
func (f files) Open(name string) (fs.File, error) {
	if name == "." {
		entries, err := f.ReadDir(name)
		return &openDirectory{entries: entries}, err
	}
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	r, err := f.backend.Get(f.ctx, name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &openFile{r, info}, nil
}

// Stat implements fs.StatFS.
func (f files) Stat(name string) (fs.FileInfo, error) {
	if name == "." {
		return directoryInfo{}, nil
	}
	if !fs.ValidPath(name) || strings.Contains(name, "/") {
		return nil, pathError("stat", name, fs.ErrInvalid)
	}
	o, err := f.backend.Stat(f.ctx, name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return fileInfo{o}, nil
}

// ReadDir implements fs.ReadDirFS.
func (f files) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, pathError("readdir", name, fs.ErrInvalid)
	}
	var entries []fs.DirEntry
	for o, err := range f.backend.List(f.ctx, "") {
		if err != nil {
			return nil, pathError("readdir", name, err)
		}
		if !strings.Contains(o.Key, "/") {
			entries = append(entries, fs.FileInfoToDirEntry(fileInfo{o}))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// pathError is an error of a file system: what is not found does not exist.
func pathError(op, name string, err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalidKey) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// fileInfo describes an object as a file.
type fileInfo struct{ object Object }

func (i fileInfo) Name() string       { return i.object.Key }
func (i fileInfo) Size() int64        { return i.object.Bytes }
func (i fileInfo) Mode() fs.FileMode  { return 0o444 }
func (i fileInfo) ModTime() time.Time { return i.object.ModTime }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// openFile is an object that is being read.
type openFile struct {
	io.ReadCloser
	info fs.FileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// directoryInfo describes the directory.
type directoryInfo struct{}

func (directoryInfo) Name() string       { return "." }
func (directoryInfo) Size() int64        { return 0 }
func (directoryInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (directoryInfo) ModTime() time.Time { return time.Time{} }
func (directoryInfo) IsDir() bool        { return true }
func (directoryInfo) Sys() any           { return nil }

// openDirectory is the directory, being listed.
type openDirectory struct {
	directoryInfo
	entries []fs.DirEntry
}

func (d *openDirectory) Stat() (fs.FileInfo, error) { return directoryInfo{}, nil }
func (d *openDirectory) Close() error               { return nil }
func (d *openDirectory) Read([]byte) (int, error)   { return 0, pathError("read", ".", fs.ErrInvalid) }

// ReadDir implements fs.ReadDirFile.
func (d *openDirectory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	some := d.entries[:n]
	d.entries = d.entries[n:]
	return some, nil
}
