// Package results says what an artifact holds: the files of each kind of stage,
// the types of their rows, and how they are written and read. Stages write
// through it; reports and commands read through it, from the store alone.
package results

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
)

// WriteJSON writes a value as a file of an artifact: indented, and with HTML's
// characters as they are.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(v)
}

// WriteRows writes one line of JSON a row, with HTML's characters as they are.
func WriteRows[T any](w io.Writer, rows []T) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, row := range rows {
		if err := e.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// DecodeRows reads what WriteRows wrote.
func DecodeRows[T any](data []byte) ([]T, error) {
	var rows []T
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		var row T
		err := d.Decode(&row)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(rows)+1, err)
		}
		rows = append(rows, row)
	}
}

// Files gives the files of an artifact by their names. One that is not there is
// an error.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// Dir is a directory with the files of an artifact, as a stage gets its inputs.
type Dir string

// ReadFile reads a file of the directory.
func (d Dir) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), name))
}

// Artifact is a finished stage's in the store.
type Artifact struct {
	artifacts.Manifest
	ctx   context.Context // as in artifacts.Files: what Files asks for has none
	store *artifacts.Store
}

// Open finds what a finished stage has left. An error that wraps
// artifacts.ErrNotFound means that the stage is not done, one that wraps
// artifacts.ErrDamaged that it has to be done again.
func Open(ctx context.Context, store *artifacts.Store, fingerprint string) (Artifact, error) {
	m, err := store.Lookup(ctx, fingerprint)
	return Artifact{m, ctx, store}, err
}

// Checkout gives a directory the files of a finished stage's artifact, verified,
// under their own names: all of them, or only those that are asked for and there.
// They are links into the store's cache.
func Checkout(ctx context.Context, store *artifacts.Store, fingerprint, dir string, only ...string) (Artifact, error) {
	a, err := Open(ctx, store, fingerprint)
	if err != nil {
		return a, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return a, err
	}
	for file, ref := range a.Files {
		if len(only) > 0 && !slices.Contains(only, file) {
			continue
		}
		local, err := store.LocalFile(ctx, ref)
		if err != nil {
			return a, fmt.Errorf("%s: %w", file, err)
		}
		if err := os.Symlink(local, filepath.Join(dir, file)); err != nil && !errors.Is(err, os.ErrExist) {
			return a, err
		}
	}
	return a, nil
}

// maxRead bounds the files that are read whole into memory, in bytes.
const maxRead = 4 << 30

// ReadFile gives the verified content of a file.
func (a Artifact) ReadFile(name string) ([]byte, error) {
	ref, err := a.File(name)
	if err != nil {
		return nil, err
	}
	return a.store.ReadAll(a.ctx, ref, maxRead)
}

// ReadJSON decodes a file.
func ReadJSON(from Files, name string, into any) error {
	data, err := from.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ReadRows decodes a file of rows.
func ReadRows[T any](from Files, name string) ([]T, error) {
	data, err := from.ReadFile(name)
	if err != nil {
		return nil, err
	}
	rows, err := DecodeRows[T](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}

// ReadPairs reads the pairs of a mine artifact.
func ReadPairs(from Files) ([]esc.Pair, error) {
	data, err := from.ReadFile(FilePairs)
	if err != nil {
		return nil, err
	}
	return esc.ReadPairs(FilePairs, bytes.NewReader(data))
}

// ReadMined reads a mine artifact: the pairs, and what became of the samples.
func ReadMined(from Files) (pairs []esc.Pair, found Mined, err error) {
	if pairs, err = ReadPairs(from); err == nil {
		err = ReadJSON(from, FileMined, &found)
	}
	return pairs, found, err
}

// ReadDialogues reads a part of a corpus artifact: FileTrain, FileValid or
// FileTest.
func ReadDialogues(from Files, part string) ([]esc.Dialogue, error) {
	data, err := from.ReadFile(part)
	if err != nil {
		return nil, err
	}
	return esc.ReadDialogues(part, bytes.NewReader(data), esc.DefaultLimits())
}
