package artifacts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// CollectOptions say what a garbage collection may remove.
type CollectOptions struct {
	// OlderThan is the age, by the store's clock, from which something that
	// nobody names is garbage. Work that is under way has things in the store
	// that nothing names yet: an age above that of the longest upload and
	// commit spares it from storing them again. It decides what a collection
	// costs others, not whether it is safe.
	OlderThan time.Duration
	// Unfinished also takes the checkpoints of stages that have no artifact and
	// that nobody has worked on for OlderThan: they begin anew if a run needs
	// them.
	Unfinished bool
	// Replies also takes the replies kept for the judge: they are asked, and
	// paid for, again.
	Replies bool
	// DryRun removes nothing.
	DryRun bool
	// Found is told of each piece of garbage, before it is removed. It is never
	// called twice at the same time. It may be nil.
	Found func(Garbage)
}

// Classes of garbage.
const (
	GarbageBlob       = "blobs that no manifest names"
	GarbageUpload     = "unfinished uploads"
	GarbageCheckpoint = "checkpoints of finished stages"
	GarbageTorn       = "torn checkpoints"
	GarbageUnfinished = "checkpoints of unfinished stages"
	GarbageLease      = "superseded leases"
	GarbageReply      = "kept replies"
	GarbageRemains    = "remains of checks and collections"
)

// GarbageClasses are the classes in the order of a summary.
var GarbageClasses = []string{GarbageBlob, GarbageUpload, GarbageCheckpoint, GarbageTorn, GarbageUnfinished, GarbageLease, GarbageReply, GarbageRemains}

// Garbage is an object that nobody needs.
type Garbage struct {
	Class string `json:"class"`
	Key   string `json:"key"`
	Bytes int64  `json:"bytes"`
}

// Collected is what a collection has found and removed.
type Collected struct {
	// Found counts what was found, by class. Without DryRun it has been
	// removed, except what Spared counts.
	Found map[string]Amount `json:"found"`
	// Spared is what was found and left: blobs that a stage claimed and stages
	// that an attempt took up meanwhile.
	Spared Amount `json:"spared"`
	// Kept is what stays in the store: objects that are no garbage.
	Kept Amount `json:"kept"`
}

// Amount is a number of objects and their size.
type Amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) { a.Objects++; a.Bytes += bytes }

// Collect removes garbage from the store: blobs that no manifest, and no
// document of a run, names; uploads that were never finished; checkpoints of
// finished stages and torn ones; leases that were taken over; what checks and
// earlier collections left. It may run beside stages, and beside another
// collection: see collections.go for blobs; checkpoints are removed under the
// stage's lease, which is not taken from anyone.
//
// Where a document cannot be read, its blobs are unknown: Collect then leaves
// all blobs alone, does the rest, and returns an error that names the document.
func (s *Store) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	c := &collection{store: s, o: o, out: Collected{Found: map[string]Amount{}}}
	if o.OlderThan < 0 {
		return c.out, fmt.Errorf("collect garbage: older than %s: not an age", o.OlderThan)
	}
	now, err := s.storeNow(ctx)
	if err == nil {
		c.now, c.cutoff = now, now.Add(-o.OlderThan)
		c.name = now.UTC().Format("20060102T150405") + "-" + rand.Text()
		err = c.run(ctx)
	}
	if err != nil {
		return c.out, fmt.Errorf("collect garbage in %s: %w", s.Location(), err)
	}
	return c.out, nil
}

// collection is one run of Collect.
type collection struct {
	store  *Store
	o      CollectOptions
	name   string
	now    time.Time // by the store's clock
	cutoff time.Time // what is younger stays

	mu  sync.Mutex // guards out and the calls of o.Found
	out Collected
}

// census is what a look at the whole store has shown.
type census struct {
	named  map[string]struct{} // digests of blobs
	blobs  []Object            // not named, old enough
	stages map[string]*stageObjects
	others []Garbage // replies and remains
	unread []error   // documents whose blobs are unknown
	live   Amount
}

// stageObjects is what there is of one stage.
type stageObjects struct {
	manifest    bool
	leases      []Object
	checkpoints []Object
}

func (c *collection) run(ctx context.Context) error {
	seen, err := c.look(ctx)
	if err != nil {
		return err
	}
	c.out.Kept = seen.live
	var failures []error
	if len(seen.unread) == 0 {
		failures = append(failures, c.removeBlobs(ctx, seen))
	} else {
		failures = append(failures, fmt.Errorf("no blob was removed, since it is unknown which ones these documents name "+
			"(run the experiment again, which makes the stage anew, or remove the document): %w", errors.Join(seen.unread...)))
	}
	failures = append(failures, c.removeUploads(ctx))
	for _, fingerprint := range slices.Sorted(maps.Keys(seen.stages)) {
		failures = append(failures, c.tidyStage(ctx, fingerprint, seen.stages[fingerprint]))
	}
	for _, g := range seen.others {
		failures = append(failures, c.remove(ctx, g))
	}
	return errors.Join(failures...)
}

