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

	"github.com/esclab/esclab/artifacts"
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

// maxRead bounds the files that are read whole into memory, in bytes.
const maxRead = 4 << 30

// ReadFile gives the verified content of a file of a finished stage. An error
// that wraps artifacts.ErrNotFound means that the stage is not done.
func ReadFile(ctx context.Context, store *artifacts.Store, fingerprint, name string) ([]byte, error) {
	m, err := store.Lookup(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	ref, err := m.File(name)
	if err != nil {
		return nil, err
	}
	return store.ReadAll(ctx, ref, maxRead)
}

// ReadJSON decodes a file of a finished stage, as ReadFile finds it.
func ReadJSON(ctx context.Context, store *artifacts.Store, fingerprint, name string, into any) error {
	data, err := ReadFile(ctx, store, fingerprint, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ReadRows decodes a file of rows of a finished stage, as ReadFile finds it.
func ReadRows[T any](ctx context.Context, store *artifacts.Store, fingerprint, name string) ([]T, error) {
	data, err := ReadFile(ctx, store, fingerprint, name)
	if err != nil {
		return nil, err
	}
	rows, err := DecodeRows[T](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}
