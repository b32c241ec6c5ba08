package artifacts_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func TestLease(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx, fp := t.Context(), fingerprint("stage")
		first := w.acquire(t, artifacts.Claim{Owner: "a", Attempt: 1, TTL: time.Minute})
		var held *artifacts.HeldError
		for _, c := range []artifacts.Claim{{Owner: "b", Attempt: 9}, {Owner: "a", Attempt: 1}, {Owner: "a", Attempt: 0}} {
			if _, err := w.Acquire(ctx, fp, c); !errors.As(err, &held) || held.Owner != "a" || held.Token != first.Token() || !errors.Is(err, artifacts.ErrLeaseHeld) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		w.now = w.now.Add(50 * time.Second)
		if err := first.Renew(ctx); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(50 * time.Second)
		if _, err := w.Acquire(ctx, fp, artifacts.Claim{Owner: "b"}); !errors.Is(err, artifacts.ErrLeaseHeld) {
			t.Errorf("a renewed lease was taken: %v", err)
		}
		w.now = w.now.Add(11 * time.Second)
		if err := first.Renew(ctx); err != nil { // expired, but nobody wanted it
			t.Error(err)
		}
		// Each of these takes over: expiry, a later attempt, a steal, a release.
		w.now = w.now.Add(61 * time.Second)
		lost := []*artifacts.Lease{first}
		for _, c := range []artifacts.Claim{{Owner: "b", Attempt: 1}, {Owner: "b", Attempt: 2}, {Owner: "c", Steal: true}} {
			lost = append(lost, w.acquire(t, c))
		}
		if err := lost[len(lost)-1].Release(ctx); err != nil {
			t.Fatal(err)
		}
		last := w.acquire(t, artifacts.Claim{Owner: "d"})
		for i, l := range lost {
			wantErr(t, l.Renew(ctx), artifacts.ErrLeaseLost)
			if err := l.Release(ctx); err != nil {
				t.Errorf("releasing lost lease %d: %v", i, err)
			}
			if l.Token() >= last.Token() || i > 0 && l.Token() <= lost[i-1].Token() {
				t.Errorf("token %d of lease %d does not increase", l.Token(), i)
			}
		}
		if err := last.Renew(ctx); err != nil {
			t.Error(err)
		}
		if keys := storetest.Keys(t, w.Backend, "stages/"); len(keys) != 2 {
			t.Errorf("leases pile up: %q", keys)
		}
	})
}

// A stage is stolen within a realm, and from a lease that names none; a stranger's
// is waited for, until its time is up or it is released.
func TestRealms(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	claim := func(realm string) artifacts.Claim {
		return artifacts.Claim{Owner: "stage", Realm: realm, Worker: "7@" + realm, Steal: true, Attempt: 1, TTL: time.Minute}
	}
	refused := func(realm, by string) {
		t.Helper()
		c := claim(realm)
		c.Attempt = 9
		var held *artifacts.HeldError
		if _, err := w.Acquire(t.Context(), fingerprint("stage"), c); !errors.As(err, &held) || held.Realm != by || !strings.Contains(err.Error(), "7@"+by) {
			t.Errorf("%s acquires with %v, want an error that names %s's worker", realm, err, by)
		}
	}
	w.acquire(t, artifacts.Claim{Owner: "stage", TTL: time.Minute})
	w.acquire(t, claim("a"))
	held := w.acquire(t, claim("a"))
	refused("b", "a")
	refused("", "a")
	if err := held.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.acquire(t, claim("b"))
	refused("a", "b")
	w.now = w.now.Add(61 * time.Second)
	w.acquire(t, claim("a"))
}

