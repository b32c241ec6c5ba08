package artifacts

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// compared remembers which blobs this process has read and found right, by key
// and time of writing.
type compared struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (c *compared) knows(o Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.seen[o.Key]
	return ok && at.Equal(o.ModTime)
}

func (c *compared) add(o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]time.Time{}
	}
	c.seen[o.Key] = o.ModTime
}

// LookupWhole is Lookup followed by Verify, but reads a blob only once in the
// life of the process, unless it has been written again since. Many runs ask
// about the same backbone.
func (s *Store) LookupWhole(ctx context.Context, fingerprint string) (Manifest, error) {
	m, err := s.readManifest(ctx, fingerprint)
	if err != nil {
		return Manifest{}, err
	}
	if err := s.checkFiles(ctx, &m, s.checkOnce); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

func (s *Store) checkOnce(ctx context.Context, ref Ref) error {
	if err := ref.validate(); err != nil {
		return &CorruptError{ref.Key, err.Error()}
	}
	o, err := s.backend.Stat(ctx, ref.Key)
	if err != nil {
		return err
	}
	if o.Bytes != ref.Bytes {
		return &CorruptError{ref.Key, fmt.Sprintf("%d bytes, want %d", o.Bytes, ref.Bytes)}
	}
	if s.compared.knows(o) {
		return nil
	}
	if err := s.VerifyRef(ctx, ref); err != nil {
		return err
	}
	s.compared.add(o)
	return nil
}

// Manifest returns the manifest of a stage without checking its blobs, for
// callers that need only its metrics. Errors are those of Lookup.
func (s *Store) Manifest(ctx context.Context, fingerprint string) (Manifest, error) {
	return s.readManifest(ctx, fingerprint)
}
