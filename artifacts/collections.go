package artifacts

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Content is named by its digest, so a stage may want, at any moment, a blob
// that nobody has named for months: it finds the blob there and sends nothing,
// while a garbage collector that looked a moment before removes it. No age
// limit closes that gap for certain. This protocol does, with nothing of the
// backend but PutIfAbsent and reads that see the writes before them:
//
//	collector                                writer of a stage
//	1 publish the list of condemned blobs    a publish the manifest
//	2 read all manifests                     b read the lists of condemned blobs
//	3 a verdict for each that none names:    c a verdict for each of its own there:
//	  "removed", by PutIfAbsent                "kept", by PutIfAbsent
//	4 where the verdict is ours: delete      d all blobs are there, or the commit fails
//
// If the collector does not see the manifest in 2, then a came after 2, b after
// 1, and the writer sees the list. For each blob there is one verdict, and the
// first writer of it wins. A writer that loses fails its commit, with an error
// on which its caller stores the content again; a commit that succeeds names no
// blob that a collection will still remove.
//
// Writers also look before they rely on a blob that is there (putKnown), so
// that a commit hardly ever fails for this.
const (
	condemnedPrefix = "gc/condemned/" // one list a collection
	verdictPrefix   = "gc/verdicts/"  // one object a collection and blob

	verdictKept    = "kept\n"    // a writer's: the collection leaves the blob alone
	verdictRemoved = "removed\n" // the collection's: it is about to delete the blob
	verdictGone    = "gone\n"    // the collection's: it has deleted the blob, which may be stored again

	// collectionLife is how long a list of condemned blobs is valid, by the
	// store's clock. A collection stops deleting at half of it. What a crashed
	// collection left is ignored once the list is older than this.
	collectionLife = time.Hour
	// removalWait bounds how long a writer waits for a blob that is being
	// removed, before it fails and is tried again.
	removalWait = 30 * time.Second
	// maxCondemned bounds one list, which is read by each writer.
	maxCondemned = 20_000
)

// condemnedList is the object below condemnedPrefix.
type condemnedList struct {
	Version int      `json:"version"`
	Blobs   []string `json:"blobs"` // digests, sorted
	Digest  string   `json:"digest"`
}

func (c *condemnedList) digest() *string { return &c.Digest }

func condemnedKey(collection string) string { return condemnedPrefix + collection + ".json" }

func verdictKey(collection, digest string) string {
	return verdictPrefix + collection + "/" + digest
}

// keep claims blobs, by their digests, against every collection under way. It
// returns those that a collection is removing. The others stay, unless they were
// gone before the call: callers check that afterwards.
func (s *Store) keep(ctx context.Context, digests []string) (lost []string, err error) {
	for o, err := range s.backend.List(ctx, condemnedPrefix) {
		if err != nil {
			return nil, fmt.Errorf("look for collections: %w", err)
		}
		collection, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, condemnedPrefix), ".json")
		if !ok {
			continue
		}
		mine, err := s.condemned(ctx, o.Key, digests)
		if err != nil {
			return nil, err
		}
		stale, known := false, false
		for _, d := range mine {
			kept, err := s.claim(ctx, collection, d)
			if err != nil {
				return nil, err
			}
			if !kept && !known {
				now, err := s.storeNow(ctx)
				if err != nil {
					return nil, err
				}
				stale, known = now.Sub(o.ModTime) > collectionLife, true
			}
			if !kept && !stale {
				lost = append(lost, d)
			}
		}
	}
	return lost, nil
}

// condemned returns those of digests that a list names. A list that cannot be
// read counts as naming all of them, one that has been deleted as naming none.
func (s *Store) condemned(ctx context.Context, key string, digests []string) ([]string, error) {
	data, err := s.readObject(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	var list condemnedList
	if err != nil || unseal(key, data, &list) != nil {
		return digests, nil
	}
	var mine []string
	for _, d := range digests {
		if _, ok := slices.BinarySearch(list.Blobs, d); ok {
			mine = append(mine, d)
		}
	}
	return mine, nil
}

// claim has a collection keep a blob; false means that the collection had
// already decided to remove it.
func (s *Store) claim(ctx context.Context, collection, digest string) (kept bool, err error) {
	verdict, err := s.decide(ctx, collection, digest, verdictKept)
	return verdict != verdictRemoved, err
}

// decide writes a verdict unless there is one, and returns the one there is.
// The answer to a write may get lost, and the verdict may be deleted with its
// collection, so that what is read back counts and not what the write returned.
func (s *Store) decide(ctx context.Context, collection, digest, verdict string) (string, error) {
	key := verdictKey(collection, digest)
	for range acquireTries {
		err := s.backend.PutIfAbsent(ctx, key, []byte(verdict))
		if err == nil {
			return verdict, nil
		}
		if !errors.Is(err, ErrExists) {
			return "", err
		}
		data, err := s.readObject(ctx, key)
		if err == nil {
			return string(data), nil
		}
		if !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	return "", fmt.Errorf("decide on %s: the verdict keeps vanishing; is another program writing to this store?", key)
}

// keepOrWait is keep for content about to be stored: it waits while a
// collection is removing an older copy of it.
func (s *Store) keepOrWait(ctx context.Context, digest string) error {
	for deadline := time.Now().Add(removalWait); ; {
		lost, err := s.keep(ctx, []string{digest})
		if err != nil || len(lost) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("store %s: a garbage collection has been removing its older copy for %s; try again", blobKey(digest), removalWait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// confirm makes sure that a manifest which has just been published, or found,
// stays whole: no collection removes its blobs, and all of them are there.
func (s *Store) confirm(ctx context.Context, m *Manifest) error {
	digests := make([]string, 0, len(m.Files))
	for _, f := range m.Files {
		digests = append(digests, f.SHA256)
	}
	slices.Sort(digests)
	lost, err := s.keep(ctx, slices.Compact(digests))
	if err != nil {
		return err
	}
	for _, name := range m.names() {
		if ref := m.Files[name]; slices.Contains(lost, ref.SHA256) {
			return &DamagedError{m.Fingerprint, name, ref.Key, "a garbage collection is removing it, store it again"}
		}
	}
	return s.checkFiles(ctx, m, s.checkSize)
}

// storeNow is the time by the store's clock, which stamps the objects. It writes
// an object and reads when that was written.
func (s *Store) storeNow(ctx context.Context) (time.Time, error) {
	key := "gc/clock/" + rand.Text()
	if err := s.backend.Put(ctx, key, bytes.NewReader(nil)); err != nil {
		return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
	}
	o, err := s.backend.Stat(ctx, key)
	if err = errors.Join(err, s.backend.Delete(ctx, key)); err != nil {
		return time.Time{}, fmt.Errorf("ask the store for the time: %w", err)
	}
	return o.ModTime, nil
}
