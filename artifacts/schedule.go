package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A schedule's files are its experiments, as they were when the schedule was
// made, and the records of its nights:
//
//	schedules/<id>/experiments/<sha256>.yaml
//	schedules/<id>/nights/<night>.json, .md

func scheduleKey(id string, name string) (string, error) {
	schedule, err := EscapeSegment(id)
	if err != nil {
		return "", fmt.Errorf("schedule ID: %w", err)
	}
	path, err := escapePath(name)
	if err != nil {
		return "", fmt.Errorf("file of schedule %s: %w", id, err)
	}
	if strings.HasSuffix(path, digestSuffix) {
		return "", fmt.Errorf("%w: file of schedule %s: %s is reserved for digests", ErrInvalidKey, id, name)
	}
	return "schedules/" + schedule + "/" + path, nil
}

// PutScheduleFile stores a small file of a schedule and replaces one of the
// same name. name is a clean relative path.
func (s *Store) PutScheduleFile(ctx context.Context, id, name string, data []byte) (Ref, error) {
	key, err := scheduleKey(id, name)
	if err != nil {
		return Ref{}, err
	}
	if err := s.putDigested(ctx, key, data); err != nil {
		return Ref{}, err
	}
	sum := sha256.Sum256(data)
	return Ref{Key: key, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data))}, nil
}

// GetScheduleFile returns the verified content of a file of a schedule. The
// error wraps ErrNotFound if there is none and ErrCorrupt if it is not what was
// put.
func (s *Store) GetScheduleFile(ctx context.Context, id, name string) ([]byte, error) {
	key, err := scheduleKey(id, name)
	if err != nil {
		return nil, err
	}
	return s.getDigested(ctx, key)
}

// ListScheduleFiles returns the names of the files of a schedule, sorted.
func (s *Store) ListScheduleFiles(ctx context.Context, id string) ([]string, error) {
	schedule, err := EscapeSegment(id)
	if err != nil {
		return nil, fmt.Errorf("schedule ID: %w", err)
	}
	prefix := "schedules/" + schedule + "/"
	var files []string
	for o, err := range s.backend.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list files of schedule %s: %w", id, err)
		}
		if strings.HasSuffix(o.Key, digestSuffix) {
			continue
		}
		name, err := unescapePath(o.Key[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("list files of schedule %s: %w", id, err)
		}
		files = append(files, name)
	}
	slices.Sort(files)
	return files, nil
}
