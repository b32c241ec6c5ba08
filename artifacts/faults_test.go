package artifacts_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/artifacts/storetest"
)

// unwell is a store behind a proxy, and the same bucket without one.
type unwell struct {
	*storetest.Proxy
	gateway *storetest.Gateway
	config  s3.Config
	direct  *world // as it is
	store   *world // through the proxy
}

func newUnwell(t *testing.T, g *storetest.Gateway) *unwell {
	t.Helper()
	u := &unwell{Proxy: storetest.StartProxy(t, g), gateway: g, config: g.Config()}
	u.direct = newWorld(t, g.Open(t, u.config))
	c := u.Through(u.config)
	c.MaxAttempts, c.PartBytes = 4, 5<<20
	u.store = newWorld(t, g.Open(t, c))
	return u
}

// TestLostAnswer: the service takes a conditional write, but its answer is
// lost. The SDK's retry then says that the object exists; the lease is ours.
func TestLostAnswer(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	conditional := func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }
	lost := u.On(conditional, 1, storetest.LoseAnswer)
	l := u.store.acquire(t, artifacts.Claim{})
	if lost() != 1 || l.Token() != 1 {
		t.Errorf("token %d after %d lost answers, want 1 after 1", l.Token(), lost())
	}
	lost = u.On(conditional, 1, storetest.LoseAnswer)
	if ref, err := l.Commit(t.Context(), u.store.manifest(t, "weights"), nil); err != nil || lost() != 1 {
		t.Errorf("commit: %+v, %v after %d lost answers, want a commit after 1", ref, err, lost())
	}
}

