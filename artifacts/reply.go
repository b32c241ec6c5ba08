package artifacts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// keptReply is the answer to an expensive question, a small value under a key
// that its users compute from the question. It carries its own digest, and its
// key, so that an object in the wrong place is not taken for another's.
type keptReply struct {
	Version int             `json:"version"`
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
	Digest  string          `json:"digest"`
}

func (r *keptReply) digest() *string { return &r.Digest }

// replyKey is where the reply of a space (such as "judge") lies.
func replyKey(space, key string) (string, error) {
	if err := validDigest("key of a reply", key); err != nil {
		return "", err
	}
	name := "cache/" + space + "/" + key[:2] + "/" + key + ".json"
	return name, ValidKey(name)
}

// Reply returns the JSON value that is kept under a key (a lower-case
// hexadecimal SHA-256) of a space, as compact JSON. The error wraps ErrNotFound
// where there is none and ErrCorrupt where it is damaged.
func (s *Store) Reply(ctx context.Context, space, key string) ([]byte, error) {
	name, err := replyKey(space, key)
	if err != nil {
		return nil, err
	}
	data, err := s.readObject(ctx, name)
	if err != nil {
		return nil, err
	}
	var r keptReply
	if err := unseal(name, data, &r); err != nil {
		return nil, err
	}
	if r.Key != key {
		return nil, &CorruptError{name, fmt.Sprintf("it is the reply of key %s", r.Key)}
	}
	var value bytes.Buffer
	if err := json.Compact(&value, r.Value); err != nil {
		return nil, &CorruptError{name, err.Error()}
	}
	return value.Bytes(), nil
}

// PutReply keeps a JSON value under a key of a space, unless there is one that
// is whole, and returns the one that is kept: of several writers the first
// stays, and all get its value.
func (s *Store) PutReply(ctx context.Context, space, key string, value []byte) ([]byte, error) {
	name, err := replyKey(space, key)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return nil, fmt.Errorf("put %s: the value is no JSON: %w", name, err)
	}
	data, err := seal(&keptReply{Version: documentVersion, Key: key, Value: compact.Bytes()})
	if err != nil {
		return nil, fmt.Errorf("put %s: %w", name, err)
	}
	err = s.backend.PutIfAbsent(ctx, name, data)
	if !errors.Is(err, ErrExists) {
		return compact.Bytes(), err
	}
	first, err := s.Reply(ctx, space, key)
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return first, err
	}
	return compact.Bytes(), s.backend.Put(ctx, name, bytes.NewReader(data)) // in place of the damaged one
}
