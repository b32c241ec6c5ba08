package artifacts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// digestSuffix names the file beside a run's file that holds its SHA-256, in
// the format of sha256sum.
const digestSuffix = ".sha256"

func runKey(runID, name string) (string, error) { return ofRun.key(runID, name) }

// PutRunFile stores a small file of a run (its plan, its report) and replaces
// one of the same name. name is a clean relative path.
func (s *Store) PutRunFile(ctx context.Context, runID, name string, data []byte) (Ref, error) {
	return s.putFileOf(ctx, ofRun, runID, name, data)
}

// GetRunFile returns the verified content of a file of a run. The error wraps
// ErrNotFound if there is none and ErrCorrupt if it is not what was put.
func (s *Store) GetRunFile(ctx context.Context, runID, name string) ([]byte, error) {
	return s.getFileOf(ctx, ofRun, runID, name)
}

// putDigested stores an object that people read where it lies, so that its
// digest goes into a second object. A crash between the two writes leaves a
// digest that does not match, which the caller's retry corrects.
func (s *Store) putDigested(ctx context.Context, key string, data []byte) error {
	if len(data) > maxDocument {
		return fmt.Errorf("put %s: %d bytes, at most %d; store it as a blob", key, len(data), maxDocument)
	}
	if err := s.backend.Put(ctx, key, bytes.NewReader(data)); err != nil {
		return err
	}
	return s.backend.Put(ctx, key+digestSuffix, bytes.NewReader(digestLine(key, data)))
}

func digestLine(key string, data []byte) []byte {
	sum := sha256.Sum256(data)
	return fmt.Appendf(nil, "%x  %s\n", sum, key[strings.LastIndexByte(key, '/')+1:])
}

func (s *Store) getDigested(ctx context.Context, key string) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		data, err := s.readObject(ctx, key)
		if err != nil {
			return nil, err
		}
		stated, err := s.readObject(ctx, key+digestSuffix)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if want := digestLine(key, data); bytes.Equal(stated, want) {
			return data, nil
		} else if attempt == 5 {
			return nil, &CorruptError{key, fmt.Sprintf("its digest file says %q, want %q", stated, want)}
		}
		// A writer may be between its two writes.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read %s: %w", key, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ListRuns returns the IDs of the runs that have files, sorted.
func (s *Store) ListRuns(ctx context.Context) ([]string, error) {
	escaped, err := s.names(ctx, "runs/")
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	runs := make([]string, 0, len(escaped))
	for _, e := range escaped {
		id, err := unescapePath(e)
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		runs = append(runs, id)
	}
	slices.Sort(runs)
	return runs, nil
}

// RunFile is a run's file, and when it was written by the store's clock.
type RunFile struct {
	Run     string // ID
	Written time.Time
}

// RunsWith returns the runs that have a file of a name, the newest file first.
func (s *Store) RunsWith(ctx context.Context, name string) ([]RunFile, error) {
	escaped, err := escapePath(name)
	if err != nil {
		return nil, err
	}
	var found []RunFile
	for o, err := range s.backend.List(ctx, "runs/") {
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		run, file, _ := strings.Cut(strings.TrimPrefix(o.Key, "runs/"), "/")
		if file != escaped {
			continue
		}
		id, err := unescapePath(run)
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		found = append(found, RunFile{id, o.ModTime})
	}
	slices.SortFunc(found, func(a, b RunFile) int {
		return cmp.Or(b.Written.Compare(a.Written), strings.Compare(a.Run, b.Run))
	})
	return found, nil
}

// ListRunFiles returns the names of the files of a run, sorted.
func (s *Store) ListRunFiles(ctx context.Context, runID string) ([]string, error) {
	return s.listFilesOf(ctx, ofRun, runID)
}

// ListStages returns the fingerprints of the stages of which there is anything:
// an artifact, checkpoints or a lease. They are sorted.
func (s *Store) ListStages(ctx context.Context) ([]string, error) {
	names, err := s.names(ctx, "stages/")
	if err != nil {
		return nil, fmt.Errorf("list stages: %w", err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return validDigest("", n) != nil }), nil
}

// Blobs yields every blob, in no particular order.
func (s *Store) Blobs(ctx context.Context) iter.Seq2[Object, error] {
	return s.backend.List(ctx, "blobs/")
}

// names returns the distinct first segments below prefix, sorted.
func (s *Store) names(ctx context.Context, prefix string) ([]string, error) {
	seen := map[string]bool{}
	for o, err := range s.backend.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if name, _, ok := strings.Cut(o.Key[len(prefix):], "/"); ok {
			seen[name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}
