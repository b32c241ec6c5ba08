// Package whole writes files that are whole at every moment: a reader, or a
// crash, sees the file of before or all of the new one.
package whole

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Private is the mode of files that hold dialogues, and Public of those that hold
// none.
const (
	Private fs.FileMode = 0o600
	Public  fs.FileMode = 0o644
)

// Create writes a file through a temporary one beside it, which it renames. A
// symbolic link of that name is replaced, not followed.
func Create(path string, mode fs.FileMode, write func(io.Writer) error) error {
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // where it has not become the file
	err = write(part)
	if err := errors.Join(err, part.Chmod(mode), part.Sync(), part.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(part.Name(), path)
}

// Write does so with content that is there.
func Write(path string, mode fs.FileMode, data []byte) error {
	return Create(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