func TestConcurrentAcquire(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var winners []*artifacts.Lease
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				l, err := w.Acquire(t.Context(), fingerprint("stage"), artifacts.Claim{Owner: string(rune('a' + i))})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, l)
				case !errors.Is(err, artifacts.ErrLeaseHeld):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d acquired the stage", len(winners))
		}
		if err := winners[0].Renew(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestAcquireAnswerLost: the write succeeds, its answer is lost and the retry
// reports that the object exists.
func TestAcquireAnswerLost(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	w.absent = func(ctx context.Context, key string, data []byte) (bool, error) {
		if err := w.Backend.PutIfAbsent(ctx, key, data); err != nil {
			return true, err
		}
		return true, artifacts.ErrExists
	}
	l := w.acquire(t, artifacts.Claim{})
	if l.Token() != 1 {
		t.Errorf("token %d", l.Token())
	}
	if _, err := l.Commit(t.Context(), w.manifest(t, "weights"), nil); err != nil {
		t.Errorf("commit: %v", err)
	}
}

// TestSlowAcquirer: between listing the leases and writing its own, others take
// the stage twice and remove the token that was free when it looked.
func TestSlowAcquirer(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	other := newWorld(t, w.Backend)
	w.absent = func(ctx context.Context, key string, data []byte) (bool, error) {
		w.absent = nil
		for _, owner := range []string{"x", "y"} {
			other.acquire(t, artifacts.Claim{Owner: owner, Steal: true})
		}
		return false, nil
	}
	_, err := w.Acquire(t.Context(), fingerprint("stage"), artifacts.Claim{Owner: "slow"})
	var held *artifacts.HeldError
	if !errors.As(err, &held) || held.Owner != "y" || held.Token != 2 {
		t.Errorf("error %v", err)
	}
}

// TestUnreadableLease: a torn lease blocks nobody, and its token still counts.
func TestUnreadableLease(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	zombie := w.acquire(t, artifacts.Claim{Owner: "a"})
	storetest.Write(t, w.Backend, "stages/"+fingerprint("stage")+"/leases/0000000001.json", []byte("{"))
	if l := w.acquire(t, artifacts.Claim{Owner: "b"}); l.Token() != 2 {
		t.Errorf("token %d", l.Token())
	}
	wantErr(t, zombie.Renew(t.Context()), artifacts.ErrLeaseLost)
}

// TestZombie: an attempt that lost its stage can write nothing that counts.
func TestZombie(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx, fp := t.Context(), fingerprint("stage")
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		save(t, zombie, 100, "from the first attempt")
		holder := w.acquire(t, artifacts.Claim{Attempt: 2})
		before := storetest.Keys(t, w.Backend, "")

		_, err := zombie.SaveCheckpoint(ctx, 200, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("zombie"))})
		wantErr(t, err, artifacts.ErrLeaseLost)
		if err == nil || !strings.Contains(err.Error(), "superseded by token 2") {
			t.Errorf("the error does not say by whom: %v", err)
		}
		wantErr(t, zombie.DropCheckpoints(ctx), artifacts.ErrLeaseLost)
		if after := storetest.Keys(t, w.Backend, ""); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("the zombie changed %q to %q", before, after)
		}
		_, err = zombie.Commit(ctx, w.manifest(t, "zombie"), nil)
		wantErr(t, err, artifacts.ErrLeaseLost)
		_, err = w.Lookup(ctx, fp)
		wantErr(t, err, artifacts.ErrNotFound)

		save(t, holder, 150, "from the second attempt")
		ref, err := holder.Commit(ctx, w.manifest(t, "weights"), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = zombie.Commit(ctx, w.manifest(t, "zombie"), nil)
		wantErr(t, err, artifacts.ErrLeaseLost)
		if m, err := w.Lookup(ctx, fp); err != nil || m.Ref() != ref {
			t.Errorf("looked up %+v, %v", m.Ref(), err)
		}
	})
}