// TestFlippedBits: on the way to the service a changed byte is refused; on the
// way back, or where it lies, it is never taken for what was asked.
func TestFlippedBits(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	content := string(storetest.Bytes(6<<20, 9))
	u.On(storetest.Method(http.MethodPut), 1, storetest.FlipRequest(1234))
	ref, err := u.store.PutFunc(ctx, artifacts.BytesFile([]byte(content)))
	if err != nil {
		// Refused: nothing must be there.
		if !strings.Contains(err.Error(), "changed on their way") {
			t.Errorf("upload: %v", err)
		}
		if keys := storetest.Keys(t, u.direct.hooks.Backend, "blobs/"); len(keys) != 0 {
			t.Errorf("stored %q", keys)
		}
		ref = u.direct.blob(t, content)
	}
	u.On(storetest.Both(storetest.Method(http.MethodGet), storetest.Key(ref.Key)), 2, storetest.FlipAnswer(4321))
	_, err = u.store.ReadAll(ctx, ref, 10<<20)
	wantErr(t, err, artifacts.ErrCorrupt)
	_, err = u.store.LocalFile(ctx, ref)
	if wantErr(t, err, artifacts.ErrCorrupt); err != nil && !strings.Contains(err.Error(), ref.Key) {
		t.Errorf("%v does not name the key", err)
	}
	path, err := u.store.LocalFile(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != content {
		t.Errorf("local copy: %d bytes, %v", len(data), err)
	}
	// Where it lies: found by whoever looks, mended by the stage that is run
	// again, and named by an audit.
	done := commit(t, u.direct, "stage", content)
	u.direct.flip(t, ref.Key, 77)
	m, err := u.store.Lookup(ctx, done.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, u.store.Verify(ctx, m), artifacts.ErrDamaged)
	audit, err := u.store.Audit(ctx, []string{fingerprint("stage")}, nil, nil)
	if err != nil || len(audit.Damaged) != 1 || audit.Damaged[0].Key != ref.Key || audit.Damaged[0].File != "0" {
		t.Errorf("audit: %+v, %v", audit, err)
	}
	if _, err := u.store.PutFunc(ctx, artifacts.BytesFile([]byte(content))); err != nil {
		t.Error(err)
	}
	if err := u.store.Verify(ctx, m); err != nil {
		t.Errorf("not mended: %v", err)
	}
	// A manifest that is whole, and a blob behind it that is gone.
	u.direct.delete(t, ref.Key)
	_, err = u.store.Lookup(ctx, fingerprint("stage"))
	if wantErr(t, err, artifacts.ErrDamaged); err != nil && !strings.Contains(err.Error(), ref.Key) {
		t.Errorf("%v does not name the key", err)
	}
}

// TestTornUpload: a service that says yes and keeps half. A checkpoint like
// that is noticed before the ones that it would replace are removed.
func TestTornUpload(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	for _, keep := range []int{1, 2} {
		stage := fingerprint(fmt.Sprint("torn", keep))
		l, err := u.store.Acquire(ctx, stage, artifacts.Claim{Owner: "o", Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		for step := int64(1); step <= 4; step++ {
			good := step < 3
			if !good {
				u.On(storetest.Both(storetest.Method(http.MethodPut), storetest.Key(fmt.Sprintf("checkpoints/%010d", step))), 1,
					u.tear(fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/state", stage, step, 1)))
			}
			_, err := l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile(storetest.Bytes(1000, uint64(step)))})
			if good && err != nil || !good && !errors.Is(err, artifacts.ErrCorrupt) {
				t.Errorf("keep %d, step %d: %v", keep, step, err)
			}
		}
		c, skipped, err := u.store.LatestCheckpoint(ctx, stage)
		if err != nil || c.Step != 2 || len(skipped) != 2 {
			t.Errorf("keep %d: step %d, skipped %v, %v", keep, c.Step, skipped, err)
		}
	}
}

// tear lets an upload through and then halves what lies in the bucket.
func (u *unwell) tear(key string) storetest.Fault {
	return func(p *storetest.Proxy, w http.ResponseWriter, r *http.Request) {
		storetest.Pass(p, w, r)
		path := filepath.Join(u.gateway.Root, u.config.Bucket, filepath.FromSlash(key))
		if info, err := os.Stat(path); err == nil {
			os.Truncate(path, info.Size()/2)
		}
	}
}

// TestStaleLists: a service whose lists lag behind its writes loses neither an
// acknowledged checkpoint nor a takeover.
func TestStaleLists(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	first := u.store.acquire(t, artifacts.Claim{Owner: "a", Attempt: 1})
	save(t, first, 1, "one")
	u.On(storetest.Listing, -1, storetest.Stale)
	latest(t, u.store) // from here on lists stay as they are
	save(t, first, 2, "two")
	if step, state := latest(t, u.store); step != 2 || state != "two" {
		t.Errorf("latest is step %d, %q", step, state)
	}
	save(t, first, 3, "three")
	if step, _ := latest(t, u.store); step != 3 {
		t.Errorf("latest is step %d", step)
	}
	second := u.store.acquire(t, artifacts.Claim{Owner: "b", Steal: true})
	if second.Token() != 2 {
		t.Errorf("token %d", second.Token())
	}
	wantErr(t, first.Renew(ctx), artifacts.ErrLeaseLost)
	_, err := first.SaveCheckpoint(ctx, 9, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("zombie"))})
	wantErr(t, err, artifacts.ErrLeaseLost)
	save(t, second, 4, "four")
	if step, state := latest(t, u.store); step != 4 || state != "four" {
		t.Errorf("latest is step %d, %q", step, state)
	}
	// A collection that is shown an old list removes nothing that is young, and
	// a stage that comes to need an old blob sends it again.
	old := u.direct.blob(t, "old")
	u.Heal()
	u.On(storetest.Listing, -1, storetest.Stale)
	if _, err := u.store.Collect(ctx, artifacts.CollectOptions{OlderThan: time.Hour}); err != nil {
		t.Error(err)
	}
	if _, err := u.direct.ReadAll(ctx, old, 10); err != nil {
		t.Error(err)
	}
}

// TestUnlucky works on a store where one request in six goes wrong, in every
// way there is, as workers do: a failed attempt is tried again. What was
// acknowledged is there in the end, and nothing is damaged.
func TestUnlucky(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	for seed := range uint64(3) {
		u.Heal()
		u.On(storetest.Any, -1, storetest.Unlucky(seed, 6))
		var wg sync.WaitGroup
		var mu sync.Mutex
		refs := map[string]artifacts.ArtifactRef{}
		for n := range 3 {
			wg.Go(func() {
				name := fmt.Sprint("unlucky", seed, n)
				ref := u.stubborn(t, name)
				mu.Lock()
				refs[name] = ref
				mu.Unlock()
			})
		}
		wg.Wait()
		failures := len(u.Requests())
		u.Heal()
		for name, ref := range refs {
			if err := whole(t.Context(), u.direct.Store, ref); err != nil {
				t.Errorf("seed %d: %s: %v", seed, name, err)
			}
		}
		audit, err := u.direct.AuditAll(t.Context(), nil, nil)
		if err != nil || len(audit.Damaged) != 0 {
			t.Errorf("seed %d: %+v, %v", seed, audit, err)
		}
		t.Logf("seed %d: %d requests", seed, failures)
	}
}

// stubborn runs a stage of six steps, attempt after attempt, until its commit
// is acknowledged. Each attempt goes on where an acknowledged checkpoint was.
func (u *unwell) stubborn(t *testing.T, name string) artifacts.ArtifactRef {
	ctx := t.Context()
	acknowledged := int64(0)
	const attempts = 2000
	for attempt := 1; attempt <= attempts; attempt++ {
		if attempt > 1 { // as a workflow engine does
			time.Sleep(10 * time.Millisecond)
		}
		l, err := u.store.Acquire(ctx, fingerprint(name), artifacts.Claim{Owner: name, Attempt: attempt, Steal: true, Keep: 2})
		if err != nil {
			continue
		}
		c, skipped, err := u.store.LatestCheckpoint(ctx, fingerprint(name))
		if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		// A reading that was hurt on its way is skipped as if it lay there so: an
		// older checkpoint costs time, never the result.
		if c.Step < acknowledged && len(skipped) == 0 {
			t.Errorf("%s, attempt %d: the checkpoint of step %d was acknowledged, the latest is %d (%v)", name, attempt, acknowledged, c.Step, err)
		}
		step := c.Step
		for step < 6 {
			step++
			if _, err = l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile(fmt.Appendf(nil, "%s %d", name, step))}); err != nil {
				break
			}
			acknowledged = max(acknowledged, step)
		}
		if err != nil {
			continue
		}
		r, err := u.store.PutFunc(ctx, artifacts.BytesFile([]byte("result of "+name)))
		if err != nil {
			continue
		}
		ref, err := l.Commit(ctx, artifacts.Manifest{Kind: "k", Stage: name, Files: map[string]artifacts.Ref{"r": r}}, "note")
		if err == nil {
			return ref
		}
	}
	t.Errorf("%s: not done after %d attempts", name, attempts)
	return artifacts.ArtifactRef{}
}

