package artifacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// leaseIdle is how long a lease that has run out, but was not released, counts
// as held by a collection: its attempt may only be slow to renew it. An attempt
// that would take the stage over does not wait for this.
const leaseIdle = time.Hour

// removeBlobs removes the blobs that nobody names.
func (c *collection) removeBlobs(ctx context.Context, seen *census) error {
	for _, o := range seen.blobs {
		c.found(Garbage{GarbageBlob, o.Key, o.Bytes})
	}
	if c.o.DryRun {
		return nil
	}
	part := 0
	for chunk := range slices.Chunk(seen.blobs, maxCondemned) {
		part++
		if err := c.removeChunk(ctx, fmt.Sprintf("%s-%d", c.name, part), chunk); err != nil {
			return err
		}
	}
	return nil
}

// removeChunk is steps 1 to 4 of the protocol in collections.go.
func (c *collection) removeChunk(ctx context.Context, name string, blobs []Object) error {
	s := c.store
	list := &condemnedList{Version: documentVersion}
	for _, o := range blobs {
		list.Blobs = append(list.Blobs, path.Base(o.Key))
	}
	slices.Sort(list.Blobs)
	data, err := seal(list)
	if err != nil {
		return err
	}
	// Well before writers stop heeding the list.
	limited, stop := context.WithTimeout(ctx, collectionLife/2)
	defer stop()
	if err := s.backend.Put(limited, condemnedKey(name), bytes.NewReader(data)); err != nil {
		return err
	}
	again, err := c.look(limited)
	if err == nil && len(again.unread) > 0 {
		err = errors.Join(again.unread...)
	}
	if err != nil { // no verdict has been given: the list may go at once
		return errors.Join(err, s.backend.Delete(context.WithoutCancel(ctx), condemnedKey(name)))
	}
	g, working := errgroup.WithContext(limited)
	g.SetLimit(parallel)
	for _, o := range blobs {
		if _, named := again.named[path.Base(o.Key)]; named {
			c.spared(o.Bytes)
			continue
		}
		g.Go(func() error { return c.removeBlob(working, name, o) })
	}
	if err := g.Wait(); err != nil {
		// A request may still be under way somewhere: the list stays until it
		// has lost its meaning, and a later collection takes it down.
		return err
	}
	return c.takeDown(ctx, name, list.Blobs)
}

func (c *collection) removeBlob(ctx context.Context, name string, o Object) error {
	s, digest := c.store, path.Base(o.Key)
	verdict, err := s.decide(ctx, name, digest, verdictRemoved)
	if err != nil {
		return err
	}
	if verdict != verdictRemoved {
		c.spared(o.Bytes)
		return nil
	}
	// This is a second line of defence, for stores whose lists lag behind: a
	// stage that relies on an old blob has stored it again, so that it is young.
	switch now, err := s.backend.Stat(ctx, o.Key); {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case !now.ModTime.Before(c.cutoff):
		c.spared(o.Bytes)
	default:
		if err := s.backend.Delete(ctx, o.Key); err != nil {
			return err
		}
	}
	return s.backend.Put(ctx, verdictKey(name, digest), strings.NewReader(verdictGone))
}

// takeDown removes a list and then its verdicts. A verdict without its list has
// no effect, whereas a list without its verdicts would let writers claim blobs
// that are gone.
func (c *collection) takeDown(ctx context.Context, name string, digests []string) error {
	backend := c.store.backend
	if err := backend.Delete(ctx, condemnedKey(name)); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, d := range digests {
		g.Go(func() error { return backend.Delete(ctx, verdictKey(name, d)) })
	}
	return g.Wait()
}