// TestZombiePastItsCheck: the stage is taken over after the zombie has checked
// its lease for the last time, just before it publishes.
func TestZombiePastItsCheck(t *testing.T) {
	t.Run("checkpoint", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		other := newWorld(t, w.Backend)
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		w.put = func(key string) {
			if strings.HasSuffix(key, "marker.json") {
				holder := other.acquire(t, artifacts.Claim{Attempt: 2})
				save(t, holder, 100, "holder")
			}
		}
		zombie.SaveCheckpoint(t.Context(), 200, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("zombie"))})
		if _, got := latest(t, other); got != "holder" {
			t.Errorf("the latest checkpoint is that of the %s", got)
		}
	})
	// Here the takeover comes earlier, while the zombie uploads: it finds out.
	t.Run("while writing files", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		other := newWorld(t, w.Backend)
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		w.put = func(key string) {
			if strings.HasSuffix(key, "/state") {
				other.acquire(t, artifacts.Claim{Attempt: 2})
			}
		}
		_, err := zombie.SaveCheckpoint(t.Context(), 100, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("zombie"))})
		wantErr(t, err, artifacts.ErrLeaseLost)
		if step, _ := latest(t, other); step != -1 {
			t.Errorf("the zombie's checkpoint at step %d counts", step)
		}
	})
	t.Run("while committing", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		other := newWorld(t, w.Backend)
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		m := w.manifest(t, "zombie")
		w.put = func(key string) {
			if strings.HasSuffix(key, "/provenance.json") {
				other.acquire(t, artifacts.Claim{Attempt: 2})
			}
		}
		_, err := zombie.Commit(t.Context(), m, "provenance")
		wantErr(t, err, artifacts.ErrLeaseLost)
		_, err = other.Lookup(t.Context(), fingerprint("stage"))
		wantErr(t, err, artifacts.ErrNotFound)
	})
	// Should a zombie's checkpoint appear whole nevertheless, the holder's own
	// stands above it.
	t.Run("whole checkpoint", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		save(t, w.acquire(t, artifacts.Claim{Attempt: 1}), 200, "zombie")
		late := map[string][]byte{}
		for _, key := range storetest.Keys(t, w.Backend, "stages/"+fingerprint("stage")+"/checkpoints/") {
			late[key] = storetest.Read(t, w.Backend, key)
		}
		save(t, w.acquire(t, artifacts.Claim{Attempt: 2}), 150, "holder")
		for key, data := range late {
			storetest.Write(t, w.Backend, key, data)
		}
		if step, got := latest(t, w); step != 150 || got != "holder" {
			t.Errorf("latest is step %d of the %s", step, got)
		}
	})
	// All of a stage was removed and it was begun anew: the token is the same.
	t.Run("same token", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		for _, key := range storetest.Keys(t, w.Backend, "stages/") {
			w.delete(t, key)
		}
		wantErr(t, zombie.Renew(t.Context()), artifacts.ErrLeaseLost)
		if l := w.acquire(t, artifacts.Claim{Attempt: 1}); l.Token() != zombie.Token() {
			t.Fatalf("token %d", l.Token())
		}
		wantErr(t, zombie.Renew(t.Context()), artifacts.ErrLeaseLost)
	})
	t.Run("commit", func(t *testing.T) {
		w := newWorld(t, openDirectory(t))
		other := newWorld(t, w.Backend)
		zombie := w.acquire(t, artifacts.Claim{Attempt: 1})
		var ref artifacts.ArtifactRef
		w.absent = func(context.Context, string, []byte) (bool, error) {
			w.absent = nil
			var err error
			holder := other.acquire(t, artifacts.Claim{Attempt: 2})
			if ref, err = holder.Commit(t.Context(), other.manifest(t, "holder"), nil); err != nil {
				t.Fatal(err)
			}
			return false, nil
		}
		got, err := zombie.Commit(t.Context(), w.manifest(t, "zombie"), nil)
		if err == nil && got != ref {
			t.Errorf("the zombie committed %+v", got)
		}
		if m, err := w.Lookup(t.Context(), fingerprint("stage")); err != nil || m.Ref() != ref {
			t.Errorf("looked up %+v, %v; want %+v", m.Ref(), err, ref)
		}
	})
}