// TestAudit: each kind of damage is found, named and told from the rest.
func TestAudit(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		commit(t, w, "good", "shared", "one")
		commit(t, w, "bad", "shared", "two")
		commit(t, w, "manifest", "three")
		l := w.lease(t, "unfinished")
		for step := int64(1); step <= 2; step++ {
			if _, err := l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("state"))}); err != nil {
				t.Fatal(err)
			}
		}
		orphan := w.blob(t, "orphan")
		if _, err := w.PutRunFile(ctx, "demo", "plan.json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.PutReply(ctx, "judge", fingerprint("q"), []byte(`1`)); err != nil {
			t.Fatal(err)
		}
		a, err := w.AuditAll(ctx, nil, nil)
		if err != nil || len(a.Damaged) != 0 || a.Stages != 3 || a.Checkpoints != 2 || a.Documents != 2 || a.Blobs != 5 {
			t.Errorf("audit of a whole store: %+v, %v; want 3 stages, 2 checkpoints, 2 documents and 5 blobs", a, err)
		}
		two := w.blob(t, "two")
		q := fingerprint("q")
		state := "stages/" + fingerprint("unfinished") + "/checkpoints/0000000002-0000000001/state"
		manifest := "stages/" + fingerprint("manifest") + "/manifest.json"
		provenance := "stages/" + fingerprint("good") + "/provenance.json"
		reply := "cache/judge/" + q[:2] + "/" + q + ".json"
		for _, k := range []string{two.Key, orphan.Key, state, manifest, provenance, "runs/demo/plan.json", reply} {
			w.flip(t, k, 1)
		}
		shared := w.blob(t, "shared")
		w.delete(t, shared.Key)
		a, err = w.AuditAll(ctx, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range a.Damaged {
			got = append(got, d.Key)
			if d.Reason == "" || d.Remedy == "" {
				t.Errorf("%+v, want a reason and a remedy", d)
			}
		}
		want := []string{two.Key, orphan.Key, state, manifest, provenance, "runs/demo/plan.json", reply, shared.Key, shared.Key}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("damaged %q, want %q", got, want)
		}
		some, err := w.Audit(ctx, []string{fingerprint("bad"), fingerprint("never")}, nil, nil)
		if err != nil || len(some.Damaged) != 2 || some.Stages != 1 || some.Unfinished != 1 {
			t.Errorf("audit of two stages: %+v, %v; want two damaged files in one and one unfinished", some, err)
		}
	})
}