// look lists the store and reads every document that may name blobs.
func (c *collection) look(ctx context.Context) (*census, error) {
	s := c.store
	seen := &census{named: map[string]struct{}{}, stages: map[string]*stageObjects{}}
	var blobs []Object
	var manifests, documents []string
	for o, err := range s.backend.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		top, rest, _ := strings.Cut(o.Key, "/")
		old := o.ModTime.Before(c.cutoff)
		switch top {
		case "blobs":
			blobs = append(blobs, o)
			continue
		case "stages":
			if key := c.ofStage(seen, rest, o); key != "" {
				manifests = append(manifests, key)
			}
			continue
		case "cache":
			if c.o.Replies && old {
				seen.others = append(seen.others, Garbage{GarbageReply, o.Key, o.Bytes})
				continue
			}
		case "gc":
			if c.now.Sub(o.ModTime) > 2*collectionLife {
				seen.others = append(seen.others, Garbage{GarbageRemains, o.Key, o.Bytes})
				continue
			}
		case "checks": // of esclab doctor
			if old {
				seen.others = append(seen.others, Garbage{GarbageRemains, o.Key, o.Bytes})
				continue
			}
		default: // documents of runs, and what this version does not know
			if o.Bytes <= maxDocument {
				documents = append(documents, o.Key)
			}
		}
		seen.live.add(o.Bytes)
	}
	// A list is removed before its verdicts: see takeDown.
	slices.SortFunc(seen.others, func(a, b Garbage) int { return cmp.Compare(a.Key, b.Key) })
	if err := c.readNames(ctx, seen, manifests, documents); err != nil {
		return nil, err
	}
	for _, o := range blobs {
		digest := o.Key[strings.LastIndexByte(o.Key, '/')+1:]
		_, named := seen.named[digest]
		if named || !o.ModTime.Before(c.cutoff) || validDigest("", digest) != nil || o.Key != blobKey(digest) {
			seen.live.add(o.Bytes)
			continue
		}
		seen.blobs = append(seen.blobs, o)
	}
	return seen, nil
}

// ofStage files an object below stages/; it returns the fingerprint if the
// object is a manifest.
func (c *collection) ofStage(seen *census, rest string, o Object) (manifestOf string) {
	fingerprint, name, _ := strings.Cut(rest, "/")
	if validDigest("", fingerprint) != nil {
		seen.live.add(o.Bytes)
		return ""
	}
	st := seen.stages[fingerprint]
	if st == nil {
		st = &stageObjects{}
		seen.stages[fingerprint] = st
	}
	switch {
	case name == "manifest.json":
		st.manifest = true
		seen.live.add(o.Bytes)
		return fingerprint
	case strings.HasPrefix(name, "checkpoints/"):
		st.checkpoints = append(st.checkpoints, o)
	case strings.HasPrefix(name, "leases/") && name != "leases/"+latestName:
		st.leases = append(st.leases, o)
	default:
		seen.live.add(o.Bytes)
	}
	return ""
}

// readNames reads the documents and collects the digests that they name.
func (c *collection) readNames(ctx context.Context, seen *census, manifests, documents []string) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, fingerprint := range manifests {
		g.Go(func() error {
			m, err := c.manifest(ctx, fingerprint)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrDamaged) {
				seen.unread = append(seen.unread, err)
				return nil
			}
			for _, f := range m.Files {
				seen.named[f.SHA256] = struct{}{}
			}
			return err
		})
	}
	for _, key := range documents {
		g.Go(func() error {
			data, err := c.store.readObject(ctx, key)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for digest := range digestsIn(data) {
				seen.named[digest] = struct{}{}
			}
			return nil
		})
	}
	return g.Wait()
}

// manifest reads a manifest, and reads it a second and a third time if it is
// damaged, since it may have been replaced meanwhile or changed on its way.
func (c *collection) manifest(ctx context.Context, fingerprint string) (m Manifest, err error) {
	for range 3 {
		if m, err = c.store.readManifest(ctx, fingerprint); !errors.Is(err, ErrDamaged) {
			break
		}
	}
	return m, err
}

// digestsIn finds everything in data that looks like the digest of a blob.
func digestsIn(data []byte) map[string]struct{} {
	found := map[string]struct{}{}
	words := bytes.FieldsFunc(data, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') })
	for _, w := range words {
		if len(w) == 64 {
			found[string(w)] = struct{}{}
		}
	}
	return found
}

// found counts a piece of garbage and reports it to CollectOptions.Found.
func (c *collection) found(g Garbage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.out.Found[g.Class]
	a.add(g.Bytes)
	c.out.Found[g.Class] = a
	if c.o.Found != nil {
		c.o.Found(g)
	}
}

func (c *collection) spared(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Spared.add(bytes)
}

// remove deletes one object that nobody can come to need.
func (c *collection) remove(ctx context.Context, g Garbage) error {
	c.found(g)
	if c.o.DryRun {
		return nil
	}
	return c.store.backend.Delete(ctx, g.Key)
}
