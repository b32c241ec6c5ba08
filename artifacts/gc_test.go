package artifacts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// collect removes everything that is garbage, whatever its age, and returns the
// keys by class.
func (w *world) collect(t *testing.T, o artifacts.CollectOptions) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	o.Found = func(g artifacts.Garbage) { found[g.Class] = append(found[g.Class], g.Key) }
	c, err := w.Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for class, keys := range found {
		slices.Sort(keys)
		if c.Found[class].Objects != len(keys) {
			t.Errorf("%s: told of %d, counted %d", class, len(keys), c.Found[class].Objects)
		}
	}
	return found
}

func (w *world) lease(t *testing.T, stage string) *artifacts.Lease {
	t.Helper()
	l, err := w.Acquire(t.Context(), fingerprint(stage), artifacts.Claim{Owner: "owner/" + stage, Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func commit(t *testing.T, w *world, stage string, contents ...string) artifacts.ArtifactRef {
	t.Helper()
	l := w.lease(t, stage)
	m := artifacts.Manifest{Kind: "sft", Stage: stage, Files: map[string]artifacts.Ref{}}
	for i, c := range contents {
		m.Files[fmt.Sprint(i)] = w.blob(t, c)
	}
	ref, err := l.Commit(t.Context(), m, map[string]string{"who": "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ref
}

// aged makes everything in the store old: real stores stamp what they keep
// with their own clock.
type aged struct {
	artifacts.Backend
	by time.Duration
}

func (a aged) age(o artifacts.Object) artifacts.Object {
	if !strings.HasPrefix(o.Key, "gc/clock/") {
		o.ModTime = o.ModTime.Add(-a.by)
	}
	return o
}

func (a aged) Stat(ctx context.Context, key string) (artifacts.Object, error) {
	o, err := a.Backend.Stat(ctx, key)
	return a.age(o), err
}

func (a aged) List(ctx context.Context, prefix string) iter.Seq2[artifacts.Object, error] {
	return func(yield func(artifacts.Object, error) bool) {
		for o, err := range a.Backend.List(ctx, prefix) {
			if !yield(a.age(o), err) {
				return
			}
		}
	}
}

func TestCollect(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		backend := w.hooks.Backend
		// A finished stage with an old checkpoint, leases and a blob of a run.
		first := w.lease(t, "done")
		save := func(l *artifacts.Lease, step int64) {
			t.Helper()
			if _, err := l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("state"))}); err != nil {
				t.Fatal(err)
			}
		}
		save(first, 10)
		ref := commitUnder(t, w, first, "weights", "config")
		if err := first.Release(ctx); err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, backend, "stages/"+fingerprint("done")+"/leases/0000000000.json", []byte("{}"))
		named := w.blob(t, "named by a run")
		if _, err := w.PutRunFile(ctx, "demo", "plan.json", []byte(`{"blob": "`+named.SHA256+`"}`)); err != nil {
			t.Fatal(err)
		}
		// An unfinished one, held, with a whole and a torn checkpoint.
		held := w.lease(t, "held")
		save(held, 20)
		storetest.Write(t, backend, fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/state", fingerprint("held"), 30, 1), []byte("half"))
		// An unfinished one that nobody holds.
		left := w.lease(t, "left")
		save(left, 40)
		if err := left.Release(ctx); err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, backend, fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/state", fingerprint("left"), 50, 1), []byte("half"))
		orphan := w.blob(t, "orphan")
		if _, err := w.PutReply(ctx, "judge", fingerprint("question"), []byte(`"answer"`)); err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, backend, "checks/1234", []byte("x"))
		before := storetest.Keys(t, backend, "")

		day := artifacts.CollectOptions{OlderThan: 24 * time.Hour}
		if found := w.collect(t, day); len(found) != 0 {
			t.Errorf("young: %q", found)
		}
		w.hooks.Backend = aged{backend, 25 * time.Hour}
		dry := day
		dry.DryRun = true
		want := map[string][]string{
			artifacts.GarbageBlob:    {orphan.Key},
			artifacts.GarbageLease:   {"stages/" + fingerprint("done") + "/leases/0000000000.json"},
			artifacts.GarbageRemains: {"checks/1234"},
			artifacts.GarbageTorn:    {fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/state", fingerprint("left"), 50, 1)},
		}
		var checkpoint []string
		for _, k := range before {
			if strings.HasPrefix(k, "stages/"+fingerprint("done")+"/checkpoints/") {
				checkpoint = append(checkpoint, k)
			}
		}
		want[artifacts.GarbageCheckpoint] = checkpoint
		// The lease of "held" is as old as everything: what counts is that it
		// was not released, so it is young again.
		w.hooks.Backend = backend
		if err := held.Renew(ctx); err != nil {
			t.Fatal(err)
		}
		w.hooks.Backend = except{aged{backend, 25 * time.Hour}, "stages/" + fingerprint("held") + "/leases/"}
		if found := w.collect(t, dry); !equal(found, want) {
			t.Errorf("dry run found %q, want %q", found, want)
		}
		if after := storetest.Keys(t, backend, ""); !slices.Equal(before, after) {
			t.Errorf("a dry run changed the store:\n%q\n%q", before, after)
		}
		if found := w.collect(t, day); !equal(found, want) {
			t.Errorf("found %q, want %q", found, want)
		}
		gone := slices.Concat(want[artifacts.GarbageBlob], want[artifacts.GarbageCheckpoint], want[artifacts.GarbageLease], want[artifacts.GarbageRemains], want[artifacts.GarbageTorn])
		for _, k := range storetest.Keys(t, backend, "") {
			if slices.Contains(gone, k) {
				t.Errorf("%s is still there", k)
			}
		}
		if err := whole(ctx, w.Store, ref); err != nil {
			t.Errorf("the artifact: %v", err)
		}
		for stage, step := range map[string]int64{"held": 20, "left": 40} {
			if c, _, err := w.LatestCheckpoint(ctx, fingerprint(stage)); err != nil || c.Step != step {
				t.Errorf("checkpoint of %s: %+v, %v", stage, c, err)
			}
		}
		if _, err := w.ReadAll(ctx, named, 100); err != nil {
			t.Errorf("what a run names: %v", err)
		}
		if found := w.collect(t, day); len(found) != 0 {
			t.Errorf("the second time: %q", found)
		}
		all := day
		all.Unfinished, all.Replies = true, true
		found := w.collect(t, all)
		if len(found[artifacts.GarbageReply]) != 1 || len(found[artifacts.GarbageUnfinished]) != 3 || len(found) != 2 {
			t.Errorf("with everything: %q", found)
		}
		if _, _, err := w.LatestCheckpoint(ctx, fingerprint("held")); err != nil {
			t.Errorf("the held stage lost its checkpoint: %v", err)
		}
	})
}

