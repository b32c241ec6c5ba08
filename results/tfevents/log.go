package tfevents

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Log is the event file of a training that goes on. Whoever looks at it meanwhile
// finds whole records, but for the last one perhaps.
type Log struct {
	f    *os.File
	w    *Writer
	last map[string]int64 // newest step of each tag
}

// OpenLog opens the event file in a directory below root to append to it, and
// creates both where they are not there. What a killed process has left of a record
// is cut off.
func OpenLog(root *os.Root, dir string) (*Log, error) {
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(filepath.Join(dir, FileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f, w: &Writer{f}, last: map[string]int64{}}
	if err := l.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return l, nil
}

// begin reads what is there, and goes to its end.
func (l *Log) begin() error {
	whole, err := Read(l.f, func(e Event) {
		for _, s := range e.Scalars {
			l.last[s.Tag] = max(l.last[s.Tag], e.Step)
		}
	})
	if errors.Is(err, ErrTorn) {
		err = l.f.Truncate(whole)
	}
	if err == nil {
		_, err = l.f.Seek(whole, io.SeekStart)
	}
	if err == nil && whole == 0 {
		l.w, err = NewWriter(l.f, now())
	}
	return err
}

// Scalars appends the values at a step, counted from 1, with the time it is now.
// Values of steps that are there already are not written again: a training that
// goes on at a checkpoint takes the steps after it once more, to the same values.
func (l *Log) Scalars(step int64, scalars ...Scalar) error {
	var fresh []Scalar
	for _, s := range scalars {
		if step > l.last[s.Tag] {
			l.last[s.Tag] = step
			fresh = append(fresh, s)
		}
	}
	return l.w.Scalars(step, now(), fresh...)
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }
