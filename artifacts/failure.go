package artifacts

import (
	"bytes"
	"context"
	"fmt"
)

// KeepFailure stores a JSON document that says why an attempt failed, beside the
// stage's checkpoints, and returns its key. There is one for each lease, so that
// a later attempt leaves its own. It stays when the stage succeeds after all.
func (l *Lease) KeepFailure(ctx context.Context, document any) (string, error) {
	data, err := encodeJSON(document)
	if err != nil {
		return "", fmt.Errorf("keep the failure of stage %.12s: %w", l.fingerprint, err)
	}
	if err := l.Renew(ctx); err != nil {
		return "", fmt.Errorf("keep the failure of stage %.12s: %w", l.fingerprint, err)
	}
	key := stageKey(l.fingerprint, "failed", fmt.Sprintf("%010d.json", l.record.Token))
	if err := l.store.backend.Put(ctx, key, bytes.NewReader(data)); err != nil {
		return "", fmt.Errorf("keep the failure of stage %.12s: %w", l.fingerprint, err)
	}
	return key, nil
}