// removeUploads removes what was never finished.
func (c *collection) removeUploads(ctx context.Context) error {
	uploads, ok := c.store.backend.(Uploads)
	if !ok {
		return nil
	}
	for u, err := range uploads.Uploads(ctx) {
		if err != nil {
			return err
		}
		if !u.ModTime.Before(c.cutoff) {
			continue
		}
		c.found(Garbage{GarbageUpload, u.Key, u.Bytes})
		if c.o.DryRun {
			continue
		}
		if err := uploads.Abort(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// tidyStage removes the superseded leases of a stage and the checkpoints that
// it does not need.
func (c *collection) tidyStage(ctx context.Context, fingerprint string, st *stageObjects) error {
	if err := c.removeLeases(ctx, st); err != nil {
		return err
	}
	drop := c.droppable(fingerprint, st)
	if len(drop) == 0 {
		return nil
	}
	held, err := c.store.newestLease(ctx, fingerprint)
	if err != nil {
		return err
	}
	if held.Token > 0 && !held.Released && c.newest(st.leases).After(c.now.Add(-max(c.o.OlderThan, leaseIdle))) {
		return nil
	}
	if st.manifest {
		// "Finished" is a whole artifact: one whose blobs are gone is about to
		// be made again, from its checkpoints if there are some.
		switch _, err := c.store.Lookup(ctx, fingerprint); {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged):
			return nil
		case err != nil:
			return err
		}
	}
	for _, g := range drop {
		c.found(g)
	}
	if c.o.DryRun {
		return nil
	}
	// The lease is held while checkpoints are removed. An attempt that begins
	// meanwhile takes it over, and then nothing more is removed.
	l, err := c.store.acquire(ctx, fingerprint, Claim{Owner: "gc/" + c.name, Attempt: 1})
	if errors.Is(err, ErrLeaseHeld) {
		for _, g := range drop {
			c.spared(g.Bytes)
		}
		return nil
	}
	if err != nil {
		return err
	}
	for i, g := range drop {
		if err := l.check(ctx); err != nil {
			if !errors.Is(err, ErrLeaseLost) {
				return err
			}
			for _, g := range drop[i:] {
				c.spared(g.Bytes)
			}
			return nil
		}
		if err := c.store.backend.Delete(ctx, g.Key); err != nil {
			return err
		}
	}
	return l.Release(ctx)
}

func (c *collection) newest(objects []Object) (t time.Time) {
	for _, o := range objects {
		if o.ModTime.After(t) {
			t = o.ModTime
		}
	}
	return t
}

// droppable lists the objects of checkpoints that may be removed. The marker of
// each checkpoint comes first, so that a half-deleted one does not count.
func (c *collection) droppable(fingerprint string, st *stageObjects) (drop []Garbage) {
	prefix := stageKey(fingerprint, "checkpoints", "")
	dirs := map[string][]Object{}
	idle := c.newest(st.checkpoints).Before(c.cutoff)
	for _, o := range st.checkpoints {
		dir, _, _ := strings.Cut(o.Key[len(prefix):], "/")
		dirs[dir] = append(dirs[dir], o)
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		objects := dirs[dir]
		slices.SortFunc(objects, func(a, b Object) int {
			if marked := path.Base(a.Key) == markerName; marked != (path.Base(b.Key) == markerName) {
				if marked {
					return -1
				}
				return 1
			}
			return strings.Compare(a.Key, b.Key)
		})
		class, whole := "", path.Base(objects[0].Key) == markerName || dir == latestName
		switch {
		case st.manifest && idle:
			class = GarbageCheckpoint
		case !whole && c.newest(objects).Before(c.cutoff):
			class = GarbageTorn
		case !st.manifest && idle && c.o.Unfinished:
			class = GarbageUnfinished
		}
		for _, o := range objects {
			if class == "" {
				c.keepObject(o)
			} else {
				drop = append(drop, Garbage{class, o.Key, o.Bytes})
			}
		}
	}
	return drop
}

func (c *collection) keepObject(o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Kept.add(o.Bytes)
}

// removeLeases removes all leases of a stage but the newest. That one stays for
// ever: tokens never decrease, so that an attempt that sleeps for days cannot
// meet its own number again.
func (c *collection) removeLeases(ctx context.Context, st *stageObjects) error {
	slices.SortFunc(st.leases, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	for i, o := range st.leases {
		if i == len(st.leases)-1 || !o.ModTime.Before(c.cutoff) {
			c.keepObject(o)
			continue
		}
		if err := c.remove(ctx, Garbage{GarbageLease, o.Key, o.Bytes}); err != nil {
			return err
		}
	}
	return nil
}
