package experiments

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// Remote says whether a backbone.path names objects in a bucket.
func Remote(path string) bool { return strings.HasPrefix(path, "s3://") }

// remote is the host as it sees the files under a URI, by their names.
func (h Host) remote(uri string) (Host, error) {
	if h.Remote == nil {
		return h, errors.New("buckets cannot be read here")
	}
	files, err := h.Remote(uri)
	if err != nil {
		return h, err
	}
	h.Open = func(path string) (io.ReadCloser, error) { return files.Open(path) }
	h.Stat = func(path string) (fs.FileInfo, error) { return fs.Stat(files, path) }
	h.ReadDir = func(path string) ([]fs.DirEntry, error) { return fs.ReadDir(files, path) }
	h.Readlink = nil
	h.uri = strings.TrimSuffix(uri, "/")
	return h, nil
}

// GGUF says whether a backbone.path names a GGUF file: weights and tokenizer in one.
func GGUF(path string) bool { return strings.HasSuffix(path, ".gguf") }

// SplitSource divides what a backbone's path or URI names into the directory, and the file in it: a GGUF file's name,
// "" for a directory.
func SplitSource(source string) (dir, file string) {
	if !GGUF(source) {
		return source, ""
	}
	at := strings.LastIndexFunc(source, func(r rune) bool { return r == '/' || r == filepath.Separator })
	if at < 0 {
		return ".", source
	}
	return source[:max(at, 1)], source[at+1:]
}
