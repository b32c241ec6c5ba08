package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// owner is a kind of thing that has small files of its own, below <owner>s/<id>/.
type owner string

const (
	ofRun      owner = "run"
	ofSchedule owner = "schedule"
)

// prefix is where the files of one owner lie.
func (o owner) prefix(id string) (string, error) {
	escaped, err := EscapeSegment(id)
	if err != nil {
		return "", fmt.Errorf("%s ID: %w", o, err)
	}
	return string(o) + "s/" + escaped + "/", nil
}

// key is where a file lies. name is a clean relative path.
func (o owner) key(id, name string) (string, error) {
	prefix, err := o.prefix(id)
	if err != nil {
		return "", err
	}
	path, err := escapePath(name)
	if err != nil {
		return "", fmt.Errorf("file of %s %s: %w", o, id, err)
	}
	if strings.HasSuffix(path, digestSuffix) {
		return "", fmt.Errorf("%w: file of %s %s: %s is reserved for digests", ErrInvalidKey, o, id, name)
	}
	return prefix + path, nil
}

func (s *Store) putFileOf(ctx context.Context, o owner, id, name string, data []byte) (Ref, error) {
	key, err := o.key(id, name)
	if err != nil {
		return Ref{}, err
	}
	if err := s.putDigested(ctx, key, data); err != nil {
		return Ref{}, err
	}
	sum := sha256.Sum256(data)
	return Ref{Key: key, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data))}, nil
}

func (s *Store) getFileOf(ctx context.Context, o owner, id, name string) ([]byte, error) {
	key, err := o.key(id, name)
	if err != nil {
		return nil, err
	}
	return s.getDigested(ctx, key)
}

func (s *Store) listFilesOf(ctx context.Context, o owner, id string) ([]string, error) {
	prefix, err := o.prefix(id)
	if err != nil {
		return nil, err
	}
	var files []string
	for object, err := range s.backend.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list files of %s %s: %w", o, id, err)
		}
		if strings.HasSuffix(object.Key, digestSuffix) {
			continue
		}
		name, err := unescapePath(object.Key[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("list files of %s %s: %w", o, id, err)
		}
		files = append(files, name)
	}
	slices.Sort(files)
	return files, nil
}