// except is a backend below which one prefix has not aged.
type except struct {
	aged
	prefix string
}

func (e except) List(ctx context.Context, prefix string) iter.Seq2[artifacts.Object, error] {
	return func(yield func(artifacts.Object, error) bool) {
		for o, err := range e.Backend.List(ctx, prefix) {
			if !strings.HasPrefix(o.Key, e.prefix) {
				o = e.age(o)
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

func equal(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if !slices.Equal(a[k], b[k]) {
			return false
		}
	}
	return true
}

func commitUnder(t *testing.T, w *world, l *artifacts.Lease, contents ...string) artifacts.ArtifactRef {
	t.Helper()
	m := artifacts.Manifest{Kind: "sft", Stage: "sft/vm", Files: map[string]artifacts.Ref{}}
	for i, c := range contents {
		m.Files[fmt.Sprint(i)] = w.blob(t, c)
	}
	ref, err := l.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestCollectUploads: uploads that were never finished go, young ones stay.
func TestCollectUploads(t *testing.T) {
	g := storetest.StartGateway(t)
	config := g.Config()
	config.Prefix = "team"
	b := g.Open(t, config)
	g.LeaveUpload(t, config, "team/blobs/half", storetest.Bytes(5<<20, 1))
	g.LeaveUpload(t, config, "other/half", storetest.Bytes(5<<20, 2)) // not in our prefix
	s, err := artifacts.New(b, artifacts.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Collect(t.Context(), artifacts.CollectOptions{OlderThan: time.Hour})
	if err != nil || len(c.Found) != 0 {
		t.Errorf("young: %+v, %v", c, err)
	}
	time.Sleep(1100 * time.Millisecond) // uploads are stamped to the second
	if c, err = s.Collect(t.Context(), artifacts.CollectOptions{}); err != nil || c.Found[artifacts.GarbageUpload] != (artifacts.Amount{Objects: 1, Bytes: 5 << 20}) {
		t.Errorf("collected %+v, %v; want the one upload of 5 MiB below the prefix", c, err)
	}
	for u, err := range b.Uploads(t.Context()) {
		t.Errorf("still there: %+v, %v", u, err)
	}
}

// TestCollectDamagedManifest: while a manifest cannot be read, its blobs are
// unknown and none is removed.
func TestCollectDamagedManifest(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	commit(t, w, "good", "one")
	commit(t, w, "bad", "two")
	orphan := w.blob(t, "orphan")
	key := "stages/" + fingerprint("bad") + "/manifest.json"
	w.flip(t, key, 40)
	_, err := w.Collect(t.Context(), artifacts.CollectOptions{})
	if wantErr(t, err, artifacts.ErrDamaged); !strings.Contains(err.Error(), key) {
		t.Errorf("%v does not name %s", err, key)
	}
	if _, err := w.ReadAll(t.Context(), orphan, 100); err != nil {
		t.Error(err)
	}
	// Flipped on the way, once: it is read again.
	w.flip(t, key, 40)
	flips := atomic.Int64{}
	w.get = func(k string) error {
		if k == key && flips.Add(1) == 1 {
			return &artifacts.CorruptError{Key: k, Reason: "on the way"}
		}
		return nil
	}
	if found := w.collect(t, artifacts.CollectOptions{}); !slices.Equal(found[artifacts.GarbageBlob], []string{orphan.Key}) {
		t.Errorf("found %q, want only %s", found, orphan.Key)
	}
}

// TestReuseRacesCollect is the race that no age limit closes: a stage finds an
// old blob that nobody names and sends nothing, while a collection removes it.
// The collection stops at each of its requests in turn, and the stage does all
// of its work in that moment.
func TestReuseRacesCollect(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t, openDirectory(t))
		old := w.blob(t, "weights")
		intruder := w.Store
		pausing := &pausing{Backend: w.hooks.Backend, at: at}
		collector, err := artifacts.New(pausing, artifacts.Options{CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var committed artifacts.ArtifactRef
		var refused error
		work := func() { // what activities do: store, commit, and again if the commit says so
			l, err := intruder.Acquire(t.Context(), fingerprint("stage"), artifacts.Claim{Owner: "o"})
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				ref, err := intruder.PutFunc(t.Context(), artifacts.BytesFile([]byte("weights")))
				if err != nil {
					refused = err
					return
				}
				committed, refused = l.Commit(t.Context(), artifacts.Manifest{Kind: "k", Stage: "s", Files: map[string]artifacts.Ref{"w": ref}}, nil)
				if refused == nil {
					return
				}
			}
		}
		quick, stop := context.WithTimeout(t.Context(), time.Minute)
		pausing.do = func() {
			done := make(chan struct{})
			go func() { defer close(done); work() }()
			// Where the collection has the verdict, the stage waits for it: then
			// they go on side by side.
			select {
			case <-done:
			case <-time.After(150 * time.Millisecond):
			}
			pausing.done = done
		}
		_, err = collector.Collect(quick, artifacts.CollectOptions{})
		stop()
		if err != nil {
			t.Fatalf("pause %d: %v", at, err)
		}
		if pausing.done == nil { // fewer requests than that
			if at < 12 {
				t.Errorf("a collection has only %d requests", at)
			}
			if _, err := w.ReadAll(t.Context(), old, 100); !errors.Is(err, artifacts.ErrNotFound) {
				t.Errorf("undisturbed, the blob is still there: %v", err)
			}
			return
		}
		<-pausing.done
		if refused != nil {
			t.Errorf("pause %d: the stage did not come to an end: %v", at, refused)
			continue
		}
		if err := whole(t.Context(), intruder, committed); err != nil {
			t.Errorf("pause %d: a committed artifact lost a blob: %v", at, err)
		}
		if keys := storetest.Keys(t, w.hooks.Backend, "gc/condemned/"); len(keys) != 0 {
			t.Errorf("pause %d: left %q", at, keys)
		}
	}
}

// pausing is a backend that does something before one of its requests.
type pausing struct {
	artifacts.Backend
	at   int
	do   func()
	done chan struct{}
	mu   sync.Mutex
	n    int
}

func (p *pausing) count() {
	p.mu.Lock()
	p.n++
	now := p.n == p.at
	p.mu.Unlock()
	if now {
		p.do()
	}
}

func (p *pausing) Delete(ctx context.Context, key string) error {
	p.count()
	return p.Backend.Delete(ctx, key)
}
func (p *pausing) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	p.count()
	return p.Backend.PutIfAbsent(ctx, key, data)
}
func (p *pausing) Stat(ctx context.Context, key string) (artifacts.Object, error) {
	p.count()
	return p.Backend.Stat(ctx, key)
}
func (p *pausing) List(ctx context.Context, prefix string) iter.Seq2[artifacts.Object, error] {
	p.count()
	objects := p.Backend.List(ctx, prefix)
	return func(yield func(artifacts.Object, error) bool) {
		objects(yield)
		p.count()
	}
}
func (p *pausing) Put(ctx context.Context, key string, r io.Reader) error {
	p.count()
	return p.Backend.Put(ctx, key, r)
}

// TestCollectBesideStages runs collections without an age limit beside stages
// that share contents, for all they are worth: every artifact whose commit was
// acknowledged is whole in the end.
func TestCollectBesideStages(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		const workers, stages = 3, 6
		contents := make([][]byte, 10)
		for i := range contents {
			contents[i] = storetest.Bytes(2000, uint64(i))
			w.blob(t, string(contents[i])) // unnamed, as if long ago
		}
		stop := make(chan struct{})
		var collections, working sync.WaitGroup
		for range 2 {
			collections.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := w.Collect(ctx, artifacts.CollectOptions{}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var mu sync.Mutex
		var refs []artifacts.ArtifactRef
		again := 0
		for n := range workers {
			working.Go(func() {
				rng := rand.New(rand.NewPCG(7, uint64(n)))
				for i := range stages {
					l, err := w.Acquire(ctx, fingerprint(fmt.Sprint(n, i)), artifacts.Claim{Owner: "o"})
					if err != nil {
						t.Error(err)
						return
					}
					pick := rng.Perm(len(contents))[:3]
					for try := 1; ; try++ {
						m := artifacts.Manifest{Kind: "k", Stage: "s", Files: map[string]artifacts.Ref{}}
						for _, p := range pick {
							r, err := w.PutFunc(ctx, artifacts.BytesFile(contents[p]))
							if err != nil {
								t.Error(err)
								return
							}
							m.Files[fmt.Sprint(p)] = r
						}
						ref, err := l.Commit(ctx, m, nil)
						if errors.Is(err, artifacts.ErrDamaged) && try < 50 {
							mu.Lock()
							again++
							mu.Unlock()
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						refs = append(refs, ref)
						mu.Unlock()
						break
					}
				}
			})
		}
		working.Wait()
		close(stop)
		collections.Wait()
		for _, ref := range refs {
			if err := whole(ctx, w.Store, ref); err != nil {
				t.Errorf("an acknowledged artifact: %v", err)
			}
		}
		t.Logf("%d stages, %d commits tried again", len(refs), again)
		// A writer that was slow may have claimed a blob of a collection that was
		// over: that means nothing, and later collections take it away.
		if keys := storetest.Keys(t, w.hooks.Backend, "gc/condemned/"); len(keys) != 0 {
			t.Errorf("collections left %q", keys)
		}
		w.hooks.Backend = aged{w.hooks.Backend, 3 * time.Hour}
		w.collect(t, artifacts.CollectOptions{OlderThan: 100 * time.Hour})
		if keys := storetest.Keys(t, w.hooks.Backend, "gc/"); len(keys) != 0 {
			t.Errorf("still there: %q", keys)
		}
	})
}

// TestDeadCollection: what a killed collection leaves behind holds writers up
// for its life, not for ever, and the next collections take it away.
func TestDeadCollection(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	orphan := w.blob(t, "orphan")
	dying, die := context.WithCancel(t.Context())
	backend := w.hooks.Backend
	store, err := artifacts.New(&hooks{Backend: diesAtDelete{backend, orphan.Key, die}}, artifacts.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Collect(dying, artifacts.CollectOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("collection: %v", err)
	}
	if keys := storetest.Keys(t, backend, "gc/"); len(keys) != 2 {
		t.Fatalf("a killed collection left %q", keys)
	}
	quick, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	_, err = w.PutFunc(quick, artifacts.BytesFile([]byte("orphan")))
	wantErr(t, err, context.DeadlineExceeded)
	w.hooks.Backend = aged{backend, 2 * time.Hour}
	if _, err := w.PutFunc(t.Context(), artifacts.BytesFile([]byte("orphan"))); err != nil {
		t.Errorf("after its life: %v", err)
	}
	w.hooks.Backend = aged{backend, 3 * time.Hour}
	found := w.collect(t, artifacts.CollectOptions{OlderThan: 100 * time.Hour})
	if len(found[artifacts.GarbageRemains]) != 2 || len(storetest.Keys(t, backend, "gc/")) != 0 {
		t.Errorf("found %q, left %q", found, storetest.Keys(t, backend, "gc/"))
	}
}

// diesAtDelete ends a context when a key is about to be deleted.
type diesAtDelete struct {
	artifacts.Backend
	key string
	die func()
}

func (d diesAtDelete) Delete(ctx context.Context, key string) error {
	if key == d.key {
		d.die()
	}
	return d.Backend.Delete(ctx, key)
}
